"""The store unit with cocotbext-axi as memory and this bench as scratchpad.

Run by `test_store_cocotb.py`; ``$MACHINE`` is the machine in JSON.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_bench import FaultyRamWrite, Sender, never, pauses, quiet, reset, start_clock
from cocotbext.axi import AxiWriteBus
from random_transfers import MEMORY_BYTES, places, random_stores
from scratchpad_places import address_of

from hw.isa import Instruction, Opcode, assemble
from hw.machine import Machine
from hw.scratchpad import PORT_B_LATENCY

MACHINE = Machine.from_json(json.loads(os.environ["MACHINE"]))
WORD = MACHINE.word_bytes


def beats_of(code: Instruction) -> int:
    return code["planes"] * code["rows"] * code["words"] * MACHINE.beats_per_word


class Bench:
    """STOREs and words in, tokens both ways."""

    def __init__(self, dut: Any, seed: int, *, stalls: bool = True) -> None:
        self.dut = dut
        self.rng = random.Random(seed)
        self.seeds = iter(range(1000 * seed, 1000 * seed + 1000))
        self.stalls = stalls
        self.memory = FaultyRamWrite(
            AxiWriteBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=MEMORY_BYTES
        )
        quiet(self.memory)
        self.scratch = [self.rng.getrandbits(8 * WORD) for _ in range(MACHINE.scratchpad_words)]
        self.tasks: list[Any] = []

    def _stall(self) -> Any:
        return pauses(next(self.seeds)) if self.stalls else never()

    async def reset(self) -> None:
        """Reset; whatever was going on is forgotten, and memory is filled anew."""
        low = ("instructions_valid", "tokens_wait_ready", "read_ready", "word_valid")
        await reset(self.dut, self.tasks, low)
        self.before = self.rng.randbytes(MEMORY_BYTES)
        self.memory.write(0, self.before)
        self.codes: list[Instruction] = []
        self.waited = self.signalled = self.errors = self.given = 0
        self.bursts: list[int] = []  # beats of each
        self.beats = self.answers = self.bad_answers = 0
        self.expected_reads: list[int] = []
        self.instructions = Sender(self.dut, "instructions", self._stall())
        self.tasks = [self.instructions.task]
        self.tasks += [
            cocotb.start_soon(part()) for part in (self._watch_tokens, self._watch_bus, self._read)
        ]
        if self.stalls:
            for channel in (self.memory.aw_channel, self.memory.w_channel, self.memory.b_channel):
                channel.set_pause_generator(self._stall())

    def add(self, code: Instruction) -> None:
        self.codes.append(code)
        self.expected_reads += [scratch for _, scratch in places(code, WORD)]
        self.instructions.queue.append(int.from_bytes(assemble(code), "little"))

    async def _read(self) -> None:
        """The scratchpad: refuses some reads, answers the others after a fixed time."""
        dut = self.dut
        stall = self._stall()
        edge = RisingEdge(dut.clk)
        ready = 0
        answers: list[int | None] = [None] * (PORT_B_LATENCY - 1)
        while True:
            await edge
            word = None
            if ready and int(dut.read_valid.value):
                address = address_of(int(dut.read_payload.value), MACHINE.input_lanes)
                assert address == self.expected_reads.pop(0), "a wrong address, or not in its turn"
                assert self.waited > self.signalled, "a read before the tokens were taken"
                word = self.scratch[address]
            answers.append(word)
            answer = answers.pop(0)
            dut.word_valid.value = answer is not None
            dut.word.value = answer if answer is not None else self.rng.getrandbits(8 * WORD)
            ready = 1 - next(stall)
            dut.read_ready.value = ready

    async def _watch_bus(self) -> None:
        """Counts bursts, beats and answers; what is offered must stay until it is taken."""
        dut = self.dut
        edge = RisingEdge(dut.clk)
        held: dict[str, tuple[int, ...] | None] = {"aw": None, "w": None}
        while True:
            await edge
            assert int(dut.m_axi_bready.value), "answers are held up"
            assert int(dut.beat.value) == int(dut.m_axi_wvalid.value) & int(dut.m_axi_wready.value)
            for channel, names in (("aw", ("addr", "len", "size", "burst")), ("w", ("data", "strb", "last"))):
                offered = None
                if int(getattr(dut, f"m_axi_{channel}valid").value):
                    offered = tuple(int(getattr(dut, f"m_axi_{channel}{name}").value) for name in names)
                assert held[channel] in (None, offered), f"{channel} changed before it was taken"
                held[channel] = None if int(getattr(dut, f"m_axi_{channel}ready").value) else offered
            if int(dut.m_axi_awvalid.value) and int(dut.m_axi_awready.value):
                self.bursts.append(int(dut.m_axi_awlen.value) + 1)
            if int(dut.m_axi_wvalid.value) and int(dut.m_axi_wready.value):
                self.beats += 1
            self.errors += int(dut.error.value)
            if int(dut.m_axi_bvalid.value):
                self.answers += 1
                self.bad_answers += int(dut.m_axi_bresp.value) != 0

    async def _watch_tokens(self) -> None:
        dut = self.dut
        stall = self._stall()
        edge = RisingEdge(dut.clk)
        ready = 0
        while True:
            await edge
            if int(dut.tokens_wait_valid.value):
                assert int(dut.tokens_wait.value) == self.codes[self.waited].wait
                self.waited += ready
            ready = 1 - next(stall)
            dut.tokens_wait_ready.value = ready
            if int(dut.tokens_signal_valid.value):
                assert self.signalled < self.waited, "tokens that nobody owes"
                code = self.codes[self.signalled]
                assert int(dut.tokens_signal.value) == code.signal
                self.signalled += 1
                needed = sum(map(beats_of, self.codes[: self.signalled]))
                assert sum(self.bursts[: self.answers]) >= needed, "tokens before the last answer"
                self.check(code)

    def check(self, code: Instruction) -> None:
        for at, scratch in places(code, WORD):
            if not self.memory.bad(at):
                found = int.from_bytes(self.memory.read(at, WORD), "little")
                assert found == self.scratch[scratch], (code, at, scratch)

    async def finish(self, limit: int = 100_000) -> None:
        for _ in range(limit // 20):
            await ClockCycles(self.dut.clk, 20)
            if self.signalled == len(self.codes):
                break
        else:
            raise AssertionError(f"{self.signalled} of {len(self.codes)} STOREs after {limit} cycles")
        await ClockCycles(self.dut.clk, 50)
        assert not int(self.dut.busy.value)
        assert not self.expected_reads
        assert len(self.bursts) == self.answers
        assert self.errors == self.bad_answers
        assert sum(self.bursts) == self.beats == sum(map(beats_of, self.codes))

    async def run(self, codes: list[Instruction]) -> None:
        for code in codes:
            self.add(code)
        await self.finish()
        touched = {at for code in codes for at, _ in places(code, WORD)}
        after = self.memory.read(0, MEMORY_BYTES)
        for at in range(0, MEMORY_BYTES, WORD):
            if at not in touched:
                assert after[at : at + WORD] == self.before[at : at + WORD], f"{at:#x} was written"


@cocotb.test()
@cocotb.parametrize(seed=[1, 2, 3], stalls=[True, False])
async def random_transfers(dut: Any, seed: int, stalls: bool) -> None:
    start_clock(dut)
    bench = Bench(dut, seed, stalls=stalls)
    await bench.reset()
    await bench.run(random_stores(bench.rng, MACHINE, 12))


@cocotb.test()
@cocotb.parametrize(seed=[4, 5])
async def rows_across_4_kb(dut: Any, seed: int) -> None:
    """Rows that begin just before a multiple of 4 KB, rows of one word, rows longer than a burst."""
    start_clock(dut)
    bench = Bench(dut, seed)
    await bench.reset()
    codes = []
    shapes = ((1, 1, 3), (1, 2, 3), (3, 2, 1), (2, 120, 1), (100, 200, 1), (0, 1, 3), (33, 66, 2))
    page = 1
    for before, words, rows in shapes:
        codes.append(
            Instruction(
                Opcode.STORE,
                {
                    "memory_address": 4096 * page - before * WORD,
                    "memory_row_step": 4096,
                    "scratch_address": bench.rng.randrange(40),
                    "scratch_row_step": bench.rng.randrange(50),
                    "planes": 1,
                    "rows": rows,
                    "words": words,
                },
                wait=bench.rng.randrange(8),
                signal=bench.rng.randrange(8),
            )
        )
        page += rows
    assert (page + 1) * 4096 <= MEMORY_BYTES
    await bench.run(codes)


@cocotb.test()
@cocotb.parametrize(seed=[6])
async def errors_are_told_and_stop_nothing(dut: Any, seed: int) -> None:
    start_clock(dut)
    bench = Bench(dut, seed)
    await bench.reset()
    codes = random_stores(bench.rng, MACHINE, 10)
    bad = range(codes[3]["memory_address"], codes[6]["memory_address"])
    bench.memory.bad = lambda address: address in bad
    await bench.run(codes)
    assert bench.errors >= 3


@cocotb.test()
@cocotb.parametrize(seed=[7])
async def full_bus(dut: Any, seed: int) -> None:
    """Without stalls a long store gives a beat in (nearly) every cycle."""
    start_clock(dut)
    bench = Bench(dut, seed, stalls=False)
    await bench.reset()
    common = {"memory_row_step": 200 * WORD, "scratch_row_step": 1, "planes": 1, "rows": 8, "words": 200}
    first = last = 0

    async def watch() -> None:
        nonlocal first, last
        cycle = 0
        while True:
            await RisingEdge(dut.clk)
            cycle += 1
            if int(dut.beat.value):
                first, last = first or cycle, cycle

    cocotb.start_soon(watch())
    await bench.run([Instruction(Opcode.STORE, {"memory_address": 64, **common})])
    assert bench.beats / (last - first + 1) >= 0.95


@cocotb.test()
@cocotb.parametrize(seed=[9], channel=["aw", "w", "b"])
async def bus_stands_still(dut: Any, seed: int, channel: str) -> None:
    """Much more to store than the buffer holds, and a channel that takes or gives nothing for a long time."""
    start_clock(dut)
    bench = Bench(dut, seed, stalls=False)
    await bench.reset()
    common = {"memory_row_step": 200 * WORD, "scratch_row_step": 1, "planes": 1, "rows": 8, "words": 200}
    bench.add(Instruction(Opcode.STORE, {"memory_address": 64, **common}, signal=2))
    sink = getattr(bench.memory, f"{channel}_channel")
    sink.pause = True
    await ClockCycles(dut.clk, 3000)
    assert not bench.signalled
    assert bench.beats < sum(map(beats_of, bench.codes))
    sink.pause = False
    await bench.finish()


@cocotb.test()
@cocotb.parametrize(seed=[8])
async def reset_in_the_middle(dut: Any, seed: int) -> None:
    start_clock(dut)
    bench = Bench(dut, seed)
    for cycles in (5, 23, 60, 150, 301):
        await bench.reset()
        for code in random_stores(bench.rng, MACHINE, 6):
            bench.add(code)
        await ClockCycles(dut.clk, cycles)
    await bench.reset()
    assert not int(dut.m_axi_awvalid.value)
    assert not int(dut.m_axi_wvalid.value)
    assert not int(dut.busy.value)
    await bench.run(random_stores(bench.rng, MACHINE, 6))
