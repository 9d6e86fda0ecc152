"""The compute unit against `compute_model.py`; this bench is its scratchpad, weight FIFO and tokens.

Run by `test_compute_cocotb.py`; ``$MACHINE`` is the machine in JSON.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_bench import Sender, never, pauses, reset, start_clock
from compute_model import beats_of, execute, passes, random_chain, random_instruction
from scratchpad_places import address_of

from hw.isa import Instruction, Mode, Unit, assemble
from hw.machine import Machine
from hw.scratchpad import PORT_B_LATENCY, READ_LATENCY

MACHINE = Machine.from_json(json.loads(os.environ["MACHINE"]))
WORD = MACHINE.word_bytes


def words_of(code: Instruction) -> int:
    """Words that an instruction reads."""
    return code["output_blocks"] * len(passes(code)) * code["output_rows"] * code["output_columns"]


class Bench:
    """Instructions and weights in, words and tokens both ways.

    ``slow`` names the streams that are stalled: "instructions", "weights", "tokens".
    """

    def __init__(self, dut: Any, seed: int, *slow: str) -> None:
        self.dut = dut
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.seeds = iter(range(1000 * seed, 1000 * seed + 1000))
        self.slow = slow
        self.tasks: list[Any] = []

    def _stall(self, name: str) -> Iterator[int]:
        return pauses(next(self.seeds)) if name in self.slow else never()

    async def reset(self) -> None:
        low = ("instructions_valid", "weights_valid", "tokens_wait_ready")
        await reset(self.dut, self.tasks, low)
        self.codes: list[Instruction] = []
        self.blocks: list[bytes] = []
        self.sums: list[Any] = []  # that an instruction has left for the next
        self.waited = self.signalled = self.busy = self.words = 0
        self.scratch = self.numbers.integers(0, 256, (MACHINE.scratchpad_words, WORD), dtype=np.uint8)
        self.model = self.scratch.copy()
        self.instructions = Sender(self.dut, "instructions", self._stall("instructions"))
        self.weights = Sender(self.dut, "weights", self._stall("weights"))
        self.tasks = [self.instructions.task, self.weights.task]
        self.tasks += [cocotb.start_soon(part()) for part in (self._scratchpad, self._tokens)]

    def add(self, code: Instruction) -> None:
        self.codes.append(code)
        self.instructions.queue.append(int.from_bytes(assemble(code), "little"))
        size = MACHINE.weight_word_bytes
        for block, mark in zip(*beats_of(MACHINE, code, self.numbers), strict=True):
            self.blocks.append(block)
            for offset in range(0, len(block), size):
                data = int.from_bytes(block[offset : offset + size], "little")
                self.weights.queue.append(data | mark << 8 * MACHINE.weight_word_bytes)

    def _read(self, address: int) -> int:
        # padding is read anywhere, and the scratchpad ignores address bits that it does not have
        return int.from_bytes(self.scratch[address % MACHINE.scratchpad_words].tobytes(), "little")

    async def _scratchpad(self) -> None:
        """Words come some cycles after their address; what is there without one, means nothing."""
        dut = self.dut
        edge = RisingEdge(dut.clk)
        lanes = MACHINE.input_lanes
        inputs = [self.random.getrandbits(8 * WORD * lanes) for _ in range(READ_LATENCY - 1)]
        residuals = [self.random.getrandbits(8 * WORD) for _ in range(PORT_B_LATENCY - 1)]
        while True:
            await edge
            read, write, residual = (
                int(getattr(dut, f"scratchpad_{name}_enable").value) for name in ("read", "write", "residual")
            )
            addresses = int(dut.scratchpad_read_addresses.value)
            places = [addresses >> 16 * slot & 0xFFFF for slot in range(lanes)]
            every = int(dut.scratchpad_read_all.value)
            words = 0
            for slot, address in enumerate(places):
                word = self.random.getrandbits(8 * WORD)
                # what is not asked for, or not in its slot's bank, is anything
                if read and (slot == 0 or every) and (address - places[0] - slot) % lanes == 0:
                    word = self._read(address)
                words |= word << 8 * WORD * slot
            inputs.append(words)
            garbage = self.random.getrandbits(8 * WORD)
            residuals.append(
                self._read(address_of(int(dut.scratchpad_b_place.value), lanes)) if residual else garbage)
            dut.scratchpad_read_data.value = inputs.pop(0)
            dut.scratchpad_residual_data.value = residuals.pop(0)
            self.words += read
            self.busy += int(dut.busy.value)
            if write:
                assert not residual, "residual read and write in the same cycle"
                address = address_of(int(dut.scratchpad_b_place.value), lanes)
                assert address < MACHINE.scratchpad_words, f"word {address} was written"
                word = int(dut.scratchpad_write_data.value).to_bytes(WORD, "little")
                self.scratch[address] = np.frombuffer(word, np.uint8)
            if int(dut.tokens_signal_valid.value):
                self._check()

    def _check(self) -> None:
        """An instruction is done."""
        dut = self.dut
        assert self.signalled < self.waited, "tokens that nobody owes"
        code = self.codes[self.signalled]
        assert int(dut.tokens_signal.value) == code.signal
        taken = code["output_blocks"] * (1 + sum(one.tiles for one in passes(code)))
        execute(MACHINE, code, self.model, iter(self.blocks[:taken]), self.sums)
        del self.blocks[:taken]
        wrong = np.argwhere(self.scratch != self.model)
        assert not len(wrong), (
            f"instruction {self.signalled} {code}: {len(wrong)} bytes differ, the first in word "
            f"{wrong[0][0]} lane {wrong[0][1]}"
        )
        self.signalled += 1

    async def _tokens(self) -> None:
        dut = self.dut
        edge = RisingEdge(dut.clk)
        stall = self._stall("tokens")
        ready = 0
        while True:
            await edge
            if int(dut.tokens_wait_valid.value):
                wait = int(dut.tokens_wait.value)
                assert wait == self.codes[self.waited].wait
                # one that waits for compute itself waits for all before it
                done = self.signalled == self.waited or not wait >> Unit.COMPUTE & 1
                assert done or not ready, "the token of an instruction that has not ended"
                self.waited += bool(ready or not wait)  # no tokens are there at once
            newest = self.codes[min(self.waited, len(self.codes) - 1)]
            ready = 1 - next(stall)
            if newest.wait >> Unit.COMPUTE & 1 and self.signalled < self.waited:
                ready = 0
            dut.tokens_wait_ready.value = ready

    async def finish(self, limit: int = 300_000) -> None:
        for _ in range(limit // 20):
            await ClockCycles(self.dut.clk, 20)
            if self.signalled == len(self.codes):
                break
        else:
            raise AssertionError(f"{self.signalled} of {len(self.codes)} instructions after {limit} cycles")
        await ClockCycles(self.dut.clk, 40)
        assert int(self.dut.idle.value)
        assert not self.blocks
        assert self.words == self.busy == sum(words_of(code) for code in self.codes)
        assert not self.weights.queue
        assert not int(self.dut.weights_valid.value), "weights are left"
        assert np.array_equal(self.scratch, self.model), "written after the end"


@cocotb.test()
@cocotb.parametrize(
    (
        ("seed", "slow"),
        [
            (1, ()),
            (2, ("weights",)),
            (3, ("instructions", "tokens")),
            (4, ("weights", "instructions", "tokens")),
            (5, ("weights", "tokens")),
        ],
    )
)
async def random_instructions(dut: Any, seed: int, slow: tuple[str, ...]) -> None:
    start_clock(dut)
    bench = Bench(dut, seed, *slow)
    await bench.reset()
    for _ in range(4):
        for code in random_chain(MACHINE, bench.numbers):
            bench.add(code)
        bench.add(random_instruction(MACHINE, bench.numbers))
    await bench.finish()


@cocotb.test()
@cocotb.parametrize(seed=[6], mode=list(Mode))
async def each_mode(dut: Any, seed: int, mode: Mode) -> None:
    start_clock(dut)
    bench = Bench(dut, seed + 10 * mode.value, "weights")
    await bench.reset()
    for _ in range(6):
        bench.add(random_instruction(MACHINE, bench.numbers, mode))
    await bench.finish()


@cocotb.test()
@cocotb.parametrize(seed=[7])
async def reset_in_the_middle(dut: Any, seed: int) -> None:
    """Tiles, parameters, words on their way: nothing of them is left."""
    start_clock(dut)
    bench = Bench(dut, seed, "weights", "tokens")
    for cycles in (3, 17, 40, 90, 200, 555):
        await bench.reset()
        for _ in range(5):
            bench.add(random_instruction(MACHINE, bench.numbers))
        await ClockCycles(dut.clk, cycles)
    await bench.reset()
    assert int(dut.idle.value)
    assert not int(dut.scratchpad_write_enable.value)
    for _ in range(6):
        bench.add(random_instruction(MACHINE, bench.numbers))
    await bench.finish()
