"""All five channels pass through in order, and a burst of writes and reads at full throughput."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.axi_register import AXI4Register

CHANNELS = {"aw": True, "w": True, "b": False, "ar": True, "r": False}


@pytest.mark.parametrize(("offered", "taken"), [(1.0, 1.0), (0.6, 0.5)])
def test_channels(offered: float, taken: float) -> None:
    rng = random.Random(int(100 * offered))
    dut = AXI4Register(32)
    count = 100
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    cycles: dict[str, int] = {}

    def members(channel: str) -> list[str]:
        return [name for name in dut.manager.signature.members
                if name.startswith(channel) and not name.endswith(("valid", "ready"))]

    def add(channel: str, forward: bool) -> None:
        source, sink = (dut.manager, dut.subordinate) if forward else (dut.subordinate, dut.manager)
        names = members(channel)
        sent = [{name: rng.getrandbits(len(getattr(source, name))) for name in names} for _ in range(count)]

        async def feed(ctx: Any) -> None:
            for item in sent:
                while rng.random() >= offered:
                    await ctx.tick()
                for name, value in item.items():
                    ctx.set(getattr(source, name), value)
                ctx.set(getattr(source, f"{channel}valid"), 1)
                await ctx.tick().until(getattr(source, f"{channel}ready"))
                ctx.set(getattr(source, f"{channel}valid"), 0)

        async def take(ctx: Any) -> None:
            got: list[dict[str, int]] = []
            ready, cycle = False, 0
            while len(got) < count:
                if ready and ctx.get(getattr(sink, f"{channel}valid")):
                    got.append({name: ctx.get(getattr(sink, name)) for name in names})
                await ctx.tick()
                cycle += 1
                ready = rng.random() < taken
                ctx.set(getattr(sink, f"{channel}ready"), ready)
            assert got == sent
            cycles[channel] = cycle

        sim.add_testbench(feed)
        sim.add_testbench(take)

    for channel, forward in CHANNELS.items():
        add(channel, forward)
    sim.run()
    assert set(cycles) == set(CHANNELS)
    if offered == taken == 1.0:
        assert max(cycles.values()) <= count + 4


def test_nothing_combinational() -> None:
    """What one side does is not seen at the other in the same cycle."""
    dut = AXI4Register(32)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx: Any) -> None:
        for channel, forward in CHANNELS.items():
            source, sink = (dut.manager, dut.subordinate) if forward else (dut.subordinate, dut.manager)
            for drive, see in ((getattr(source, f"{channel}valid"), getattr(sink, f"{channel}valid")),
                               (getattr(sink, f"{channel}ready"), getattr(source, f"{channel}ready"))):
                before = ctx.get(see)
                ctx.set(drive, 1)
                await ctx.delay(1e-8)
                assert ctx.get(see) == before
                ctx.set(drive, 0)

    sim.add_testbench(bench)
    sim.run_until(1e-5)
