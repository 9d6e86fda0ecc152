"""The read port and its clients: data goes to whom it belongs, nobody starves, nobody blocks another."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hw.read_client import ReadClient
from hw.read_port import AXI4Read, ReadPort

sys.path.insert(0, str(Path(__file__).parent))
from axi_memory_model import AxiMemory

MEMORY_BYTES = 1 << 16


class Bench(wiring.Component):
    """Three clients of different depth at one port."""

    def __init__(self, bus_width: int, outstanding: int, urgent_below: int | None) -> None:
        self.clients = [
            ReadClient(bus_width, depth=depth, maximum_burst=burst, beats_width=12, urgent_below=urgent)
            for depth, burst, urgent in (
                (16, 8, None), (64 if urgent_below is None else 512, 64, None), (128, 32, urgent_below))
        ]
        self.read_port = ReadPort(bus_width, 3, outstanding=outstanding)
        super().__init__({"axi": Out(AXI4Read(bus_width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.read_port = self.read_port
        for number, client in enumerate(self.clients):
            m.submodules[f"client_{number}"] = client
            wiring.connect(m, client.port, self.read_port.clients[number])
        wiring.connect(m, self.read_port.axi, wiring.flipped(self.axi))
        return m


def run(
    bus_width: int,
    work: list[list[tuple[int, int]]],
    *,
    taken: tuple[float, ...],
    stall: float = 0.0,
    latency: tuple[int, int] = (2, 15),
    outstanding: int = 32,
    seed: int = 0,
    forever_blocked: int | None = None,
    urgent_below: int | None = None,
) -> tuple[AxiMemory, list[int], int]:
    """Each client's transfers (address, beats); the cycles in which each was done, and the beats counted."""
    rng = random.Random(seed)
    memory = AxiMemory(
        bytearray(rng.randbytes(MEMORY_BYTES)),
        bus_width // 8,
        seed,
        stall,
        latency,
        bad_read=lambda address: address // 8 % 5 == 0,
    )
    dut = Bench(bus_width, outstanding, urgent_below)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    memory.attach_read(sim, dut.axi)
    done = [0] * 3
    beats_counted = 0

    def add(number: int) -> None:
        client = dut.clients[number]
        expected = [
            (
                int.from_bytes(memory.content[at : at + bus_width // 8], "little"),
                index % 2,
                int(memory.bad_read(at)),
            )
            for index, (address, beats) in enumerate(work[number])
            for at in range(address, address + beats * bus_width // 8, bus_width // 8)
        ]

        async def feeder(ctx: Any) -> None:
            for index, (address, beats) in enumerate(work[number]):
                ctx.set(client.transfers.payload, {"address": address, "beats": beats, "tag": index % 2})
                ctx.set(client.transfers.valid, 1)
                ready = False
                while not ready:
                    _, _, ready = await ctx.tick().sample(client.transfers.ready)
                ctx.set(client.transfers.valid, 0)

        async def checker(ctx: Any) -> None:
            cycle, index, ready = 0, 0, False
            async for _, _, valid, beat in ctx.tick().sample(client.output.valid, client.output.payload):
                cycle += 1
                assert cycle < 100_000
                if valid and ready:
                    assert (beat.data, beat.tag, beat.error) == expected[index], (
                        f"client {number}, beat {index}"
                    )
                    index += 1
                    if index == len(expected):
                        break
                ready = rng.random() < taken[number]
                ctx.set(client.output.ready, ready)
            done[number] = cycle
            ctx.set(client.output.ready, 0)
            await ctx.tick().until(client.idle)

        if number == forever_blocked:
            sim.add_testbench(feeder, background=True)
        else:
            sim.add_testbench(feeder)
            sim.add_testbench(checker)

    async def count(ctx: Any) -> None:
        nonlocal beats_counted
        async for _, _, beat in ctx.tick().sample(dut.read_port.beat):
            beats_counted += beat

    for number in range(3):
        add(number)
    sim.add_process(count)
    sim.run()
    return memory, done, beats_counted


def random_work(rng: random.Random, bus_width: int, count: int, longest: int) -> list[tuple[int, int]]:
    return [
        (
            rng.randrange((MEMORY_BYTES - longest * bus_width // 8) // (bus_width // 8)) * (bus_width // 8),
            rng.randint(1, longest),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("bus_width", [32, 64, 128])
@pytest.mark.parametrize(("stall", "outstanding"), [(0.0, 32), (0.4, 32), (0.2, 1)])
def test_random_transfers(bus_width: int, stall: float, outstanding: int) -> None:
    rng = random.Random(bus_width)
    work = [random_work(rng, bus_width, count, longest) for count, longest in ((30, 8), (8, 150), (10, 60))]
    memory, _, counted = run(bus_width, work, taken=(1.0, 0.5, 0.8), stall=stall, outstanding=outstanding)
    beats = sum(beats for transfers in work for _, beats in transfers)
    assert counted == beats == sum(beats for _, beats in memory.read_bursts)


@pytest.mark.parametrize("blocked", [0, 1, 2])
def test_a_client_that_takes_nothing_blocks_nobody(blocked: int) -> None:
    work = [random_work(random.Random(n), 64, 10, 100) for n in range(3)]
    run(64, work, taken=(1.0, 1.0, 1.0), forever_blocked=blocked)


def test_nobody_starves() -> None:
    """While two clients could fill the bus alone, a third gets its share."""
    work = [[(0, 8)] * 10, [(0x1000, 1000)], [(0x4000, 1000)]]
    _, done, _ = run(64, work, taken=(1.0, 1.0, 1.0), latency=(4, 4))
    assert done[0] < 1200 < min(done[1:])


def test_what_is_not_urgent_waits() -> None:
    """A client with enough beats lets the others go first; with a higher mark it fills its buffer."""
    assert _beats_ahead(8) <= 32 < 96 <= _beats_ahead(128)


def _beats_ahead(urgent_below: int) -> int:
    """Beats that a slow client is given before another one's eighth burst."""
    work = [[(0, 8)], [(0x1000, 1000)], [(0x8000, 400)]]
    memory, _, _ = run(64, work, taken=(1.0, 1.0, 0.02), latency=(4, 4), urgent_below=urgent_below)
    others = [number for number, (address, _) in enumerate(memory.read_bursts) if 0 < address < 0x8000]
    return sum(beats for address, beats in memory.read_bursts[: others[7]] if address >= 0x8000)
