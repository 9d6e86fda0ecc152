"""The load unit behind a read port, with cocotbext-axi as memory and this bench as scratchpad.

Run by `test_load_cocotb.py`; ``$MACHINE`` is the machine in JSON.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_bench import FaultyRamRead, Receiver, Sender, never, pauses, quiet, reset, start_clock
from cocotbext.axi import AxiReadBus
from random_transfers import MEMORY_BYTES, beats_of, loaded_word, places, random_load
from scratchpad_places import address_of

from hw.isa import Instruction, Opcode, assemble
from hw.machine import Machine

MACHINE = Machine.from_json(json.loads(os.environ["MACHINE"]))
WORD = MACHINE.word_bytes


def words_of(code: Instruction) -> int:
    return code["planes"] * code["rows"] * code["words"]


class Bench:
    """LOADs in, words out, tokens both ways."""

    def __init__(self, dut: Any, seed: int, *, stalls: bool = True) -> None:
        self.dut = dut
        self.rng = random.Random(seed)
        self.seeds = iter(range(1000 * seed, 1000 * seed + 1000))
        self.stalls = stalls
        self.memory = FaultyRamRead(AxiReadBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=MEMORY_BYTES)
        quiet(self.memory)
        self.content = self.rng.randbytes(MEMORY_BYTES)
        self.memory.write(0, self.content)
        self.tasks: list[Any] = []

    def _stall(self) -> Any:
        return pauses(next(self.seeds)) if self.stalls else never()

    async def reset(self) -> None:
        """Reset; whatever was going on is forgotten."""
        await reset(self.dut, self.tasks, ("instructions_valid", "tokens_wait_ready", "write_ready"))
        self.codes: list[Instruction] = []
        self.waited = self.signalled = self.beats = 0
        self.scratch: dict[int, int] = {}
        self.expected_words: list[tuple[int, int]] = []  # address, word: in order, still to be written
        self.placed: list[tuple[int, int]] = []  # words whose places have been taken
        self.instructions = Sender(self.dut, "instructions", self._stall())
        self.words = Receiver(self.dut, "write", self._stall(), self._write)
        self.tasks = [self.instructions.task, self.words.task, cocotb.start_soon(self._watch())]
        if self.stalls:
            self.memory.ar_channel.set_pause_generator(self._stall())
            self.memory.r_channel.set_pause_generator(self._stall())

    def add(self, code: Instruction) -> None:
        self.codes.append(code)
        for at, scratch in places(code, WORD):
            self.expected_words.append((scratch, loaded_word(code, self.content, at, WORD)))
        self.instructions.queue.append(int.from_bytes(assemble(code), "little"))

    def _write(self, payload: int) -> None:
        address, word = self.expected_words.pop(0)
        assert address_of(payload, MACHINE.input_lanes) == address, "a wrong place, or not in its turn"
        assert self.waited > self.signalled, "a word before the tokens were taken"
        self.placed.append((address, word))

    async def _watch(self) -> None:
        """Gives the tokens that are waited for after some time, checks those that are given."""
        dut = self.dut
        stall = self._stall()
        edge = RisingEdge(dut.clk)
        ready = 0
        placed = False
        while True:
            await edge
            if placed:  # in the cycle before; now the word is there
                address, word = self.placed.pop(0)
                assert int(dut.write_data.value) == word, "a wrong word"
                self.scratch[address] = word
            placed = bool(int(dut.write_valid.value) and int(dut.write_ready.value))
            assert int(dut.m_axi_rready.value), "the bus is held up"
            self.beats += int(dut.m_axi_rvalid.value)
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
                left = sum(map(words_of, self.codes[self.signalled :]))
                assert len(self.expected_words) <= left, "tokens before the last word was written"

    async def finish(self, limit: int = 100_000) -> None:
        for _ in range(limit // 20):
            await ClockCycles(self.dut.clk, 20)
            if self.signalled == len(self.codes):
                break
        else:
            raise AssertionError(f"{self.signalled} of {len(self.codes)} LOADs after {limit} cycles")
        await ClockCycles(self.dut.clk, 50)
        assert not self.expected_words
        assert not int(self.dut.busy.value)
        assert not int(self.dut.write_valid.value)
        needed = sum(beats_of(code, MACHINE) for code in self.codes)
        assert self.beats == needed, "beats were read that nobody needs"

    async def run(self, codes: list[Instruction]) -> None:
        expected: dict[int, int] = {}
        for code in codes:
            self.add(code)
        for scratch, word in self.expected_words:
            expected[scratch] = word
        await self.finish()
        assert self.scratch == expected


@cocotb.test()
@cocotb.parametrize(seed=[1, 2, 3], stalls=[True, False])
async def random_loads(dut: Any, seed: int, stalls: bool) -> None:
    start_clock(dut)
    bench = Bench(dut, seed, stalls=stalls)
    await bench.reset()
    await bench.run([random_load(bench.rng, MACHINE, largest=120) for _ in range(12)])


@cocotb.test()
@cocotb.parametrize(seed=[4, 5])
async def rows_across_4_kb(dut: Any, seed: int) -> None:
    """Rows that begin just before a multiple of 4 KB, rows of one word, rows longer than a burst."""
    start_clock(dut)
    bench = Bench(dut, seed)
    await bench.reset()
    codes = []
    for before, words in ((1, 1), (1, 2), (3, 2), (2, 120), (100, 200), (0, 1), (0, 3)):
        rows = 1 if words > 50 else 4
        codes.append(
            Instruction(
                Opcode.LOAD,
                {
                    "memory_address": 4096 * bench.rng.randint(1, 4) - before * WORD,
                    "memory_row_step": 4096,
                    "scratch_address": bench.rng.randrange(40),
                    "scratch_row_step": words,
                    "planes": 1,
                    "rows": rows,
                    "words": words,
                },
                wait=bench.rng.randrange(8),
                signal=bench.rng.randrange(8),
            )
        )
    await bench.run(codes)


@cocotb.test()
@cocotb.parametrize(seed=[6])
async def reset_in_the_middle(dut: Any, seed: int) -> None:
    start_clock(dut)
    bench = Bench(dut, seed)
    for cycles in (5, 23, 60, 150, 301):
        await bench.reset()
        for _ in range(6):
            bench.add(random_load(bench.rng, MACHINE, largest=120))
        await ClockCycles(dut.clk, cycles)
    await bench.reset()
    assert not int(dut.m_axi_arvalid.value)
    assert not int(dut.busy.value)
    await bench.run([random_load(bench.rng, MACHINE, largest=120) for _ in range(5)])
