"""Parts with reset registers of their own are all reset in the same cycle."""

from __future__ import annotations

from amaranth.hdl import ClockDomain, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from boards.own_reset import add_with_own_resets


class _Counters(wiring.Component):
    """Counts, and has ``depth`` submodules one in the other that do the same."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__({f"count{level}": Out(8) for level in range(depth + 1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.count0.eq(self.count0 + 1)
        if self.depth:
            m.submodules.inner = inner = _Counters(self.depth - 1)
            for level in range(self.depth):
                m.d.comb += getattr(self, f"count{level + 1}").eq(getattr(inner, f"count{level}"))
        return m


def test_all_levels_are_reset_at_once():
    m, part, reset = Module(), _Counters(3), Signal()
    m.domains += ClockDomain("sync")
    m.d.comb += ResetSignal("sync").eq(reset)
    add_with_own_resets(m, "part", part, None)
    seen: list[int] = []

    async def bench(ctx):
        for cycle in range(40):
            ctx.set(reset, cycle in (10, 24, 25))
            await ctx.tick("sync")
            counts = [ctx.get(getattr(part, f"count{level}")) for level in range(4)]
            assert len(set(counts)) == 1, (cycle, counts)
            seen.append(counts[0])

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen.count(0) == 3
    assert max(seen) < 16
