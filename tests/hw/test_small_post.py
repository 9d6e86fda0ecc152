"""The small core's post-processing against `docs/machine.md`'s formulas: all shifts, bounds and signs."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.isa import Instruction, Opcode, assemble
from hw.machine import Machine
from hw.small_cycles import post_cycles, shift_steps
from hw.small_post import SmallPost
from quant.number_format import round_half_even_shift

MACHINE = Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=256, accumulator_depth=16,
                  weight_fifo_words=32, average_pooling=False, in_order=True)
BIG = (1 << 31) - 1


def rounded(value: int, shift: int) -> int:
    return int(round_half_even_shift(np.array([value], np.int64), np.int64(shift))[0])


def expected(fields: dict[str, int], value: int, shift: int, other: int) -> int:
    """One lane; ``other`` is the residual's byte."""
    value = min(max(rounded(value, shift), fields["low"]), fields["high"])
    if fields["residual"]:
        other = other - 256 if fields["residual_signed"] and other > 127 else other
        total = (value << fields["own_shift"]) + (other << fields["residual_shift"])
        value = min(max(rounded(total, fields["sum_shift"]), fields["sum_low"]), fields["sum_high"])
    return value & 255


def bounds(rng: random.Random) -> tuple[int, int]:
    low, high = sorted(rng.choice((-128, 0, 127, 255, rng.randint(-128, 255))) for _ in range(2))
    return low, high


def sum_near(rng: random.Random, shift: int) -> int:
    """A sum that is likely to be rounded, tied or clipped."""
    kind = rng.randrange(4)
    if kind == 0 or shift <= 0:
        return rng.choice((rng.randint(-600, 600), rng.randint(-BIG - 1, BIG), -BIG - 1, BIG, 0))
    near = rng.randint(-300, 300) * (1 << shift) + (1 << (shift - 1)) * (kind == 1)
    return min(max(near + rng.choice((-1, 0, 0, 1)), -BIG - 1), BIG)


def test_words() -> None:
    rng = random.Random(1)
    dut = SmallPost(MACHINE)
    done = [0]

    async def bench(ctx: Any) -> None:
        for number in range(400):
            (low, high), (sum_low, sum_high) = bounds(rng), bounds(rng)
            fields = {
                "low": low, "high": high, "residual": number % 2, "residual_signed": rng.randrange(2),
                "residual_offset": rng.randrange(1 << 16), "own_shift": rng.randrange(16),
                "residual_shift": rng.choice((0, rng.randrange(16))), "sum_shift": rng.randint(-9, 31),
                "sum_low": sum_low, "sum_high": sum_high,
            }
            code = np.frombuffer(assemble(Instruction(Opcode.COMPUTE, fields)), "<u2")
            for part in range(6):
                ctx.set(dut.value, int(code[20 + part]))
                ctx.set(dut.set_word, 1 << part)
                await ctx.tick()
            ctx.set(dut.set_word, 0)
            shifts = [rng.randint(-9, 40) for _ in range(4)]
            ctx.set(dut.push_shift, 1)
            for shift in shifts:
                ctx.set(dut.value, shift & 0xFFFF)
                await ctx.tick()
            ctx.set(dut.push_shift, 0)
            assert ctx.get(dut.offset) == fields["residual_offset"] % 256
            pixels = rng.randint(1, 3)
            sums = [[sum_near(rng, shift) for shift in shifts] for _ in range(pixels)]
            others = [[rng.randrange(256) for _ in range(4)] for _ in range(pixels)]
            wanted = [sum(expected(fields, sums[p][lane], shifts[lane], others[p][lane]) << 8 * lane
                          for lane in range(4)) for p in range(pixels)]
            found: list[int] = []
            place = cycles = 0
            assert ctx.get(dut.idle)
            ctx.set(dut.go, 1)
            await ctx.tick()
            ctx.set(dut.go, 0)
            while not ctx.get(dut.idle):
                ctx.set(dut.last, len(found) == pixels - 1)
                pair, step, reading = ctx.get(dut.pair), ctx.get(dut.next_sums), ctx.get(dut.reading)
                if ctx.get(dut.write):
                    found.append(ctx.get(dut.result))
                words = sums[min(place, pixels - 1)][2 * pair : 2 * pair + 2]
                await ctx.tick()
                cycles += 1
                ctx.set(dut.sums, words[0] & 0xFFFFFFFF | (words[1] & 0xFFFFFFFF) << 32)
                if reading:
                    ctx.set(dut.word, int.from_bytes(bytes(others[len(found)]), "little"))
                place += step
            assert found == wanted, (fields, shifts, sums, others)
            if not fields["residual"] and min(shifts) >= 0:
                lanes = sum(2 + shift_steps(shift) for shift in shifts)
                assert cycles == pixels * (lanes + 1) + 1
                assert post_cycles(pixels, shifts[0]) == pixels * (4 * (2 + shift_steps(shifts[0])) + 1) + 2
            done[0] += pixels

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert done[0] >= 600


@pytest.mark.parametrize(("shift", "steps"), [(0, 0), (8, 1), (11, 3), (15, 4), (40, 5), (-3, 3)])
def test_steps(shift: int, steps: int) -> None:
    assert shift_steps(shift) == steps
