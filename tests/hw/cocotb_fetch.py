"""The fetch unit behind a read port, with cocotbext-axi as memory and this bench as the units.

Run by `test_fetch_cocotb.py`; ``$MACHINE`` is the machine in JSON.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_bench import FaultyRamRead, Receiver, never, pauses, quiet, reset, start_clock
from cocotbext.axi import AxiReadBus
from random_transfers import fields_of, random_instruction

from hw.fetch import QUEUED
from hw.isa import Instruction, Opcode, assemble, disassemble
from hw.machine import Machine

MACHINE = Machine.from_json(json.loads(os.environ["MACHINE"]))
MEMORY_BYTES = 1 << 16


class Bench:
    """Programs in memory, instructions out."""

    def __init__(self, dut: Any, seed: int, *, stalls: bool = True) -> None:
        self.dut = dut
        self.rng = random.Random(seed)
        self.seeds = iter(range(1000 * seed, 1000 * seed + 1000))
        self.stalls = stalls
        self.memory = FaultyRamRead(AxiReadBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=MEMORY_BYTES)
        quiet(self.memory)
        self.tasks: list[Any] = []
        self.blocked: Opcode | None = None
        self.address = 0

    def _stall(self) -> Any:
        return pauses(next(self.seeds)) if self.stalls else never()

    def _unit(self, opcode: Opcode) -> Receiver:
        stall = self._stall()
        # of a unit that is blocked nothing is taken
        held = (1 if self.blocked is opcode else pause for pause in stall)
        return Receiver(self.dut, opcode.name.lower(), held, lambda payload: self._take(opcode, payload))

    async def reset(self) -> None:
        low = ["start", *(f"{opcode.name.lower()}_ready" for opcode in QUEUED)]
        await reset(self.dut, self.tasks, low)
        self.expected: dict[Opcode, list[Instruction]] = {opcode: [] for opcode in QUEUED}
        self.read_errors = self.bad_opcodes = 0
        self.tasks = [self._unit(opcode).task for opcode in QUEUED]
        self.tasks.append(cocotb.start_soon(self._watch()))
        if self.stalls:
            self.memory.ar_channel.set_pause_generator(self._stall())
            self.memory.r_channel.set_pause_generator(self._stall())

    def _take(self, opcode: Opcode, payload: int) -> None:
        assert self.expected[opcode], f"{opcode.name}: an instruction that nobody wrote"
        code = self.expected[opcode].pop(0)
        found = disassemble(payload.to_bytes(64, "little"))
        assert found.opcode is opcode
        assert fields_of(found) == fields_of(code)

    async def _watch(self) -> None:
        edge = RisingEdge(self.dut.clk)
        while True:
            await edge
            assert int(self.dut.m_axi_rready.value), "the bus is held up"
            self.read_errors += int(self.dut.read_error.value)
            self.bad_opcodes += int(self.dut.bad_opcode.value)

    async def start(self, codes: list[Instruction], ending: int = 0) -> None:
        """Put a program somewhere, with instructions behind its end, and start it."""
        behind = b"".join(assemble(random_instruction(self.rng)) for _ in range(8))
        text = b"".join(map(assemble, codes)) + bytes([ending]) + self.rng.randbytes(63) + behind
        self.address = self.rng.randrange(0, (MEMORY_BYTES - len(text)) // 64) * 64
        self.memory.write(self.address, text)
        for code in self._readable(codes):
            self.expected[code.opcode].append(code)
        self.read_errors = self.bad_opcodes = 0
        self.dut.address.value = self.address
        self.dut.start.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.start.value = 0
        self.dut.address.value = self.rng.getrandbits(32)
        await RisingEdge(self.dut.clk)

    def _readable(self, codes: list[Instruction]) -> Iterator[Instruction]:
        """The instructions as they are read, up to the first one that an error makes an END."""
        size = MACHINE.bus_bytes
        for number, code in enumerate(codes):
            text = bytearray(assemble(code))
            for offset in range(0, 64, size):
                if self.memory.bad(self.address + 64 * number + offset):
                    text[offset : offset + size] = bytes(size)
            found = disassemble(bytes(text))
            if found.opcode is Opcode.END:
                return
            yield found

    async def finish(self, limit: int = 50_000) -> tuple[int, int]:
        """Wait for the end; how often read_error and bad_opcode were told."""
        for _ in range(limit // 10):
            await ClockCycles(self.dut.clk, 10)
            if not int(self.dut.busy.value) and not any(self.expected.values()):
                break
        else:
            raise AssertionError(f"not done after {limit} cycles: {self.expected}")
        await ClockCycles(self.dut.clk, 30)
        assert not int(self.dut.busy.value)
        return self.read_errors, self.bad_opcodes


@cocotb.test()
@cocotb.parametrize(seed=[1, 2], stalls=[True, False])
async def random_programs(dut: Any, seed: int, stalls: bool) -> None:
    start_clock(dut)
    bench = Bench(dut, seed, stalls=stalls)
    await bench.reset()
    for count in (0, 1, 2, 3, 5, 60, 4):
        await bench.start([random_instruction(bench.rng) for _ in range(count)])
        assert await bench.finish() == (0, 0)


@cocotb.test()
@cocotb.parametrize(seed=[3])
async def full_queues(dut: Any, seed: int) -> None:
    """One unit takes nothing for a long time: fetch waits, the others get what stands before."""
    start_clock(dut)
    bench = Bench(dut, seed)
    await bench.reset()
    for opcode in QUEUED:
        codes = [random_instruction(bench.rng) for _ in range(150)]
        bench.blocked = opcode
        await bench.start(codes)
        await ClockCycles(dut.clk, 6000)
        assert int(dut.busy.value)
        places = {one: [n for n, code in enumerate(codes) if code.opcode is one] for one in QUEUED}
        mine = places.pop(opcode)
        assert len(bench.expected[opcode]) == len(mine), "taken by a unit that takes nothing"
        # the first one that another unit has not got stands behind the first one that found no room
        waiting = min(
            (which[-len(bench.expected[other])] for other, which in places.items() if bench.expected[other]),
            default=None,
        )
        first = next(n for n in mine[::-1] if n < waiting) if waiting is not None else None
        assert first is not None
        found = mine.index(first)
        assert found in range(QUEUED[opcode], QUEUED[opcode] + 4), f"{found} instructions found room"
        bench.blocked = None
        assert await bench.finish() == (0, 0)


@cocotb.test()
@cocotb.parametrize(seed=[4])
async def bad_opcodes(dut: Any, seed: int) -> None:
    start_clock(dut)
    bench = Bench(dut, seed)
    await bench.reset()
    for ending in (5, 6, 7):
        for count in (0, 1, 7):
            await bench.start([random_instruction(bench.rng) for _ in range(count)], ending)
            assert await bench.finish() == (0, 1)
    await bench.start([random_instruction(bench.rng) for _ in range(9)])
    assert await bench.finish() == (0, 0)


@cocotb.test()
@cocotb.parametrize(seed=[5])
async def read_errors(dut: Any, seed: int) -> None:
    """Told once for each damaged instruction up to END, which may be damaged, too; not for what follows.

    Memory answers zeros with an error: a first beat of zeros makes an END of any instruction.
    """
    start_clock(dut)
    bench = Bench(dut, seed)
    await bench.reset()
    beats = 64 // MACHINE.bus_bytes
    for damaged, beat, errors in (
        ({3}, 0, 1),
        ({7}, 0, 1),
        ({7}, beats - 1, 0),  # END is its first word
        ({8}, 0, 0),
        ({9}, beats - 1, 0),
        ({1, 4, 7, 8}, beats - 1, 2),
    ):
        codes = [random_instruction(bench.rng) for _ in range(7)]
        offsets = [64 * number + beat * MACHINE.bus_bytes for number in damaged]
        bench.memory.bad = lambda at, offsets=offsets: at - bench.address in offsets
        await bench.start(codes)
        assert await bench.finish() == (errors, 0)
    bench.memory.bad = lambda at: False
    await bench.start([random_instruction(bench.rng) for _ in range(9)])
    assert await bench.finish() == (0, 0)


@cocotb.test()
@cocotb.parametrize(seed=[6])
async def reset_in_the_middle(dut: Any, seed: int) -> None:
    start_clock(dut)
    bench = Bench(dut, seed)
    for cycles in (1, 5, 23, 60, 150, 301):
        await bench.reset()
        await bench.start([random_instruction(bench.rng) for _ in range(60)])
        await ClockCycles(dut.clk, cycles)
        assert int(dut.busy.value)
    await bench.reset()
    assert not int(dut.busy.value)
    assert not int(dut.m_axi_arvalid.value)
    assert not any(int(getattr(dut, f"{opcode.name.lower()}_valid").value) for opcode in QUEUED)
    await bench.start([random_instruction(bench.rng) for _ in range(20)])
    assert await bench.finish() == (0, 0)
