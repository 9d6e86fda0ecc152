"""One lane of the shifter, in every amount, at every corner."""

from __future__ import annotations

import numpy as np
from amaranth.sim import Simulator, SimulatorContext

from hw.rounding_shift import SHIFT_OFFSET, RoundingShift, rounding_shift_twin
from quant.number_format import round_half_even_shift


def corners(shift: int) -> set[int]:
    """Values at zero, at the ends of 32 bits, at ties and where the result saturates."""
    values = {0, 1, -1, 2**31 - 1, -2**31, 2**31 - 2, -2**31 + 1}
    if shift > 0:
        half = 1 << (shift - 1)
        for multiple in (1, 2, 3, 4, 5, 255, 256, 257, 511, 1021, 1022, 1023, 1024, 1025, 4095):
            values |= {sign * (half * multiple) + delta for sign in (1, -1) for delta in (-1, 0, 1)}
    for limit in (127, 128, 255, 256, 511, 512, 513):
        scaled = limit << shift if shift > 0 else limit >> -shift
        values |= {scaled, -scaled, scaled + 1, -scaled - 1}
    return {value for value in values if -2**31 <= value < 2**31}


def test_twin_is_the_number_format() -> None:
    """Clipped to any legal bounds, the twin is the project's round_half_even_shift."""
    for shift in range(-9, 41):
        for value in corners(shift):
            exact = int(round_half_even_shift(np.array([value]), shift)[0])
            got = rounding_shift_twin(value, shift)
            assert min(max(got, -256), 255) == min(max(exact, -256), 255)


def test_against_twin() -> None:
    rng = np.random.default_rng(0)
    cases = [(value, shift) for shift in range(-9, 41) for value in sorted(corners(shift))]
    for shift in rng.integers(-9, 41, 1500):
        magnitude = int(rng.integers(0, 32))
        cases.append((int(rng.integers(-2**31, 2**31)) >> magnitude, int(shift)))
    dut = RoundingShift()

    async def bench(ctx: SimulatorContext) -> None:
        for number in range(len(cases) + dut.LATENCY):
            value, shift = cases[min(number, len(cases) - 1)]
            ctx.set(dut.value, value)
            ctx.set(dut.amount, shift + SHIFT_OFFSET)
            if number >= dut.LATENCY:
                value, shift = cases[number - dut.LATENCY]
                assert ctx.get(dut.result) == rounding_shift_twin(value, shift), (value, shift)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
