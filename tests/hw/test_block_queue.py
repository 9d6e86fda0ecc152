"""The queue in block RAM, also one that gives entries again: order, room, gaps, dropping."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

import hw.repeating_fifo
from hw.block_queue import BlockQueue


def run(
    depth: int, sets: list[tuple[int, int]], seed: int, *, write: float, take: float, burst: int = 1
) -> int:
    """Sets of entries and how often each is given again; the cycles from the first entry to the last."""
    rng = random.Random(seed)
    repeats_any = any(repeats for _, repeats in sets)
    dut: Any = BlockQueue(width=70, depth=depth, repeats=repeats_any)
    entries = [[rng.getrandbits(70) for _ in range(count)] for count, _ in sets]
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

    async def freer(ctx: Any) -> None:
        nonlocal room
        async for _, _, gave, freed in ctx.tick().sample(dut.gave, dut.freed):
            assert gave or not freed
            room += freed

    async def reader(ctx: Any) -> None:
        number, cycle, ready, turns = 0, 0, False, 0
        output = dut.output
        async for _, _, valid, entry in ctx.tick().sample(output.valid, output.payload):
            cycle += 1
            if valid and ready:
                assert entry == expected[number], f"entry {number}"
                cycles.append(cycle)
                number += 1
                if number == len(expected):
                    break
            if not turns:
                ready, turns = rng.random() < take, rng.randint(1, burst)
            turns -= 1
            ctx.set(output.ready, ready)
        ctx.set(output.ready, 1)
        await ctx.tick().repeat(5)
        assert room == depth
        assert not ctx.get(output.valid)
        assert not ctx.get(dut.waits)

    sim.add_testbench(freer, background=True)
    for bench in (writer, reader):
        sim.add_testbench(bench)
    sim.run()
    return cycles[-1] - cycles[0] + 1


@pytest.mark.parametrize("depth", [2, 16, 64])
@pytest.mark.parametrize(
    ("write", "take", "burst"), [(1.0, 1.0, 1), (0.5, 1.0, 1), (1.0, 0.5, 1), (1.0, 0.5, 20)]
)
def test_random_sets(depth: int, write: float, take: float, burst: int) -> None:
    rng = random.Random(depth)
    sets = []
    for _ in range(60):
        repeats = rng.choice([0, 0, 1, 2, 5])
        count = rng.choice([1, 2, depth, rng.randint(1, depth)]) if repeats else rng.randint(1, 2 * depth)
        sets.append((count, repeats))
    run(depth, sets, depth, write=write, take=take, burst=burst)


@pytest.mark.parametrize("depth", [2, 16, 64])
@pytest.mark.parametrize(("write", "take", "burst"), [(1.0, 1.0, 1), (0.5, 1.0, 1), (0.9, 0.5, 20)])
def test_a_plain_queue(depth: int, write: float, take: float, burst: int) -> None:
    run(depth, [(1000, 0)], depth, write=write, take=take, burst=burst)


@pytest.mark.parametrize("section", [2, 4, 16])
@pytest.mark.parametrize("again", [0, 2])
def test_entries_in_several_sections(section: int, again: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hw.repeating_fifo, "SECTION", section)
    run(32, [(20, again), (5, 0), (32, again), (11, again), (500, 0)], section, write=0.9, take=0.8)


def test_one_entry_a_cycle_while_it_repeats() -> None:
    assert run(64, [(10, 100)], 1, write=1.0, take=1.0) == 1010


@pytest.mark.parametrize("late", [False, True])
def test_drop(late: bool) -> None:
    """The room of all is free again, also of those that were given before it was known."""
    dut: Any = BlockQueue(width=8, depth=16, repeats=True)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    freed = 0

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
        ctx.set(dut.output.ready, late)
        await ctx.tick().repeat(30)
        ctx.set(dut.output.ready, 1)
        ctx.set(dut.drop, 1)
        await ctx.tick().repeat(40)
        assert not ctx.get(dut.output.valid)
        assert freed == 8

    async def count(ctx: Any) -> None:
        nonlocal freed
        async for _, _, one in ctx.tick().sample(dut.freed):
            freed += one

    sim.add_testbench(count, background=True)
    sim.add_testbench(bench)
    sim.run()
