"""The load unit with its scratchpad and read port, against a plain loop."""

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
from hw.load import Load
from hw.machine import Machine
from hw.read_port import AXI4Read, ReadPort
from hw.scratchpad import READ_LATENCY, ComputePort, Scratchpad
from hw.tokens import TokenPort

sys.path.insert(0, str(Path(__file__).parent))
from axi_memory_model import AxiMemory
from random_transfers import MEMORY_BYTES, beats_of, loaded_word, places, random_load


class Bench(wiring.Component):
    """Load, its port and a scratchpad."""

    def __init__(self, machine: Machine, **options: int) -> None:
        self.load = Load(machine, **options)
        self.read_port = ReadPort(machine.bus_width, 1)
        self.scratchpad = Scratchpad(machine)
        super().__init__(
            {
                "instructions": self.load.signature.members["instructions"],
                "tokens": Out(TokenPort),
                "axi": Out(AXI4Read(machine.bus_width)),
                "compute": In(ComputePort(8 * machine.word_bytes, machine.input_lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.load, m.submodules.read_port = self.load, self.read_port
        m.submodules.scratchpad = self.scratchpad
        wiring.connect(m, self.load.port, self.read_port.clients[0])
        wiring.connect(m, self.load.write, self.scratchpad.write)
        m.d.comb += self.scratchpad.write_data.eq(self.load.write_data)
        wiring.connect(m, wiring.flipped(self.instructions), self.load.instructions)
        wiring.connect(m, self.load.tokens, wiring.flipped(self.tokens))
        wiring.connect(m, self.read_port.axi, wiring.flipped(self.axi))
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
    **options: int,
) -> tuple[dict[int, int], AxiMemory, int]:
    """Run LOADs; the scratchpad's words that were written, the memory, and the cycles taken."""
    rng = random.Random(seed)
    memory = AxiMemory(bytearray(rng.randbytes(MEMORY_BYTES)), machine.bus_bytes, seed, stall, latency)
    banks = machine.input_lanes
    dut = Bench(machine, **options)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    memory.attach_read(sim, dut.axi)
    written: dict[int, int] = {}
    signals: list[int] = []
    cycles = 0

    async def feeder(ctx: Any) -> None:
        for code in codes:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(
                dut.instructions.payload,
                dut.load.instructions.payload.shape().from_bits(int.from_bytes(assemble(code), "little")),
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
        # compute takes port B of a bank away at random
        while True:
            busy, address = rng.random() < busy_port, rng.randrange(machine.scratchpad_words)
            ctx.set(dut.compute.residual_enable, busy)
            ctx.set(dut.compute.b_place, {"row": address // banks, "bank": busy << address % banks})
            await ctx.tick()

    async def checker(ctx: Any) -> None:
        nonlocal cycles
        write = dut.load.write
        placed: int | None = None  # the address of the word that is there in this cycle
        async for _, _, valid, ready, place, word, strobe, mask in ctx.tick().sample(
            write.valid,
            write.ready,
            write.payload,
            dut.load.write_data,
            dut.tokens.signal_valid,
            dut.tokens.signal,
        ):
            cycles += 1
            if placed is not None:
                written[placed] = word
            placed = place.row * banks + place.bank.bit_length() - 1 if valid and ready else None
            assert cycles < 100_000
            if strobe:
                signals.append(mask)
                code = codes[len(signals) - 1]
                for at, scratch in places(code, machine.word_bytes):
                    expected = loaded_word(code, memory.content, at, machine.word_bytes)
                    assert written.get(scratch) == expected, (code, at, scratch)
                if len(signals) == len(codes):
                    break
        for _ in range(20):  # nothing comes after the last token
            assert not ctx.get(dut.tokens.signal_valid)
            await ctx.tick()
        assert not ctx.get(dut.load.busy)
        # what a read on the other port gives
        for address in rng.sample(sorted(written), min(20, len(written))):
            ctx.set(dut.compute.read_enable, 1)
            ctx.set(dut.compute.read_addresses[0], address)
            await ctx.tick()
            ctx.set(dut.compute.read_enable, 0)
            await ctx.tick().repeat(READ_LATENCY - 1)
            assert ctx.get(dut.compute.read_data[0]) == written[address]

    sim.add_testbench(feeder)
    sim.add_testbench(tokens)
    sim.add_testbench(compute, background=True)
    sim.add_testbench(checker)
    sim.run()
    assert signals == [code.signal for code in codes]
    return written, memory, cycles


MACHINES = [
    Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=256),
    Machine(input_lanes=4, output_lanes=8, bus_width=32, scratchpad_words=512),
    Machine(),
    Machine(input_lanes=8, output_lanes=64, bus_width=64, scratchpad_words=256),
    Machine(output_lanes=16, bus_width=128, scratchpad_words=1024),
    Machine(input_lanes=16, output_lanes=32, bus_width=128, scratchpad_words=256),
]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m.bus_width}bit-{m.output_lanes}lanes")
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_random_loads(machine: Machine, stall: float) -> None:
    rng = random.Random(machine.output_lanes + machine.bus_width)
    codes = [random_load(rng, machine) for _ in range(20)]
    assert len({code["narrow"] for code in codes}) == 2
    _, memory, _ = run(machine, codes, seed=1, stall=stall)
    assert sum(beats for _, beats in memory.read_bursts) == sum(beats_of(code, machine) for code in codes)


def test_4_kb_boundary() -> None:
    machine = Machine()
    codes = [
        Instruction(
            Opcode.LOAD,
            {"memory_address": 4096 - before * 16, "planes": 1, "rows": 1, "words": words},
            signal=2,
        )
        for before in (1, 2, 31, 33)
        for words in (1, 2, 3, 70)
    ]
    _, memory, _ = run(machine, codes, seed=2, stall=0.1)
    assert sum(beats for _, beats in memory.read_bursts) == 2 * sum(code["words"] for code in codes)


def test_scratch_addresses_wrap() -> None:
    machine = Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=65536)
    codes = [
        Instruction(
            Opcode.LOAD,
            {
                "memory_address": 64,
                "memory_row_step": 32,
                "scratch_address": 65530,
                "scratch_row_step": 8,
                "planes": 1,
                "rows": 3,
                "words": 8,
            },
            signal=2,
        )
    ]
    written, _, _ = run(machine, codes, seed=3, stall=0.0)
    assert {65530, 65535, 0, 1, 17} <= set(written)


def test_contiguous_load_fills_the_bus() -> None:
    machine = Machine()
    codes = [
        Instruction(Opcode.LOAD, {"memory_address": 64, "planes": 1, "rows": 1, "words": 2000}, signal=2)
    ]
    _, memory, _ = run(machine, codes, seed=4, stall=0.0, latency=(64, 64), busy_port=0.0)
    cycles = memory.read_cycles[-1] - memory.read_cycles[0] + 1
    assert len(memory.read_cycles) == 4000
    assert cycles <= 4000 / 0.98


@pytest.mark.parametrize("bus_width", [32, 64, 128])
def test_narrow_load_writes_a_word_a_cycle(bus_width: int) -> None:
    machine = Machine(bus_width=bus_width)
    wide = Instruction(Opcode.LOAD, {"memory_address": 64, "planes": 1, "rows": 1, "words": 4}, signal=2)
    fields = {"memory_address": 512, "planes": 1, "rows": 1, "words": 4000, "narrow": 1}
    narrow = Instruction(Opcode.LOAD, fields, signal=2)
    codes = [wide, narrow, wide, narrow]
    _, memory, cycles = run(machine, codes, seed=6, stall=0.0, latency=(8, 8), busy_port=0.0)
    assert len(memory.read_cycles) == sum(beats_of(code, machine) for code in codes)
    assert 8000 < cycles < 8200


def test_short_rows_pipeline() -> None:
    machine = Machine()
    codes = [
        Instruction(
            Opcode.LOAD,
            {
                "memory_address": 64,
                "memory_row_step": 256,
                "planes": 1,
                "rows": 100,
                "words": 4,
                "scratch_row_step": 4,
            },
            signal=2,
        )
        for _ in range(2)
    ]
    _, memory, _ = run(machine, codes, seed=5, stall=0.0, latency=(32, 32), busy_port=0.0)
    cycles = memory.read_cycles[-1] - memory.read_cycles[0] + 1
    assert cycles <= len(memory.read_cycles) / 0.95  # one LOAD after the other, without a gap
