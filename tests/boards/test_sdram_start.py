"""The start sequence on the bus, and against the strict memory model of the board's simulation."""

from __future__ import annotations

from amaranth.sim import Simulator

from boards.litedram import MemoryController
from boards.sdram_start import SDRAMStart, Step, start_sequence
from boards.sdram_timing import SDRAMTiming

CONTROLLER = MemoryController(
    verilog="",
    ports={},
    registers={
        "ddrctrl_init_done": 0,
        "sdram_dfii_control": 0x800,
        "sdram_dfii_pi0_command": 0x804,
        "sdram_dfii_pi0_command_issue": 0x808,
        "sdram_dfii_pi0_address": 0x80C,
        "sdram_dfii_pi0_baddress": 0x810,
    },
    timing=SDRAMTiming(cas_latency=3, capture_edge=2, degrees=250.0),
    memory_bytes=1 << 25,
    data_bits=16,
    row_bits=13,
    column_bits=9,
)


def test_sequence() -> None:
    steps = start_sequence(CONTROLLER, 50e6)
    assert steps[0] == Step(0x800, 2, 10_000)  # clock enable, then 200 us
    assert steps[-1] == Step(0, 1)  # tells the controller that it may begin
    assert steps[-2] == Step(0x800, 3)
    commands, address = [], 0
    for step in steps:
        if step.address == 0x80C:
            address = step.value
        if step.address == 0x804:
            commands.append((step.value, address))
        if step.address == 0x808:
            assert step.cycles >= 5
    precharge, refresh, mode = 0b1011, 0b1101, 0b1111  # row, column, write, select
    assert commands == [(precharge, 1 << 10), *[(refresh, 0)] * 8, (mode, 3 << 4)]


def test_writes_on_the_bus_are_in_order_and_once() -> None:
    steps = [Step(0x10, 7, 5), Step(0x20, 0xFFFFFFFF), Step(0x10, 9, 1)]
    unit = SDRAMStart(steps)
    seen: list[tuple[int, int, int]] = []

    async def bus(ctx):
        delay = 0
        for cycle in range(100):
            ctx.set(unit.bus_acknowledge, 0)
            if ctx.get(unit.bus_request):
                delay += 1
                if delay == 3:  # the bus takes its time
                    delay = 0
                    ctx.set(unit.bus_acknowledge, 1)
                    seen.append((cycle, 4 * ctx.get(unit.bus_address), ctx.get(unit.bus_data)))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bus)
    simulator.run()
    assert [(address, value) for _, address, value in seen] == [(step.address, step.value) for step in steps]
    assert seen[1][0] - seen[0][0] >= 5 + 3
