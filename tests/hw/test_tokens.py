"""The token counters against a dictionary."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from amaranth.sim import Simulator

from hw.isa import MAXIMUM_TOKENS, Unit
from hw.tokens import Tokens


def test_random_tokens() -> None:
    rng = random.Random(1)
    dut = Tokens()
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    counts = {(giver, taker): 0 for giver in Unit for taker in Unit}
    seen = {"error": 0, "clear": 0, "taken": 0, "refused": 0}

    async def bench(ctx: Any) -> None:
        errors = deque([False] * 3)  # of this cycle and those before
        # phases in which tokens pile up, run out, and are balanced
        for cycle in range(6000):
            give, take = [(0.9, 0.1), (0.2, 0.9), (0.5, 0.5)][cycle // 700 % 3]
            clear = rng.random() < 0.0005
            ctx.set(dut.clear, clear)
            waits, signals = {}, {}
            for unit in Unit:
                port = dut.units[unit]
                waits[unit] = rng.randrange(8) if rng.random() < take else None
                signals[unit] = rng.randrange(8) if rng.random() < give else None
                ctx.set(port.wait_valid, waits[unit] is not None)
                ctx.set(port.wait, waits[unit] if waits[unit] is not None else rng.randrange(8))
                ctx.set(port.signal_valid, signals[unit] is not None)
                ctx.set(port.signal, signals[unit] if signals[unit] is not None else rng.randrange(8))
            await ctx.delay(1e-8)
            assert ctx.get(dut.error) == errors.popleft()
            error = False
            taken = set()
            for taker, mask in waits.items():
                if mask is None:
                    continue
                named = [giver for giver in Unit if mask >> giver & 1]
                there = all(counts[giver, taker] for giver in named)
                assert ctx.get(dut.units[taker].wait_ready) == there
                seen["taken" if there else "refused"] += 1
                taken |= {(giver, taker) for giver in named if there}
            for pair, count in counts.items():
                giver, taker = pair
                mask = signals[giver]
                given = mask is not None and mask >> taker & 1
                if given and pair not in taken and count == MAXIMUM_TOKENS:
                    error = True
                    continue
                counts[pair] = 0 if clear else count + bool(given) - (pair in taken)
            if clear:
                counts.update(dict.fromkeys(counts, 0))
            errors.append(error)
            seen["error"] += error
            seen["clear"] += clear
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    assert all(seen.values()), seen


def test_a_token_is_seen_in_the_next_cycle() -> None:
    dut = Tokens()
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx: Any) -> None:
        load, compute = dut.units[Unit.LOAD], dut.units[Unit.COMPUTE]
        ctx.set(compute.wait, 1 << Unit.LOAD)
        ctx.set(compute.wait_valid, 1)
        ctx.set(load.signal, 1 << Unit.COMPUTE)
        ctx.set(load.signal_valid, 1)
        await ctx.delay(1e-8)
        assert not ctx.get(compute.wait_ready)
        await ctx.tick()
        ctx.set(load.signal_valid, 0)
        await ctx.delay(1e-8)
        assert ctx.get(compute.wait_ready)
        await ctx.tick()
        await ctx.delay(1e-8)
        assert not ctx.get(compute.wait_ready)

    sim.add_testbench(bench)
    sim.run()
