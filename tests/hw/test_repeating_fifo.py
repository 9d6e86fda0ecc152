"""The queue that gives entries again: order, room, gaps, dropping."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.repeating_fifo import RepeatingFIFO
from hw.stream_register import PingPongBuffer


class Queue(wiring.Component):
    """The queue with a buffer of two entries behind it; ``pause`` takes the room in it away.

    ``r_*`` and ``frees`` are those of the buffer.
    """

    def __init__(self, *, width: int, depth: int) -> None:
        self.queue = RepeatingFIFO(width=width, depth=depth)
        self.pause = Signal()
        members = self.queue.signature.members
        kept = ("w_data", "w_en", "r_data", "r_rdy", "r_en", "frees", "repeats", "drop")
        super().__init__({name: members[name] for name in kept})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = self.queue
        m.submodules.buffer = buffer = PingPongBuffer(self.queue.width + 1)
        wiring.connect(m, wiring.flipped(self.repeats), queue.repeats)
        waiting, next_waiting, leaves = Signal(range(4)), Signal(range(4)), Signal()
        m.d.comb += [
            queue.w_data.eq(self.w_data),
            queue.w_en.eq(self.w_en),
            queue.drop.eq(self.drop),
            buffer.input.valid.eq(queue.r_rdy),
            buffer.input.payload.eq(Cat(queue.frees, queue.r_data)),
            queue.r_en.eq(buffer.input.ready),
            self.r_rdy.eq(buffer.output.valid),
            Cat(self.frees, self.r_data).eq(buffer.output.payload),
            buffer.output.ready.eq(self.r_en),
            leaves.eq(self.r_rdy & self.r_en),
            next_waiting.eq(waiting + queue.reads - leaves),
            queue.next_room.eq((next_waiting != 3) & ~self.pause),
        ]
        m.d.sync += waiting.eq(next_waiting)
        return m


def run(
    depth: int, sets: list[tuple[int, int]], seed: int, *, write: float, take: float, pause: float = 0.0
) -> int:
    """Sets of entries and how often each is given again; the cycles from the first entry to the last."""
    rng = random.Random(seed)
    dut: Any = Queue(width=16, depth=depth)
    entries = [[rng.getrandbits(16) for _ in range(count)] for count, _ in sets]
    expected = [
        entry for one, (_, repeats) in zip(entries, sets, strict=True) for entry in one * (repeats + 1)
    ]
    room, cycles = depth, list[int]()
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def writer(ctx: Any) -> None:
        nonlocal room
        place = 0
        for one, (count, repeats) in zip(entries, sets, strict=True):
            if repeats:
                ctx.set(dut.repeats.payload, {"first": place, "entries": count, "repeats": repeats})
                ctx.set(dut.repeats.valid, 1)
                await ctx.tick().until(dut.repeats.ready)
                ctx.set(dut.repeats.valid, 0)
            place = (place + count) % (2 * depth)
            for entry in one:
                while room == 0 or rng.random() >= write:
                    await ctx.tick()
                room -= 1
                ctx.set(dut.w_data, entry)
                ctx.set(dut.w_en, 1)
                await ctx.tick()
                ctx.set(dut.w_en, 0)

    async def reader(ctx: Any) -> None:
        nonlocal room
        number, cycle, ready = 0, 0, False
        async for _, _, valid, entry, frees in ctx.tick().sample(dut.r_rdy, dut.r_data, dut.frees):
            cycle += 1
            if valid and ready:
                assert entry == expected[number], f"entry {number}"
                cycles.append(cycle)
                room += frees
                number += 1
                if number == len(expected):
                    break
            ready = rng.random() < take
            ctx.set(dut.r_en, ready)
            ctx.set(dut.pause, rng.random() < pause)
        ctx.set(dut.pause, 0)
        assert room == depth
        ctx.set(dut.r_en, 1)
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.r_rdy)

    for bench in (writer, reader):
        sim.add_testbench(bench)
    sim.run()
    return cycles[-1] - cycles[0] + 1


@pytest.mark.parametrize("depth", [2, 16, 64])
@pytest.mark.parametrize(
    ("write", "take", "pause"), [(1.0, 1.0, 0.0), (0.5, 1.0, 0.0), (1.0, 0.5, 0.0), (1.0, 0.7, 0.5)]
)
def test_random_sets(depth: int, write: float, take: float, pause: float) -> None:
    rng = random.Random(depth)
    sets = []
    for _ in range(60):
        repeats = rng.choice([0, 0, 1, 2, 5])
        count = rng.choice([1, 2, depth, rng.randint(1, depth)]) if repeats else rng.randint(1, 2 * depth)
        sets.append((count, repeats))
    run(depth, sets, depth, write=write, take=take, pause=pause)


def test_one_entry_a_cycle_while_it_repeats() -> None:
    assert run(64, [(10, 100)], 1, write=1.0, take=1.0) == 1010


@pytest.mark.parametrize("late", [False, True])
def test_drop(late: bool) -> None:
    """The room of all is free again, also of those that were given before it was known."""
    dut: Any = Queue(width=8, depth=16)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.repeats.payload, {"first": 0, "entries": 8, "repeats": 1000})
        ctx.set(dut.repeats.valid, 1)
        await ctx.tick().until(dut.repeats.ready)
        ctx.set(dut.repeats.valid, 0)
        for entry in range(8):
            ctx.set(dut.w_data, entry)
            ctx.set(dut.w_en, 1)
            await ctx.tick()
        ctx.set(dut.w_en, 0)
        freed = 0
        ctx.set(dut.r_en, late)
        await ctx.tick().repeat(30)
        ctx.set(dut.r_en, 1)
        ctx.set(dut.drop, 1)
        for _ in range(40):
            freed += ctx.get(dut.r_rdy) and ctx.get(dut.frees)
            await ctx.tick()
        assert not ctx.get(dut.r_rdy)
        assert freed == 8

    sim.add_testbench(bench)
    sim.run()
