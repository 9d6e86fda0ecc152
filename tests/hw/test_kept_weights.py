"""Weights that are kept: filled by one run, given by the next ones whatever the memory holds by then."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.isa import Instruction, assemble
from hw.kept_weights import KeptWeights
from hw.machine import Machine
from hw.read_port import AXI4Read, ReadPort
from hw.weights import Weights

sys.path.insert(0, str(Path(__file__).parent))
from axi_memory_model import AxiMemory
from random_transfers import expected_words
from test_weights import read_beats, weights

MEMORY_BYTES = 1 << 17


class Bench(wiring.Component):
    """Weights, what is kept of them, and the read port."""

    def __init__(self, machine: Machine) -> None:
        self.weights = Weights(machine)
        self.kept_weights = KeptWeights(machine)
        self.read_port = ReadPort(machine.bus_width, 2)
        members = self.weights.signature.members
        super().__init__(
            {
                "instructions": members["instructions"],
                "output": members["output"],
                "address": In(32),
                "kept": In(1),
                "busy": Out(1),
                "axi": Out(AXI4Read(machine.bus_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.weights, m.submodules.read_port = self.weights, self.read_port
        m.submodules.kept_weights = kept = self.kept_weights
        wiring.connect(m, self.weights.port, kept.client)
        wiring.connect(m, kept.port, self.read_port.clients[1])
        wiring.connect(m, wiring.flipped(self.instructions), self.weights.instructions)
        wiring.connect(m, self.weights.output, wiring.flipped(self.output))
        wiring.connect(m, self.read_port.axi, wiring.flipped(self.axi))
        m.d.comb += [
            kept.address.eq(self.address),
            kept.kept.eq(self.kept),
            self.busy.eq(self.weights.busy),
        ]
        return m


def run(
    machine: Machine,
    codes: list[Instruction],
    start: int,
    *,
    runs: int = 3,
    seed: int = 0,
    stall: float = 0.0,
    latency: tuple[int, int] = (2, 2),
    taken: float = 1.0,
) -> list[int]:
    """Run the WEIGHTS several times, with another memory each time; cycles of each run."""
    rng = random.Random(seed)
    memory = AxiMemory(bytearray(rng.randbytes(MEMORY_BYTES)), machine.bus_bytes, seed, stall, latency)
    dut = Bench(machine)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    memory.attach_read(sim, dut.axi)
    cycles: list[int] = []
    end = start + machine.kept_weight_bytes
    first = bytes(memory.content)
    started = 0

    async def feeder(ctx: Any) -> None:
        nonlocal started
        ctx.set(dut.address, start)
        for number in range(runs):
            await ctx.tick().until(~dut.busy)
            while len(cycles) < number:
                await ctx.tick()
            if number:
                memory.content[:] = rng.randbytes(MEMORY_BYTES)
            ctx.set(dut.kept, number > 0)
            started = number + 1
            for code in codes:
                layout = dut.weights.instructions.payload.shape()
                bits = int.from_bytes(assemble(code), "little")
                ctx.set(dut.instructions.payload, layout.from_bits(bits))
                ctx.set(dut.instructions.valid, 1)
                await ctx.tick().until(dut.instructions.ready)
                ctx.set(dut.instructions.valid, 0)

    async def checker(ctx: Any) -> None:
        for number in range(runs):
            while started <= number:
                await ctx.tick()
            content = bytearray(memory.content)
            if number:
                content[start:end] = first[start:end]
            expected = expected_words(machine, bytes(content), codes)
            bursts, count, begun, ready = len(memory.read_bursts), 0, 0, False
            while count < len(expected):
                _, _, valid, payload = await ctx.tick().sample(dut.output.valid, dut.output.payload)
                begun += 1
                assert begun < 50_000, f"run {number} stops at word {count} of {len(expected)}"
                if valid and ready:
                    found = payload.data, payload.parameters
                    assert found == expected[count], f"run {number}, word {count}"
                    count += 1
                ready = count < len(expected) and rng.random() < taken
                ctx.set(dut.output.ready, ready)
            for address, beats in memory.read_bursts[bursts:] if number else []:
                assert address + beats * machine.bus_bytes <= start or end <= address
            cycles.append(begun)

    sim.add_testbench(feeder)
    sim.add_testbench(checker)
    sim.run()
    assert len(cycles) == runs
    return cycles


MACHINES = [
    Machine(input_lanes=4, output_lanes=4, bus_width=32, weight_fifo_words=32, kept_weight_words=2048),
    Machine(input_lanes=4, output_lanes=8, bus_width=32, weight_fifo_words=256, kept_weight_words=3072),
    Machine(kept_weight_words=1024),
    Machine(input_lanes=16, output_lanes=32, bus_width=128, weight_fifo_words=512, kept_weight_words=1024),
]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m.bus_width}bit-{m.kept_weight_words}words")
@pytest.mark.parametrize("seed", range(2))
def test_random_weights(machine: Machine, seed: int) -> None:
    """In, outside and across both ends of the range, and given again."""
    rng = random.Random(seed)
    start = rng.randrange(1 << 14, 1 << 16, machine.kept_alignment)
    end = start + machine.kept_weight_bytes
    codes, words = [], machine.weight_fifo_words
    while len(codes) < 10:
        around = rng.choice([start, end, rng.randrange(start, end), rng.randrange(0, 1 << 16)])
        address = max(around + 64 * rng.randint(-8, 3), 0) // 64 * 64
        code = weights(machine, address, rng.randint(1, 3), rng.randint(0, 5), rng.choice([0, 0, 2]))
        if not code["repeats"] or read_beats(machine, code) <= words:
            codes.append(code)
    run(machine, codes, start, seed=seed, stall=rng.choice([0.0, 0.4]), latency=rng.choice([(2, 2), (2, 30)]),
        taken=rng.choice([0.4, 1.0]))  # fmt: skip


def test_a_kept_stream_comes_at_a_beat_a_cycle() -> None:
    machine = Machine(kept_weight_words=4096)
    codes = [weights(machine, 1024 * number, 1, 56) for number in range(8)]
    slow, fast, again = run(machine, codes, 0, latency=(30, 30), stall=0.5)
    beats = sum(read_beats(machine, code) for code in codes)
    assert fast == again < beats + 60 < slow


def test_weights_outside_lose_little() -> None:
    machine = Machine(kept_weight_words=1024)
    codes = [weights(machine, 1 << 15, 4, 56)]
    beats = read_beats(machine, codes[0])
    assert max(run(machine, codes, 0)) < beats + 40
