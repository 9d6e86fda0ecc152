"""Post-processing of a stream of words against its twin."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.machine import Machine
from hw.requantize import FLAGS_EARLY, Requantize, requantize_twin
from hw.scratchpad import PORT_B_LATENCY

MACHINE = Machine(input_lanes=4, output_lanes=4, bus_width=32)
CASES: list[dict[str, int]] = [
    {"low": -128, "high": 127},
    {"low": 0, "high": 255},
    {"low": 7, "high": 7},
    {"low": -128, "high": 255, "average": 1, "divisor": 9, "divisor_shift": 0},
    {"low": -128, "high": 127, "average": 1, "divisor": 49, "divisor_shift": -3},
    {"low": 0, "high": 255, "average": 1, "divisor": 3, "divisor_shift": 5},
]
for own, other, after in [(0, 0, 0), (3, 1, 4), (1, 4, 5), (15, 0, 16), (0, 15, 31), (15, 15, 15), (2, 2, -9),
                          (14, 15, -9), (0, 0, -3), (0, 7, 7)]:
    CASES.append({"low": -128, "high": 255, "residual": 1, "residual_signed": own % 2, "own_shift": own,
                  "residual_shift": other, "sum_shift": after, "sum_low": -128 if own % 2 else 0,
                  "sum_high": 127 if own % 2 else 255})


@pytest.mark.parametrize("fields", CASES, ids=lambda fields: " ".join(map(str, fields.values())))
def test_against_twin(fields: dict[str, int]) -> None:
    rng = np.random.default_rng(len(str(fields)))
    lanes = MACHINE.output_lanes
    average, residual = fields.get("average", 0), fields.get("residual", 0)
    cadence = 16 if average else 2 if residual else 1
    count = 12 if average else 60
    top = 31 - max(fields.get("divisor_shift", 0), 0) if average else 31
    words = [[int(value) >> int(rng.integers(0, 31)) for value in rng.integers(-2**top + 1, 2**top, lanes)]
             for _ in range(count)]
    # small results, too: the interesting ones where there is a residual
    shifts = [[int(value) for value in rng.integers(-9, 41, lanes)]]
    for number in range(1, count):
        shifts.append([int(value) for value in rng.integers(0, 12, lanes)] if number % 7 == 0 else shifts[-1])
    others = [int.from_bytes(rng.integers(0, 256, lanes, dtype=np.uint8).tobytes(), "little")
              for _ in range(count)]
    marks = [(int(rng.integers(2)), int(rng.integers(2)), int(number == count - 1))
             for number in range(count)]
    dut = Requantize(MACHINE)
    got: list[int] = []

    def byte_value(byte: int) -> int:
        return byte - 256 if fields.get("residual_signed", 0) and byte > 127 else byte

    expected = [
        sum(requantize_twin(words[number][lane], shifts[number][lane], fields,
                            byte_value(others[number] >> 8 * lane & 255)) << 8 * lane
            for lane in range(lanes))
        for number in range(count)]

    async def source(ctx: SimulatorContext) -> None:
        for name, value in fields.items():
            ctx.set(dut.instruction[name], value)
        await ctx.tick().repeat(8)
        def new_shift_at(cycle: int) -> bool:
            """A word's shift comes one cycle before it, and not again while it stays."""
            number, turn = divmod(cycle, cadence)
            return turn == 0 and 0 <= number < count and (number == 0 or shifts[number] != shifts[number - 1])

        for cycle in range(-FLAGS_EARLY, count * cadence + 1):
            number, turn = divmod(cycle, cadence)
            new_shift = new_shift_at(cycle)
            ctx.set(dut.load_shift, int(new_shift_at(cycle + 2)))
            before, turn = divmod(cycle - 1, cadence)
            valid = turn == 0 and before >= 0
            for lane in range(lanes):
                ctx.set(dut.shift[lane], shifts[number][lane] if new_shift else -1)
                ctx.set(dut.sums[lane], words[before][lane] if valid else 0x55555)
            coming, turn = divmod(cycle + FLAGS_EARLY - 1, cadence)
            comes = turn == 0 and 0 <= coming < count
            ctx.set(dut.flags.valid, int(comes))
            for name, mark in zip(("row_end", "block_end", "end"), marks[coming] if comes else (1, 1, 1)):
                ctx.set(dut.flags[name], mark)
            await ctx.tick()
        ctx.set(dut.flags.valid, 0)

    async def memory(ctx: SimulatorContext) -> None:
        """The residual words, `PORT_B_LATENCY` cycles after they are read; rubbish otherwise."""
        pipeline = [0xA5A5A5A5] * (PORT_B_LATENCY + 1)
        asked = 0
        while True:
            ctx.set(dut.residual_data, pipeline.pop(0))
            wanted = ctx.get(dut.residual.valid)
            assert not (wanted and not residual)
            if wanted:
                assert not ctx.get(dut.write.valid), "read and write meet"
            pipeline.append(others[asked] if wanted else 0xA5A5A5A5)
            asked += wanted
            await ctx.tick()

    async def sink(ctx: SimulatorContext) -> None:
        while len(got) < count:
            written = ctx.get(dut.write.valid)
            if written:
                flags = (ctx.get(dut.write.row_end), ctx.get(dut.write.block_end), ctx.get(dut.write.end))
                assert flags == marks[len(got)]
            await ctx.tick()
            if written:
                got.append(ctx.get(dut.write_data))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.add_testbench(memory, background=True)
    simulator.add_testbench(sink)
    simulator.run()
    assert got == expected
