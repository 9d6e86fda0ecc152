"""The scratchpad against a list: compute is never refused, load and store share what is left."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.dual_port_memory import READ_LATENCY
from hw.machine import Machine
from hw.scratchpad import Scratchpad

MACHINE = Machine(input_lanes=4, output_lanes=8, bus_width=32, scratchpad_words=256)


@pytest.mark.parametrize(
    ("compute_writes", "compute_reads", "wishes"),
    [(0.0, 0.0, 1.0), (0.3, 0.3, 0.7), (0.9, 0.05, 0.9), (0.0, 0.5, 0.3)],
)
def test_random_accesses(compute_writes: float, compute_reads: float, wishes: float) -> None:
    rng = random.Random(int(100 * compute_writes + 10 * wishes))
    dut = Scratchpad(MACHINE)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    words = [0] * 256
    taken = {"load": 0, "store": 0}

    async def bench(ctx: Any) -> None:
        compute = dut.compute
        port_a: list[int | None] = [None] * READ_LATENCY
        residual: list[int | None] = [None] * READ_LATENCY
        store: list[int | None] = [None] * READ_LATENCY
        load_wish, store_wish = None, None  # kept until they are taken
        load_waits = store_waits = 0
        written_before = None
        for _ in range(3000):
            choice = rng.random()
            writes = choice < compute_writes
            reads_residual = not writes and choice < compute_writes + compute_reads
            write_address, write_data = rng.randrange(256), rng.getrandbits(64)
            residual_address, read_address = rng.randrange(256), rng.randrange(256)
            reads = rng.random() < 0.5
            if load_wish is None and rng.random() < wishes:
                load_wish = rng.randrange(256), rng.getrandbits(64)
            if store_wish is None and rng.random() < wishes:
                store_wish = rng.randrange(256)
            if read_address == written_before:
                reads = False
            ctx.set(compute.write_enable, writes)
            ctx.set(compute.write_address, write_address)
            ctx.set(compute.write_data, write_data)
            ctx.set(compute.residual_enable, reads_residual)
            ctx.set(compute.residual_address, residual_address)
            ctx.set(compute.read_enable, reads)
            ctx.set(compute.read_address, read_address)
            ctx.set(dut.write.valid, load_wish is not None)
            if load_wish is not None:
                ctx.set(dut.write.payload, {"address": load_wish[0], "data": load_wish[1]})
            ctx.set(dut.read.valid, store_wish is not None)
            ctx.set(dut.read.payload, store_wish or 0)
            await ctx.delay(1e-8)
            for pipeline, output in ((port_a, compute.read_data), (residual, compute.residual_data)):
                if pipeline[0] is not None:
                    assert ctx.get(output) == pipeline[0]
            assert ctx.get(dut.read_valid) == (store[0] is not None)
            if store[0] is not None:
                assert ctx.get(dut.read_data) == store[0]
            load_done = load_wish is not None and ctx.get(dut.write.ready)
            store_done = store_wish is not None and ctx.get(dut.read.ready)
            free = not writes and not reads_residual
            assert load_done + store_done == int(free and (load_wish is not None or store_wish is not None))
            load_waits = load_waits + 1 if load_wish is not None and not load_done and free else 0
            store_waits = store_waits + 1 if store_wish is not None and not store_done and free else 0
            assert max(load_waits, store_waits) <= 1, "not in turn"
            port_a = [*port_a[1:], words[read_address] if reads else None]
            residual = [*residual[1:], words[residual_address] if reads_residual else None]
            store = [*store[1:], words[store_wish] if store_done and store_wish is not None else None]
            written_before = write_address if writes else load_wish[0] if load_done and load_wish else None
            if writes:
                words[write_address] = write_data
            if load_done and load_wish is not None:
                words[load_wish[0]] = load_wish[1]
                load_wish = None
                taken["load"] += 1
            if store_done:
                store_wish = None
                taken["store"] += 1
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    assert min(taken.values()) > 50
