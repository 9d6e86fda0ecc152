"""The weights unit with its FIFO behind a read port, with cocotbext-axi as memory.

Run by `test_weights_cocotb.py`; ``$MACHINE`` is the machine in JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_bench import FaultyRamRead, Receiver, Sender, never, pauses, quiet, reset, start_clock
from cocotbext.axi import AxiReadBus
from random_transfers import expected_words

from hw.block_queue import WAITING
from hw.isa import Instruction, Opcode, assemble
from hw.machine import Machine

MACHINE = Machine.from_json(json.loads(os.environ["MACHINE"]))
MEMORY_BYTES = 1 << 17
TOGETHER = MACHINE.weight_word_bytes // MACHINE.bus_bytes  # beats that leave in a cycle


def weights(address: int, blocks: int, tiles: int) -> Instruction:
    words = tiles * MACHINE.tile_bytes // MACHINE.weight_word_bytes
    return Instruction(Opcode.WEIGHTS, {"memory_address": address, "blocks": blocks, "words": words})


def random_weights(rng: random.Random) -> list[Instruction]:
    shapes = [(1, 1), (3, 1), (1, 5), (2, 3), (1, 0), (0, 4), (2, 2), (4, 0), (1, 12), (2, 7)]
    rng.shuffle(shapes)
    return [weights(rng.randrange(0, 1 << 16, 64), *shape) for shape in shapes]


class Bench:
    """Instructions in, beats out; ``stalls`` on the bus, ``slow`` is the consumer's."""

    def __init__(self, dut: Any, seed: int, *, stalls: bool, slow: Iterator[int] | None = None) -> None:
        self.dut = dut
        self.rng = random.Random(seed)
        self.seeds = iter(range(1000 * seed, 1000 * seed + 1000))
        self.stalls = stalls
        self.slow = slow
        self.memory = FaultyRamRead(AxiReadBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=MEMORY_BYTES)
        quiet(self.memory)
        self.content = self.rng.randbytes(MEMORY_BYTES)
        self.memory.write(0, self.content)
        self.tasks: list[Any] = []

    async def reset(self) -> None:
        await reset(self.dut, self.tasks, ("discard", "instructions_valid", "output_ready"))
        self.expected: list[tuple[int, int]] = []
        self.asked = self.taken = self.most = 0
        self.cycle = 0
        self.beats: list[int] = []  # cycles in which one was taken from the bus
        stall = pauses(next(self.seeds)) if self.stalls else never()
        self.instructions = Sender(self.dut, "instructions", stall)
        slow = self.slow or (pauses(next(self.seeds)) if self.stalls else never())
        self.output = Receiver(self.dut, "output", slow, self._take)
        self.tasks = [self.instructions.task, self.output.task, cocotb.start_soon(self._watch())]
        if self.stalls:
            self.memory.ar_channel.set_pause_generator(pauses(next(self.seeds)))
            self.memory.r_channel.set_pause_generator(pauses(next(self.seeds)))

    def add(self, codes: list[Instruction]) -> None:
        self.expected += expected_words(MACHINE, self.content, codes)
        self.instructions.queue.extend(int.from_bytes(assemble(code), "little") for code in codes)

    def _take(self, payload: int) -> None:
        mark, data = divmod(payload, 1 << 8 * MACHINE.weight_word_bytes)
        assert (data, mark) == self.expected[self.taken], f"word {self.taken}"
        self.taken += 1

    async def _watch(self) -> None:
        dut = self.dut
        edge = RisingEdge(dut.clk)
        while True:
            await edge
            self.cycle += 1
            assert int(dut.m_axi_rready.value), "the bus is held up"
            if int(dut.m_axi_arvalid.value) and int(dut.m_axi_arready.value):
                self.asked += int(dut.m_axi_arlen.value) + 1
            if int(dut.m_axi_rvalid.value):
                self.beats.append(self.cycle)
            self.most = max(self.most, self.asked - TOGETHER * self.taken)

    async def finish(self, limit: int = 100_000) -> None:
        for _ in range(limit // 20):
            await ClockCycles(self.dut.clk, 20)
            if self.taken == len(self.expected) and not int(self.dut.busy.value):
                break
        else:
            raise AssertionError(f"{self.taken} of {len(self.expected)} words after {limit} cycles")
        await ClockCycles(self.dut.clk, 50)
        assert self.taken == len(self.expected)
        assert self.asked == len(self.beats) == TOGETHER * self.taken
        assert not int(self.dut.output_valid.value)
        # the FIFO, and what has left it
        most = MACHINE.weight_fifo_words + WAITING * TOGETHER
        assert self.most <= most, "more was asked for than there is room for"


@cocotb.test()
@cocotb.parametrize(seed=[1, 2, 3], stalls=[True, False])
async def random_streams(dut: Any, seed: int, stalls: bool) -> None:
    start_clock(dut)
    bench = Bench(dut, seed, stalls=stalls)
    await bench.reset()
    bench.add(random_weights(bench.rng))
    await bench.finish()


@cocotb.test()
@cocotb.parametrize(seed=[4])
async def slow_consumer_fills_the_fifo(dut: Any, seed: int) -> None:
    """A word in every seventh cycle: the FIFO fills to its last word, and no further."""
    start_clock(dut)
    bench = Bench(dut, seed, stalls=False, slow=itertools.cycle([1, 1, 1, 1, 1, 1, 0]))
    await bench.reset()
    bench.add([weights(64, 2, 20), weights(8192, 1, 20)])
    await bench.finish()
    assert bench.most >= MACHINE.weight_fifo_words - 1


@cocotb.test()
@cocotb.parametrize(seed=[5])
async def full_bus(dut: Any, seed: int) -> None:
    """A long stream without stalls: a beat in (nearly) every cycle, also from one WEIGHTS to the next."""
    start_clock(dut)
    bench = Bench(dut, seed, stalls=False)
    await bench.reset()
    tiles = 9600 // MACHINE.tile_bytes
    bench.add([weights(64, 1, tiles), weights(64, 2, tiles)])
    await bench.finish()
    rate = len(bench.beats) / (bench.beats[-1] - bench.beats[0] + 1)
    assert rate >= 0.98, rate


@cocotb.test()
@cocotb.parametrize(seed=[6])
async def discarded_weights_are_forgotten(dut: Any, seed: int) -> None:
    """Weights that nobody takes do not stay for the next program."""
    start_clock(dut)
    bench = Bench(dut, seed, stalls=True)
    await bench.reset()
    for _ in range(4):
        bench.add([weights(64, 2, bench.rng.randrange(1, 20))])
        while bench.taken < bench.rng.randrange(1, 40):
            await RisingEdge(dut.clk)
        dut.discard.value = 1
        await ClockCycles(dut.clk, 3)
        for _ in range(10_000):
            await RisingEdge(dut.clk)
            if not int(dut.busy.value) and not bench.instructions.queue:
                break
        else:
            raise AssertionError("still busy")
        dut.discard.value = 0
        bench.taken = len(bench.expected)
        await ClockCycles(dut.clk, 20)
    bench.most = 0
    bench.add(random_weights(bench.rng))
    await bench.finish()


@cocotb.test()
@cocotb.parametrize(seed=[7])
async def reset_in_the_middle(dut: Any, seed: int) -> None:
    start_clock(dut)
    bench = Bench(dut, seed, stalls=True)
    for cycles in (5, 23, 60, 150, 301):
        await bench.reset()
        bench.add(random_weights(bench.rng))
        await ClockCycles(dut.clk, cycles)
    await bench.reset()
    await ClockCycles(dut.clk, 2)  # `busy` is a cycle late
    assert not int(dut.busy.value)
    assert not int(dut.m_axi_arvalid.value)
    assert not int(dut.output_valid.value)
    bench.add(random_weights(bench.rng))
    await bench.finish()
