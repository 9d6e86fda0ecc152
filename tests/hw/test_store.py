"""The store unit with its scratchpad, against a plain loop."""

from __future__ import annotations

import gc
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
from hw.scratchpad import ComputePort, Scratchpad
from hw.store import AXI4Write, Store
from hw.tokens import TokenPort

sys.path.insert(0, str(Path(__file__).parent))
from axi_memory_model import AxiMemory
from random_transfers import MEMORY_BYTES, places, random_stores


class Bench(wiring.Component):
    """Store and a scratchpad."""

    def __init__(self, machine: Machine, **options: int) -> None:
        self.store = Store(machine, **options)
        self.scratchpad = Scratchpad(machine)
        super().__init__(
            {
                "instructions": self.store.signature.members["instructions"],
                "tokens": Out(TokenPort),
                "axi": Out(AXI4Write(machine.bus_width)),
                "compute": In(ComputePort(8 * machine.word_bytes, machine.input_lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store, m.submodules.scratchpad = self.store, self.scratchpad
        wiring.connect(m, self.store.read, self.scratchpad.read)
        m.d.comb += [
            self.store.read_data.eq(self.scratchpad.read_data),
            self.store.read_valid.eq(self.scratchpad.read_valid),
        ]
        wiring.connect(m, wiring.flipped(self.instructions), self.store.instructions)
        wiring.connect(m, self.store.tokens, wiring.flipped(self.tokens))
        wiring.connect(m, self.store.axi, wiring.flipped(self.axi))
        wiring.connect(m, wiring.flipped(self.compute), self.scratchpad.compute)
        return m


def run(
    machine: Machine,
    codes: list[Instruction],
    *,
    seed: int,
    stall: float,
    latency: tuple[int, int] = (2, 9),
    busy_port: float = 0.3,
    bad_write: range = range(0),
    **options: int,
) -> tuple[AxiMemory, int, int]:
    """Run STOREs; the memory, the write errors, and the cycles in which a beat was given."""
    rng = random.Random(seed)
    before = rng.randbytes(MEMORY_BYTES)
    memory = AxiMemory(
        bytearray(before),
        machine.bus_bytes,
        seed,
        stall,
        latency,
        bad_write=lambda address: address in bad_write,
    )
    words = [rng.getrandbits(8 * machine.word_bytes) for _ in range(machine.scratchpad_words)]
    banks = machine.input_lanes
    dut = Bench(machine, **options)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    memory.attach_write(sim, dut.axi)
    signals: list[int] = []
    errors, first_beat, last_beat, beats = 0, 0, 0, 0

    async def feeder(ctx: Any) -> None:
        for address, word in enumerate(words):
            ctx.set(dut.compute.write_enable, 1)
            ctx.set(dut.compute.b_place, {"row": address // banks, "bank": 1 << address % banks})
            ctx.set(dut.compute.write_data, word)
            await ctx.tick()
        ctx.set(dut.compute.write_enable, 0)
        for code in codes:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(
                dut.instructions.payload,
                dut.store.instructions.payload.shape().from_bits(int.from_bytes(assemble(code), "little")),
            )
            ctx.set(dut.instructions.valid, 1)
            await ctx.tick().until(dut.instructions.ready)
            ctx.set(dut.instructions.valid, 0)

    async def tokens(ctx: Any) -> None:
        for code in codes:
            mask = await ctx.tick().sample(dut.tokens.wait).until(dut.tokens.wait_valid)
            assert mask == (code.wait,)
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(dut.tokens.wait_ready, 1)
            await ctx.tick()
            ctx.set(dut.tokens.wait_ready, 0)

    async def compute(ctx: Any) -> None:
        await ctx.tick().repeat(machine.scratchpad_words)
        while True:
            busy, address = rng.random() < busy_port, rng.randrange(machine.scratchpad_words)
            ctx.set(dut.compute.residual_enable, busy)
            ctx.set(dut.compute.b_place, {"row": address // banks, "bank": busy << address % banks})
            await ctx.tick()

    async def checker(ctx: Any) -> None:
        nonlocal errors, first_beat, last_beat, beats
        cycle = 0
        # the memory answered a cycle before the unit knows
        async for _, _, strobe, mask, error, beat in ctx.tick().sample(
            dut.tokens.signal_valid, dut.tokens.signal, dut.store.error, dut.store.beat
        ):
            cycle += 1
            assert cycle < 200_000
            errors += error
            beats += beat
            if beat:
                first_beat, last_beat = first_beat or cycle, cycle
            if strobe:
                signals.append(mask)
                for at, scratch in places(codes[len(signals) - 1], machine.word_bytes):
                    expected = words[scratch].to_bytes(machine.word_bytes, "little")
                    assert memory.content[at : at + machine.word_bytes] == expected, (
                        codes[len(signals) - 1],
                        at,
                    )
                if len(signals) == len(codes):
                    break
        for _ in range(20):
            await ctx.tick()
            assert not ctx.get(dut.tokens.signal_valid)
        assert not ctx.get(dut.store.busy)
        assert memory.unanswered == 0

    sim.add_testbench(feeder)
    sim.add_testbench(tokens)
    sim.add_testbench(compute, background=True)
    sim.add_testbench(checker)
    sim.run()
    assert signals == [code.signal for code in codes]
    touched = {at for code in codes for at, _ in places(code, machine.word_bytes)}
    expected_beats = (
        sum(code["planes"] * code["rows"] * code["words"] for code in codes) * machine.beats_per_word
    )
    assert beats == expected_beats == sum(beats for _, beats in memory.write_bursts)
    for address in range(0, MEMORY_BYTES, machine.word_bytes):
        if address not in touched:
            end = address + machine.word_bytes
            assert memory.content[address:end] == before[address:end], f"{address:#x} was written"
    return memory, errors, last_beat - first_beat + 1


MACHINES = [
    Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=256),
    Machine(input_lanes=4, output_lanes=8, bus_width=32, scratchpad_words=256),
    Machine(scratchpad_words=512),
    Machine(input_lanes=8, output_lanes=64, bus_width=32, scratchpad_words=256),
    Machine(output_lanes=16, bus_width=128, scratchpad_words=256),
    Machine(input_lanes=16, output_lanes=32, bus_width=128, scratchpad_words=256),
]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m.bus_width}bit-{m.output_lanes}lanes")
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_random_stores(machine: Machine, stall: float) -> None:
    rng = random.Random(machine.output_lanes + machine.bus_width)
    run(machine, random_stores(rng, machine, 10), seed=1, stall=stall)


def test_write_errors_are_counted_and_do_not_stop() -> None:
    machine = Machine(scratchpad_words=256)
    codes = [
        Instruction(Opcode.STORE, {"memory_address": 1024 * n, "planes": 1, "rows": 1, "words": 5}, signal=n)
        for n in range(4)
    ]
    _, errors, _ = run(machine, codes, seed=2, stall=0.2, bad_write=range(1024, 3072))
    assert errors == 2


def test_contiguous_store_fills_the_bus() -> None:
    machine = Machine(scratchpad_words=1024)
    codes = [
        Instruction(Opcode.STORE, {"memory_address": 64 + 16384 * n, "planes": 1, "rows": 1, "words": 1000})
        for n in range(2)
    ]
    _, _, cycles = run(machine, codes, seed=4, stall=0.0, latency=(30, 30), busy_port=0.0)
    assert cycles <= 4000 / 0.95


def test_few_outstanding() -> None:
    machine = Machine(scratchpad_words=256)
    codes = random_stores(random.Random(5), machine, 6)
    run(machine, codes, seed=6, stall=0.3, depth=16, maximum_burst=16, outstanding=2)


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_constructor_refuses_a_short_buffer() -> None:
    with pytest.raises(ValueError, match=r"depth must be at least 64, not 32"):
        Store(Machine(), depth=32)
    gc.collect()  # while Amaranth's warning about unused components is ignored
