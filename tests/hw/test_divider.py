"""The divider of average pooling at its corners, back to back."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.divider import Divider, divider_twin
from hw.pixel_loops import AVERAGE_CADENCE


def dividends(divisor: int, shift: int, rng: np.random.Generator, count: int) -> list[int]:
    """Zero, the largest, exact multiples, ties and where it saturates; the rest random."""
    limit = (2**31 - 1) >> max(shift, 0)
    values = {0, 1, -1, limit, -limit}
    for quotient in (0.5, 1, 1.5, 2.5, 127.5, 128.5, 255.5, 256, 510.5, 511, 511.5, 512, 1023.5, 1024):
        exact = Fraction(quotient) * divisor / Fraction(2) ** shift
        values |= {sign * (int(exact) + delta) for sign in (1, -1) for delta in (-1, 0, 1)}
    values |= {int(value) >> int(rng.integers(0, 31)) for value in rng.integers(-limit, limit + 1, count)}
    return sorted(value for value in values if abs(value) <= limit)


@pytest.mark.parametrize(("divisor", "shift"), [
    (1, 0), (1, 8), (1, -8), (2, 3), (3, 0), (9, 0), (49, 5), (64, -3), (16383, 8), (16383, -8), (8192, 1),
])
def test_against_twin(divisor: int, shift: int) -> None:
    rng = np.random.default_rng(divisor + shift + 8)
    lanes = 4
    values = dividends(divisor, shift, rng, 40)
    values += [0] * (-len(values) % lanes)
    rng.shuffle(values)
    dut = Divider(lanes)

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(dut.divisor, divisor)
        ctx.set(dut.shift, shift)
        await ctx.tick().repeat(3)
        for start in range(0, len(values), lanes):
            group = values[start:start + lanes]
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for lane, value in enumerate(group):
                ctx.set(dut.dividends[lane], value)
            await ctx.tick()
            for lane in range(lanes):
                ctx.set(dut.dividends[lane], -1)
            for cycle in range(1, AVERAGE_CADENCE - 1):
                assert ctx.get(dut.done) == (cycle == dut.LATENCY)
                if cycle == dut.LATENCY:
                    got = [ctx.get(dut.results[lane]) for lane in range(lanes)]
                    assert got == [divider_twin(value, divisor, shift) for value in group], group
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_twin() -> None:
    """The twin is Python's own exact rounding of fractions, clipped."""
    rng = np.random.default_rng(5)
    for _ in range(2000):
        shift = int(rng.integers(-8, 9))
        divisor = int(rng.integers(1, 2 ** int(rng.integers(1, 14)) + 1))
        value = int(rng.integers(-2**31 + 1, 2**31)) >> (max(shift, 0) + int(rng.integers(0, 31)))
        exact = round(Fraction(value) * Fraction(2) ** shift / divisor)
        got = divider_twin(value, divisor, shift)
        assert min(max(got, -256), 255) == min(max(exact, -256), 255)
