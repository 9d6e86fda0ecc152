"""The accumulators: passes of random lengths, as close as their loop allows."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.accumulators import LOOP_LATENCY, OPERAND_DELAY, SUM_LATENCY, Accumulators
from hw.array import sum_bits
from hw.machine import Machine

MACHINES = {
    "plain": Machine(input_lanes=4, output_lanes=4, bus_width=32, accumulator_depth=16),
    "pairs": Machine(input_lanes=4, output_lanes=8, bus_width=32, accumulator_depth=16, weight_pairs=True),
}


@pytest.mark.parametrize("name", list(MACHINES))
@pytest.mark.parametrize("kind", ["sums", "maxima", "both in turn"])
def test_passes(kind: str, name: str) -> None:
    machine = MACHINES[name]
    rng = np.random.default_rng(len(kind))
    dut = Accumulators(machine)
    lanes = machine.output_lanes
    # (pixel, first, bias, products, maximum) of each cycle, or None
    schedule: list[tuple[int, bool, list[int], list[int], bool] | None] = []
    expected: dict[int, list[int]] = {}
    memory: dict[int, list[int]] = {}
    limit = 1 << (sum_bits(machine) - 1)
    for _ in range(12):
        length = int(rng.integers(1, 9))
        maximum = kind == "maxima" or (kind != "sums" and bool(rng.random() < 0.5))
        bias = [int(value) for value in rng.integers(-2**30, 2**30, lanes)]
        for number in range(int(rng.integers(1, 4))):
            for pixel in range(length):
                products = [int(value) for value in rng.choice([-limit, limit - 1, 0, 1, -300], lanes)]
                if number == 0:
                    new = products if maximum else [b + p for b, p in zip(bias, products)]
                elif maximum:
                    new = [max(a, p) for a, p in zip(memory[pixel], products)]
                else:
                    new = [a + p for a, p in zip(memory[pixel], products)]
                memory[pixel] = new
                expected[len(schedule)] = new
                schedule.append((pixel, number == 0, bias, products, maximum))
                if rng.random() < 0.1:
                    schedule.append(None)
            schedule += [None] * max(0, LOOP_LATENCY - length)

    async def bench(ctx: SimulatorContext) -> None:
        for cycle in range(len(schedule) + SUM_LATENCY):
            now = schedule[cycle] if cycle < len(schedule) else None
            ctx.set(dut.valid, int(now is not None))
            ctx.set(dut.pixel, now[0] if now else 3)
            coming, before = (cycle + ahead - OPERAND_DELAY for ahead in (2, 0))
            flags = schedule[coming] if 0 <= coming < len(schedule) else None
            ctx.set(dut.first, int(flags[1]) if flags else 1)
            ctx.set(dut.maximum, int(flags[4]) if flags else cycle % 2)
            operands = schedule[before] if 0 <= before < len(schedule) else None
            # part of a product comes as a carry, unless it is one to be compared
            may_carry = machine.weight_pairs and operands is not None and not operands[4]
            carries = 0
            for lane in range(lanes):
                product = operands[3][lane] if operands else -777
                carry = int(may_carry and product > -limit and rng.random() < 0.5)
                carries |= carry << lane
                ctx.set(dut.bias[lane], operands[2][lane] if operands else 12345)
                ctx.set(dut.products[lane], product - carry)
            if machine.weight_pairs:
                ctx.set(dut.carries, carries)
            if cycle - SUM_LATENCY in expected:
                got = [ctx.get(dut.sums[lane]) for lane in range(lanes)]
                assert got == expected[cycle - SUM_LATENCY], cycle
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
