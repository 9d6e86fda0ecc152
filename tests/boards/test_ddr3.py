"""The generated DDR3 controller and the scripts that start and test its memory."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("litedram", reason="LiteDRAM is not installed")

from boards.ddr3 import DDR3Chip, DDR3Controller, burst_script, generate_ddr3, start_script
from boards.litedram import ControllerError
from hw.ddr3_description import CONTROL, SCRIPT

PORTS = {"core": 64, "host": 64}


@pytest.fixture(scope="module")
def controller() -> DDR3Controller:
    return generate_ddr3(
        DDR3Chip("MT41K64M16", "disabled", True, 100, 350), 48e6, 48e6, PORTS, "LFE5U-85F-8MG285C"
    )


def test_controller(controller: DDR3Controller) -> None:
    assert controller.memory_bytes == 128 << 20
    assert controller.address_bits == 27
    assert re.search(r"inout +wire +\[15:0\] ddram_dq\b", controller.verilog)
    assert re.search(r"inout +wire +\[1:0\] ddram_dqs_p\b", controller.verilog)
    for name, width in PORTS.items():
        assert re.search(rf"input +wire +\[{width - 1}:0\] user_port_{name}_wdata", controller.verilog)
    assert 'FREQUENCY_PIN_CLKOP = "96.0"' in controller.verilog
    registers = controller.registers
    assert len(set(registers.values())) == len(registers)
    assert CONTROL + max(registers.values()) + 8 <= SCRIPT
    # a register of 64 bits takes two addresses
    assert registers["sdram_dfii_pi0_rddata"] - registers["sdram_dfii_pi0_wrdata"] == 8
    assert controller.description.lanes == 2
    assert (controller.description.delays, controller.description.bitslips) == (8, 4)


def test_start(controller: DDR3Controller) -> None:
    """JEDEC 79-3: 200 us of reset, 500 us until clock enable, then mode registers 2, 3, 1, 0, calibration."""
    clock_hz = 48e6
    names = {address: name for name, address in controller.registers.items()}
    steps = [(names[step.address], step.value, step.cycles) for step in start_script(controller, clock_hz)]
    controls = [(value, cycles) for name, value, cycles in steps if name == "sdram_dfii_control"]
    assert [value for value, _ in controls] == [0, 0b1100, 0b1110]  # nothing; reset released; clock enabled
    assert controls[0][1] >= 200e-6 * clock_hz
    assert controls[1][1] >= 500e-6 * clock_hz
    banks = [value for name, value, _ in steps if name == "sdram_dfii_pi0_baddress"]
    assert banks == [2, 3, 1, 0, 0]
    addresses = [value for name, value, _ in steps if name == "sdram_dfii_pi0_address"]
    assert addresses[2] & 0b10_0100_0100 == 0  # mode register 1: no termination
    assert addresses[3] & 1 << 8  # mode register 0: reset of the delay-locked loop
    assert addresses[4] == 1 << 10  # long calibration
    commands = [value for name, value, _ in steps if name == "sdram_dfii_pi0_command"]
    assert commands == [0b1111] * 4 + [0b0011]
    pauses = [cycles for name, _, cycles in steps if name.endswith("command_issue")]
    assert min(pauses) * 2 >= 512  # cycles of the memory's clock: tDLLK and tZQinit


def test_burst(controller: DDR3Controller) -> None:
    names = {address: name for name, address in controller.registers.items()}
    steps = [(names[step.address], step.value, step.cycles) for step in burst_script(controller)]
    write, read = controller.write_phase, controller.read_phase
    commands = [(name, value) for name, value, _ in steps if name.endswith("_command")]
    assert commands == [
        ("sdram_dfii_pi0_command", 0b001001),  # activate
        (f"sdram_dfii_pi{write}_command", 0b010111),
        (f"sdram_dfii_pi{read}_command", 0b100101),
        ("sdram_dfii_pi0_command", 0b001011),  # precharge
    ]
    order = [(name, value) for name, value, _ in steps]
    assert order.index(commands[1]) < order.index(("ddrphy_burstdet_clr", 1)) < order.index(commands[2])
    total = sum(cycles + 4 for _, _, cycles in steps)
    assert total / 48e6 < 9 * 7.8e-6  # a row may be open no longer


def test_what_is_refused() -> None:
    chip = DDR3Chip("MT41K64M16")
    with pytest.raises(ControllerError, match="40 to 100 MHz with DDR3, not 30"):
        generate_ddr3(chip, 30e6, 48e6, PORTS, "LFE5U-85F-8MG285C")
    with pytest.raises(ControllerError, match="the PLL cannot make this clock"):
        generate_ddr3(chip, 50.001e6, 48e6, PORTS, "LFE5U-85F-8MG285C")
