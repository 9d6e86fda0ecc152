"""The skid buffer: nothing lost, doubled or out of order; full throughput; what is registered."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.skid_buffer import SkidBuffer

_BITS = 100


@pytest.mark.parametrize(("offered", "taken"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (0.6, 0.6), (0.9, 0.2)])
def test_random_stalls(offered: float, taken: float) -> None:
    rng = random.Random(int(10 * offered + 100 * taken))
    dut = SkidBuffer(_BITS)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sent = [rng.getrandbits(_BITS) for _ in range(500)]
    received: list[int] = []
    cycles = 0

    async def feeder(ctx: Any) -> None:
        for word in sent:
            while rng.random() >= offered:
                await ctx.tick()
            ctx.set(dut.input.payload, word)
            ctx.set(dut.input.valid, 1)
            await ctx.tick().until(dut.input.ready)
            ctx.set(dut.input.valid, 0)
            ctx.set(dut.input.payload, rng.getrandbits(_BITS))

    async def checker(ctx: Any) -> None:
        nonlocal cycles
        ready, held = False, None
        async for _, _, valid, payload in ctx.tick().sample(dut.output.valid, dut.output.payload):
            cycles += 1
            assert held is None or (valid and payload == held), "a word that was not taken changed"
            held = payload if valid and not ready else None
            if valid and ready:
                received.append(payload)
                if len(received) == len(sent):
                    break
            ready = rng.random() < taken
            ctx.set(dut.output.ready, ready)
            # ready hangs on no input
            before = ctx.get(dut.input.ready)
            ctx.set(dut.output.ready, not ready)
            await ctx.delay(1e-8)
            assert ctx.get(dut.input.ready) == before
            ctx.set(dut.output.ready, ready)
        await ctx.tick()
        assert not ctx.get(dut.output.valid)

    sim.add_testbench(feeder)
    sim.add_testbench(checker)
    sim.run()
    assert received == sent
    if offered == taken == 1.0:
        assert cycles <= len(sent) + 3
