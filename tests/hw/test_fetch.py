"""The fetch unit with a read port and memory: order, full queues, END, bad opcodes, damaged reads."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hw.fetch import QUEUED, Fetch
from hw.isa import Instruction, Opcode, assemble
from hw.machine import Machine
from hw.program_code import assemble_program, leave_out_words
from hw.read_port import AXI4Read, ReadPort

sys.path.insert(0, str(Path(__file__).parent))
from axi_memory_model import AxiMemory
from random_transfers import fields_of, random_instruction, similar_instructions

PROGRAM = 0x100


class Bench(wiring.Component):
    """Fetch and its port."""

    def __init__(self, machine: Machine) -> None:
        self.fetch = Fetch(machine)
        self.read_port = ReadPort(machine.bus_width, 1)
        super().__init__({"axi": Out(AXI4Read(machine.bus_width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fetch, m.submodules.read_port = self.fetch, self.read_port
        wiring.connect(m, self.fetch.port, self.read_port.clients[0])
        wiring.connect(m, self.read_port.axi, wiring.flipped(self.axi))
        return m


def run(
    machine: Machine,
    programs: list[tuple[list[Instruction], int]],
    *,
    stall: float = 0.0,
    seed: int = 0,
    blocked: Opcode | None = None,
    bad: list[int] | None = None,
    shortened: bool = False,
) -> list[tuple[int, int]]:
    """Run programs that end with an opcode; for each, the strobes of read_error and bad_opcode.

    ``blocked`` names a unit that takes nothing for a long time; ``bad`` gives each program an
    address that is read with an error; ``shortened`` leaves words out that stand there already.
    """
    rng = random.Random(seed)
    memory = AxiMemory(bytearray(rng.randbytes(1 << 15)), machine.bus_bytes, seed, stall, (2, 20))
    dut = Bench(machine)
    fetch = dut.fetch
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    memory.attach_read(sim, dut.axi)
    expected: dict[Opcode, list[Instruction]] = {opcode: [] for opcode in QUEUED}
    strobes: list[tuple[int, int]] = []
    read_errors, bad_opcodes = 0, 0
    release = False

    async def host(ctx: Any) -> None:
        nonlocal read_errors, bad_opcodes, release
        for number, (codes, ending) in enumerate(programs):
            text = b"".join(map(assemble, codes)) + bytes([ending]) + rng.randbytes(63)
            if shortened:
                text = assemble_program(codes, machine)
            memory.content[PROGRAM : PROGRAM + len(text)] = text
            if bad:
                memory.bad_read = lambda address, wrong=bad[number]: address // 64 == wrong // 64
            for code in codes:
                expected[code.opcode].append(code)
            read_errors, bad_opcodes = 0, 0
            ctx.set(fetch.address, PROGRAM)
            ctx.set(fetch.start, 1)
            await ctx.tick()
            ctx.set(fetch.start, 0)
            ctx.set(fetch.address, rng.getrandbits(32))
            if blocked is not None:
                await ctx.tick().repeat(1500)
                assert ctx.get(fetch.busy)
                release = True
            await ctx.tick().until(~fetch.busy)
            while any(expected.values()):
                await ctx.tick()
            strobes.append((read_errors, bad_opcodes))

    async def counter(ctx: Any) -> None:
        nonlocal read_errors, bad_opcodes
        async for _, _, error, opcode in ctx.tick().sample(fetch.read_error, fetch.bad_opcode):
            read_errors += error
            bad_opcodes += opcode

    def add_unit(opcode: Opcode) -> None:
        stream = getattr(fetch, opcode.name.lower())

        async def unit(ctx: Any) -> None:
            ready = False
            async for _, _, valid, payload in ctx.tick().sample(stream.valid, stream.payload):
                if valid and ready:
                    assert expected[opcode], "an instruction that nobody wrote"
                    code = expected[opcode].pop(0)
                    view = {
                        name: int(value.value if hasattr(value, "value") else value)
                        for name, value in ((name, payload[name]) for name in fields_of(code))
                    }
                    assert view == fields_of(code)
                    assert payload.opcode == opcode
                ready = rng.random() >= stall and (opcode is not blocked or release)
                ctx.set(stream.ready, ready)

        sim.add_testbench(unit, background=True)

    for opcode in QUEUED:
        add_unit(opcode)
    sim.add_testbench(counter, background=True)
    sim.add_testbench(host)
    sim.run()
    assert isinstance(dut.fetch.load.payload, data.View)
    return strobes


MACHINES = {
    32: Machine(input_lanes=4, output_lanes=4, bus_width=32),
    64: Machine(),
    128: Machine(bus_width=128),
}


@pytest.mark.parametrize("bus_width", [32, 64, 128])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_random_programs(bus_width: int, stall: float) -> None:
    rng = random.Random(bus_width)
    programs = [([random_instruction(rng) for _ in range(count)], 0) for count in (0, 1, 2, 3, 5, 40)]
    assert run(MACHINES[bus_width], programs, stall=stall, seed=bus_width) == [(0, 0)] * 6


@pytest.mark.parametrize("bus_width", [32, 64, 128])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_words_left_out(bus_width: int, stall: float) -> None:
    rng = random.Random(bus_width)
    programs = [(similar_instructions(rng, count), 0) for count in (0, 1, 2, 3, 9, 80)]
    for codes, _ in programs:
        leave_out_words(codes, lambda _: rng.random() < 0.8)
    found = run(MACHINES[bus_width], programs, stall=stall, seed=bus_width, shortened=True)
    assert found == [(0, 0)] * 6


@pytest.mark.parametrize("opcode", QUEUED)
def test_a_full_queue_holds_back_only_what_follows(opcode: Opcode) -> None:
    rng = random.Random(1)
    codes = [random_instruction(rng) for _ in range(20)]
    while sum(code.opcode is opcode for code in codes) < 20:
        codes.append(random_instruction(rng))
    assert run(MACHINES[64], [(codes, 0)], blocked=opcode) == [(0, 0)]


@pytest.mark.parametrize("ending", [5, 6, 7])
def test_bad_opcode(ending: int) -> None:
    rng = random.Random(ending)
    programs = [([random_instruction(rng) for _ in range(count)], ending) for count in (0, 4)]
    assert run(MACHINES[64], programs, stall=0.2) == [(0, 1)] * 2


def test_read_errors() -> None:
    rng = random.Random(2)
    programs = [([random_instruction(rng) for _ in range(5)], 0) for _ in range(4)]
    bad = [PROGRAM, PROGRAM + 4 * 64, PROGRAM + 5 * 64, PROGRAM + 6 * 64]  # the last one is past END
    assert run(MACHINES[64], programs, stall=0.2, bad=bad) == [(1, 0), (1, 0), (1, 0), (0, 0)]
