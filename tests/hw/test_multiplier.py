"""The portable multiplier against its latency, and the constructor's check."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.multiplier import LATENCY, Multiplier, require_multiplier_kind


def test_products() -> None:
    """Random and extreme operands, the weight held for random times."""
    rng = np.random.default_rng(0)
    dut = Multiplier()
    corners = [(a, w) for a in (-256, -1, 0, 1, 255) for w in (-128, -1, 0, 1, 127)]
    operands = corners + [(int(rng.integers(-256, 256)), int(rng.integers(-128, 128))) for _ in range(300)]

    async def bench(ctx: SimulatorContext) -> None:
        held = 0
        expected: list[int] = []
        for number, (activation, weight) in enumerate(operands):
            load = number < len(corners) or rng.random() < 0.4
            held = weight if load else held
            expected.append(activation * held)
            ctx.set(dut.activation, activation)
            ctx.set(dut.weight, weight)
            ctx.set(dut.load_weight, int(load))
            await ctx.tick()
            if number >= LATENCY - 1:
                assert ctx.get(dut.product) == expected[number - LATENCY + 1]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="multiplier must be 'portable' or 'ecp5', not 'magic'"):
        require_multiplier_kind("magic")
