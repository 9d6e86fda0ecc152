"""The burst splitter against a plain loop: every start in a page, random lengths, stalls."""

from __future__ import annotations

import gc
import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.bursts import BurstSplitter


def split(address: int, beats: int, bus_bytes: int, maximum_burst: int) -> list[tuple[int, int, int]]:
    """The bursts of a transfer: address, length less one, last."""
    bursts = []
    while beats:
        count = min(beats, maximum_burst - address // bus_bytes % maximum_burst)
        beats -= count
        bursts.append((address, count - 1, int(beats == 0)))
        address = (address + count * bus_bytes) % 2**32
    return bursts


@pytest.mark.parametrize(
    ("bus_bytes", "maximum_burst"), [(4, 256), (4, 1), (8, 64), (16, 256), (16, 32), (8, 2)]
)
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_bursts(bus_bytes: int, maximum_burst: int, stall: float) -> None:
    rng = random.Random(bus_bytes + maximum_burst)
    dut = BurstSplitter(bus_bytes, maximum_burst, 20, 5)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    transfers = [
        (rng.randrange(2**32 // bus_bytes) * bus_bytes, beats, rng.randrange(32))
        for beats in [1, 1, 2, 3, maximum_burst, maximum_burst + 1, 5 * maximum_burst]
    ]
    transfers += [
        (4096 * rng.randrange(1, 99) - before * bus_bytes, rng.randint(1, 4 * maximum_burst), 1)
        for before in range(5)
    ]
    transfers += [
        (rng.randrange(1 << 20) * bus_bytes, rng.randint(1, 40), rng.randrange(32)) for _ in range(40)
    ]
    expected = [
        (*burst, tag)
        for address, beats, tag in transfers
        for burst in split(address, beats, bus_bytes, maximum_burst)
    ]
    cycles = 0

    async def feeder(ctx: Any) -> None:
        for address, beats, tag in transfers:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(dut.transfers.payload, {"address": address, "beats": beats, "tag": tag})
            ctx.set(dut.transfers.valid, 1)
            await ctx.tick().until(dut.transfers.ready)
            ctx.set(dut.transfers.valid, 0)

    async def checker(ctx: Any) -> None:
        nonlocal cycles
        for burst in expected:
            while rng.random() < stall:
                await ctx.tick()
                cycles += 1
            ctx.set(dut.bursts.ready, 1)
            async for _, _, valid, burst_there in ctx.tick().sample(dut.bursts.valid, dut.bursts.payload):
                cycles += 1
                if valid:
                    payload = burst_there
                    break
            ctx.set(dut.bursts.ready, 0)
            assert (payload.address, payload.length, payload.last, payload.tag) == burst
            assert payload.address // 4096 == (payload.address + payload.length * bus_bytes) // 4096
        await ctx.tick()
        assert ctx.get(dut.idle)

    sim.add_testbench(feeder)
    sim.add_testbench(checker)
    sim.run()
    if stall == 0:
        assert cycles <= len(expected) + 5  # one burst a cycle


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize(
    ("bus_bytes", "maximum_burst", "limit"), [(4, 512, 256), (32, 256, 128), (8, 48, 256), (8, 0, 256)]
)
def test_constructor_refuses(bus_bytes: int, maximum_burst: int, limit: int) -> None:
    message = f"maximum_burst must be a power of two up to {limit}, not {maximum_burst}"
    with pytest.raises(ValueError, match=message):
        BurstSplitter(bus_bytes, maximum_burst, 16)
    gc.collect()  # while Amaranth's warning about unused components is ignored
