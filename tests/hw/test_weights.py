"""The weights unit with a read port and memory: marks, order, full bus, narrow FIFOs."""

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

from hw.isa import Instruction, Opcode, assemble
from hw.machine import Machine
from hw.read_port import AXI4Read, ReadPort
from hw.weights import Weights

sys.path.insert(0, str(Path(__file__).parent))
from axi_memory_model import AxiMemory
from random_transfers import expected_words

MEMORY_BYTES = 1 << 17


class Bench(wiring.Component):
    """Weights and its port, the second of three clients."""

    def __init__(self, machine: Machine) -> None:
        self.weights = Weights(machine)
        self.read_port = ReadPort(machine.bus_width, 3)
        members = self.weights.signature.members
        super().__init__(
            {
                "instructions": members["instructions"],
                "output": members["output"],
                "discard": In(1),
                "busy": Out(1),
                "axi": Out(AXI4Read(machine.bus_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.weights, m.submodules.read_port = self.weights, self.read_port
        wiring.connect(m, self.weights.port, self.read_port.clients[1])
        wiring.connect(m, wiring.flipped(self.instructions), self.weights.instructions)
        wiring.connect(m, self.weights.output, wiring.flipped(self.output))
        wiring.connect(m, self.read_port.axi, wiring.flipped(self.axi))
        m.d.comb += [self.weights.discard.eq(self.discard), self.busy.eq(self.weights.busy)]
        return m


def run(
    machine: Machine,
    codes: list[Instruction],
    *,
    seed: int,
    stall: float,
    latency: tuple[int, int],
    taken: float,
    discard_after: int | None = None,
) -> AxiMemory:
    """Run WEIGHTS; ``taken`` is the probability that a word is taken in a cycle."""
    rng = random.Random(seed)
    memory = AxiMemory(bytearray(rng.randbytes(MEMORY_BYTES)), machine.bus_bytes, seed, stall, latency)
    expected = expected_words(machine, bytes(memory.content), codes)
    dut = Bench(machine)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    memory.attach_read(sim, dut.axi)

    async def feeder(ctx: Any) -> None:
        for code in codes:
            ctx.set(
                dut.instructions.payload,
                dut.weights.instructions.payload.shape().from_bits(int.from_bytes(assemble(code), "little")),
            )
            ctx.set(dut.instructions.valid, 1)
            await ctx.tick().until(dut.instructions.ready)
            ctx.set(dut.instructions.valid, 0)

    async def checker(ctx: Any) -> None:
        number = 0
        ready = False
        async for _, _, valid, payload in ctx.tick().sample(dut.output.valid, dut.output.payload):
            if valid and ready:
                assert (payload.data, payload.parameters) == expected[number], f"word {number}"
                number += 1
                if number == (discard_after or len(expected)):
                    break
            ready = rng.random() < taken
            ctx.set(dut.output.ready, ready)
        ctx.set(dut.output.ready, 0)
        ctx.set(dut.discard, discard_after is not None)
        await ctx.tick().until(~dut.busy)
        assert discard_after or not ctx.get(dut.output.valid)

    sim.add_testbench(feeder)
    sim.add_testbench(checker)
    sim.run()
    assert sum(beats for _, beats in memory.read_bursts) == sum(read_beats(machine, code) for code in codes)
    return memory


def read_beats(machine: Machine, code: Instruction) -> int:
    """Beats that a WEIGHTS reads, however often they are given."""
    size = machine.parameter_bytes + code["words"] * machine.weight_word_bytes
    return code["blocks"] * size // machine.bus_bytes


def weights(machine: Machine, address: int, blocks: int, tiles: int, repeats: int = 0) -> Instruction:
    words = tiles * machine.tile_bytes // machine.weight_word_bytes
    fields = {"memory_address": address, "blocks": blocks, "words": words, "repeats": repeats}
    if repeats:
        fields["repeated_words"] = blocks * (machine.parameter_bytes // machine.weight_word_bytes + words)
    return Instruction(Opcode.WEIGHTS, fields)


MACHINES = [
    Machine(input_lanes=4, output_lanes=4, bus_width=32, weight_fifo_words=32),
    Machine(input_lanes=4, output_lanes=8, bus_width=32, weight_fifo_words=64),
    Machine(),
    Machine(input_lanes=16, output_lanes=64, bus_width=128, weight_fifo_words=128),
]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m.bus_width}bit-{m.weight_fifo_words}words")
@pytest.mark.parametrize(("stall", "taken"), [(0.0, 1.0), (0.4, 0.9), (0.0, 0.3)])
def test_random_weights(machine: Machine, stall: float, taken: float) -> None:
    rng = random.Random(machine.weight_fifo_words)
    codes, words = [], machine.tile_bytes // machine.weight_word_bytes
    for blocks, tiles in [(1, 1), (3, 1), (1, 5), (2, 3), (1, 0), (0, 4), (2, 2)]:
        address = rng.randrange(0, 1 << 16, 64)
        codes.append(
            Instruction(Opcode.WEIGHTS, {"memory_address": address, "blocks": blocks, "words": tiles * words})
        )
    run(machine, codes, seed=1, stall=stall, latency=(2, 20), taken=taken)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m.bus_width}bit-{m.weight_fifo_words}words")
@pytest.mark.parametrize("seed", range(3))
def test_weights_again(machine: Machine, seed: int) -> None:
    """Random repeats among weights that come once, up to as many words as the FIFO has."""
    rng = random.Random(seed)
    codes, room = [], machine.weight_fifo_words
    while len(codes) < 12:
        blocks, tiles, repeats = rng.randint(1, 4), rng.randint(0, 6), rng.choice([0, 0, 1, 2, 5])
        code = weights(machine, rng.randrange(0, 1 << 16, 64), blocks, tiles, repeats)
        if not repeats or read_beats(machine, code) <= room:
            codes.append(code)
    whole = (room * machine.bus_bytes - machine.parameter_bytes) // machine.tile_bytes
    codes.insert(rng.randrange(12), weights(machine, 64, 1, min(whole, 100), 2))
    stall, taken = rng.choice([0.0, 0.4]), rng.choice([0.4, 1.0])
    run(machine, codes, seed=seed, stall=stall, latency=(2, 20), taken=taken)


def test_the_next_weights_are_read_while_others_come_again() -> None:
    machine = Machine()
    code = weights(machine, 64, 2, 4, 50)
    memory = run(machine, [code, weights(machine, 64, 1, 1)], seed=1, stall=0.0, latency=(2, 2), taken=1.0)
    assert memory.read_cycles[-1] < read_beats(machine, code) + 100


@pytest.mark.parametrize("latency", [2, 64])
def test_a_long_stream_fills_the_bus(latency: int) -> None:
    machine = Machine()
    codes = [
        Instruction(Opcode.WEIGHTS, {"memory_address": 64, "blocks": 2, "words": 960}),
        Instruction(Opcode.WEIGHTS, {"memory_address": 192, "blocks": 1, "words": 960}),
    ]
    memory = run(machine, codes, seed=2, stall=0.0, latency=(latency, latency), taken=1.0)
    cycles = memory.read_cycles[-1] - memory.read_cycles[0] + 1
    assert len(memory.read_cycles) / cycles >= 0.98


def test_discard() -> None:
    machine = MACHINES[0]
    codes = [Instruction(Opcode.WEIGHTS, {"memory_address": 64, "blocks": 2, "words": 320})]
    run(machine, codes, seed=3, stall=0.2, latency=(2, 20), taken=0.5, discard_after=7)
    # nothing is given again then
    codes = [weights(machine, 64, 1, 2, 3000), weights(machine, 64, 1, 2, 3000)]
    run(machine, codes, seed=4, stall=0.2, latency=(2, 20), taken=0.5, discard_after=100)
