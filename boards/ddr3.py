"""The DDR3 controller: LiteDRAM with its ECP5 PHY, generated for a chip, a clock and a set of ports.

Besides the controller it has the PLL and the edge clocks, so that it makes the system's clock, too.
Nobody in the FPGA calibrates it: `boards.ddr3_control` plays sequences that need exact timing, and the
host decides (`sw_driver.ddr3`, docs/ddr3.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from boards.generator_process import ControllerError, run_generator
from boards.sdram_start import Step
from hw.ddr3_description import DDR3Description, Phase

__all__ = ["DDR3Chip", "DDR3Controller", "burst_script", "generate_ddr3", "start_script"]

# Bits of LiteDRAM's registers (litedram/dfii.py).
_SELECT, _WRITE, _COLUMN, _ROW, _WRITE_DATA, _READ_DATA = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
#: JEDEC 79-3: reset held for 200 us, then no clock enable for 500 us.
_RESET_SECONDS, _SILENT_SECONDS = 200e-6, 500e-6
#: System clock cycles between two steps of a test: more than tRCD, CL and the PHY's latency.
_TEST_PAUSE = 24


@dataclass(frozen=True)
class DDR3Chip:
    """A board's DDR3 memory.

    Attributes
    ----------
    module : str
        Name in `litedram.modules`.
    termination : str
        The memory's own termination of the data lines, as `litedram.init` names it.
    swap_masks : bool
        The two byte lanes' data masks are swapped on the board.
    command_delay : int
        Steps of 25 ps by which clock and commands are late.
    refresh_ns : float or None
        How long a refresh takes, where boards carry chips of several sizes.
    """

    module: str
    termination: str = "60ohm"
    swap_masks: bool = False
    command_delay: int = 0
    refresh_ns: float | None = None


@dataclass(frozen=True)
class DDR3Controller:
    """A generated controller; attributes as `boards.litedram.MemoryController` has them, and

    Attributes
    ----------
    start : list of dict
        LiteDRAM's start sequence: address, bank, value, whether it is a control value, cycles to wait.
    description : DDR3Description
        What the host must know to calibrate it.
    read_phase, write_phase : int
        Phases of the memory's clock in which column commands go.
    """

    verilog: str
    ports: dict[str, int]
    registers: dict[str, int]
    start: list[dict[str, Any]]
    memory_bytes: int
    row_bits: int
    read_phase: int
    write_phase: int
    description: DDR3Description

    @property
    def address_bits(self) -> int:
        """Bits of a byte address on the AXI4 ports."""
        return (self.memory_bytes - 1).bit_length()


def generate_ddr3(
    chip: DDR3Chip,
    clock_hz: float,
    input_hz: float,
    ports: Mapping[str, int],
    device: str,
    *,
    init_hz: float = 24e6,
) -> DDR3Controller:
    """Generate a controller with its clocks and pins.

    Parameters
    ----------
    clock_hz : float
        System clock; the memory's is twice as fast.
    input_hz : float
        Clock that the PLL is given.
    ports : dict
        Name and data width in bits of each AXI4 port.
    init_hz : float
        Clock of the PHY's start-up logic; the PLL must make it together with the memory's clock.

    Raises
    ------
    ControllerError
        If the clock is out of its range, or LiteDRAM is missing or fails.
    """
    if not 40e6 <= clock_hz <= 100e6:
        raise ControllerError(f"the clock must be 40 to 100 MHz with DDR3, not {clock_hz / 1e6:g}")
    settings = {
        "module": chip.module,
        "termination": chip.termination,
        "swap_masks": chip.swap_masks,
        "command_delay": chip.command_delay,
        "refresh_ns": chip.refresh_ns,
        "clock_hz": clock_hz,
        "input_hz": input_hz,
        "init_hz": init_hz,
        "device": device,
        "ports": dict(ports),
    }
    verilog, described = run_generator("boards.ddr3_generator", settings)
    registers = described["registers"]
    phases = tuple(
        Phase(registers[f"sdram_dfii_pi{number}_wrdata"], registers[f"sdram_dfii_pi{number}_rddata"])
        for number in range(described["phases"])
    )
    description = DDR3Description(
        lanes=2,
        delays=described["delays"],
        bitslips=described["bitslips"],
        control=registers["sdram_dfii_control"],
        ready=registers["ddrctrl_init_done"],
        failed=registers["ddrctrl_init_error"],
        lane_select=registers["ddrphy_dly_sel"],
        delay_reset=registers["ddrphy_rdly_dq_rst"],
        delay_step=registers["ddrphy_rdly_dq_inc"],
        bitslip_reset=registers["ddrphy_rdly_dq_bitslip_rst"],
        bitslip_step=registers["ddrphy_rdly_dq_bitslip"],
        bursts_seen=registers["ddrphy_burstdet_seen"],
        phases=phases,
    )
    return DDR3Controller(
        verilog=verilog,
        ports=dict(ports),
        registers=registers,
        start=described["start"],
        memory_bytes=described["memory_bytes"],
        row_bits=described["row_bits"],
        read_phase=described["read_phase"],
        write_phase=described["write_phase"],
        description=description,
    )


def _command(
    controller: DDR3Controller, phase: int, bits: int, address: int, bank: int, cycles: int
) -> list[Step]:
    """One command to the memory, then a pause."""
    register = controller.registers
    return [
        Step(register[f"sdram_dfii_pi{phase}_address"], address),
        Step(register[f"sdram_dfii_pi{phase}_baddress"], bank),
        Step(register[f"sdram_dfii_pi{phase}_command"], bits),
        Step(register[f"sdram_dfii_pi{phase}_command_issue"], 1, cycles),
    ]


def start_script(controller: DDR3Controller, clock_hz: float) -> list[Step]:
    """From power-up to a memory that takes commands: reset, clock, mode registers, driver calibration."""
    control = controller.registers["sdram_dfii_control"]
    steps = [
        Step(controller.registers["ddrctrl_init_done"], 0),
        Step(controller.registers["ddrctrl_init_error"], 0),
        Step(control, 0, round(_RESET_SECONDS * clock_hz)),
    ]
    for step in controller.start:
        # LiteDRAM counts a processor's cycles; these are the clock's, and enough for any of its commands
        cycles = max(step["cycles"], 16)
        if step["control"]:
            cycles = max(cycles, round(_SILENT_SECONDS * clock_hz))
            steps += [Step(control, step["value"], cycles)]
        else:
            cycles = max(cycles, 512)  # tDLLK and tZQinit, in cycles of the memory's faster clock: 256
            steps += _command(controller, 0, step["value"], step["address"], step["bank"], cycles)
    return steps


def burst_script(controller: DDR3Controller) -> list[Step]:
    """Write the burst that the host has left in the write registers, and read it back."""
    register = controller.registers
    read, write = controller.read_phase, controller.write_phase
    return [
        *_command(controller, 0, _ROW | _SELECT, 0, 0, _TEST_PAUSE),
        *_command(controller, write, _COLUMN | _WRITE | _SELECT | _WRITE_DATA, 0, 0, _TEST_PAUSE),
        Step(register["ddrphy_burstdet_clr"], 1),
        *_command(controller, read, _COLUMN | _SELECT | _READ_DATA, 0, 0, _TEST_PAUSE),
        *_command(controller, 0, _ROW | _WRITE | _SELECT, 0, 0, _TEST_PAUSE),
    ]
