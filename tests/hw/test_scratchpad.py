"""The scratchpad, case by case; at random in `cocotb_scratchpad.py`."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from amaranth.hdl import Elaboratable, Module, ResetInserter, Signal
from amaranth.sim import Simulator, SimulatorContext

from hw.machine import Machine
from hw.scratchpad import ADDRESS_WIDTH, PORT_B_LATENCY, READ_LATENCY, Scratchpad

FOUR = Machine(input_lanes=4, output_lanes=8, bus_width=32, scratchpad_words=256)
EIGHT = Machine(input_lanes=8, output_lanes=8, bus_width=64, scratchpad_words=512)
machines = pytest.mark.parametrize("machine", [FOUR, EIGHT], ids=["4", "8"])


def simulate(dut: Elaboratable, bench: Callable[[SimulatorContext], Awaitable[None]]) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def word_of(address: int, version: int = 0) -> int:
    """A word that tells its address."""
    return address * 0x10001 + version * 0x1_0000_0000_0000 + 1


class Ports:
    """A scratchpad's inputs, for one cycle after another; what is not used in a cycle is off."""

    def __init__(self, dut: Scratchpad, ctx: SimulatorContext) -> None:
        self.dut = dut
        self.ctx = ctx
        self.cycle = 0
        self.answers: defaultdict[int, list[tuple[Any, int]]] = defaultdict(list)
        self.loading = 0  # the word whose place is offered
        self.off()

    def off(self) -> None:
        compute = self.dut.compute
        for enable in (
            compute.read_enable,
            compute.write_enable,
            compute.residual_enable,
            self.dut.write.valid,
            self.dut.read.valid,
        ):
            self.ctx.set(enable, 0)
        for place in (compute.b_place, self.dut.write.payload, self.dut.read.payload):
            self.ctx.set(place.bank, 0)

    def _place(self, address: int) -> dict[str, int]:
        banks = self.dut.machine.input_lanes
        return {"row": address // banks, "bank": 1 << address % banks}

    def read(self, addresses: Sequence[int], *, read_all: bool = True) -> None:
        compute = self.dut.compute
        self.ctx.set(compute.read_enable, 1)
        self.ctx.set(compute.read_all, read_all)
        self.ctx.set(compute.read_addresses, list(addresses))

    def compute_writes(self, address: int, word: int) -> None:
        compute = self.dut.compute
        self.ctx.set(compute.write_enable, 1)
        self.ctx.set(compute.b_place, self._place(address))
        self.ctx.set(compute.write_data, word)

    def compute_reads(self, address: int) -> None:
        self.ctx.set(self.dut.compute.residual_enable, 1)
        self.ctx.set(self.dut.compute.b_place, self._place(address))

    def load(self, address: int, word: int) -> None:
        self.ctx.set(self.dut.write.valid, 1)
        self.ctx.set(self.dut.write.payload, self._place(address))
        self.loading = word

    def store(self, address: int) -> None:
        self.ctx.set(self.dut.read.valid, 1)
        self.ctx.set(self.dut.read.payload, self._place(address))

    def answer(self, output: Any, word: int, latency: int = PORT_B_LATENCY) -> None:
        """So many cycles later, `tick` finds this word at an output."""
        self.answers[self.cycle + latency].append((output, word))

    async def tick(self) -> None:
        for output, word in self.answers.pop(self.cycle, []):
            assert self.ctx.get(output) == word
        await self.ctx.tick()
        self.ctx.set(self.dut.write_data, self.loading)
        self.cycle += 1
        self.off()

    async def fill(self) -> None:
        """`word_of` everywhere."""
        for address in range(self.dut.machine.scratchpad_words):
            self.load(address, word_of(address))
            assert self.ctx.get(self.dut.write.ready)
            await self.tick()

    def words(self) -> list[int]:
        return [self.ctx.get(word) for word in self.dut.compute.read_data]


@machines
def test_every_slot_gets_its_word(machine: Machine) -> None:
    """Reads back to back: consecutive words from any bank on, over the end, with a jump at any slot."""
    banks, count = machine.input_lanes, machine.scratchpad_words
    rng = random.Random(1)
    reads = [
        [(first + slot) % count for slot in range(banks)] for first in (*range(2 * banks), *range(-banks, 0))
    ]
    for first, jump in itertools.product(range(banks), repeat=2):
        distance = banks * rng.randrange(count)
        reads.append([(first + slot + (distance if slot >= jump else 0)) % count for slot in range(banks)])
    reads += [
        [(first + slot + banks * rng.randrange(count)) % count for slot in range(banks)]
        for first in range(banks)
    ]
    rng.shuffle(reads)
    dut = Scratchpad(machine)

    async def bench(ctx: SimulatorContext) -> None:
        ports = Ports(dut, ctx)
        await ports.fill()
        for number in range(len(reads) + READ_LATENCY):
            if number < len(reads):
                ports.read(reads[number])
            if number >= READ_LATENCY:
                assert ports.words() == [word_of(address) for address in reads[number - READ_LATENCY]]
            await ports.tick()

    simulate(dut, bench)


@machines
def test_slots_that_do_not_fit(machine: Machine) -> None:
    """An address in the wrong bank, or beyond the scratchpad, spoils no other slot; nor does anything
    without ``read_all``."""
    banks, count = machine.input_lanes, machine.scratchpad_words
    rng = random.Random(2)
    reads: list[tuple[list[int], set[int]]] = []
    for first, wrong in itertools.product(
        range(3, 3 + banks), range(1 << banks) if banks < 8 else (1, 2, 90, 254)
    ):
        addresses, right = [], set()
        for slot in range(banks):
            if not wrong >> slot & 1:
                addresses.append(first + slot)
                right.add(slot)
            elif slot == 0:  # its bank is right, whatever it is
                addresses.append(first + count * rng.randrange(1, (1 << ADDRESS_WIDTH) // count))
            else:
                addresses.append(rng.randrange(1 << ADDRESS_WIDTH))
        reads.append((addresses, right))
    alone = [number % 3 == 2 for number in range(len(reads))]
    dut = Scratchpad(machine)

    async def bench(ctx: SimulatorContext) -> None:
        ports = Ports(dut, ctx)
        await ports.fill()
        for number in range(len(reads) + READ_LATENCY):
            if number < len(reads):
                ports.read(reads[number][0], read_all=not alone[number])
            if number >= READ_LATENCY:
                addresses, right = reads[number - READ_LATENCY]
                for slot in right & {0} if alone[number - READ_LATENCY] else right:
                    assert ports.words()[slot] == word_of(addresses[slot]), (addresses, slot)
            await ports.tick()

    simulate(dut, bench)


@machines
def test_who_is_refused(machine: Machine) -> None:
    """All ways to share banks: compute, load and store each in one of three or idle, whoever was last."""
    banks = machine.input_lanes
    choices = [None, 0, 1, banks - 1]
    rng = random.Random(3)
    dut = Scratchpad(machine)

    async def bench(ctx: SimulatorContext) -> None:
        ports = Ports(dut, ctx)
        await ports.fill()
        for compute, load, store in itertools.product(choices, repeat=3):
            for writes, last in itertools.product((False, True), ("load", "store", "both")):
                if last != "store":
                    ports.load(0, word_of(0))
                if last != "load":
                    ports.store(1)
                await ports.tick()
                for _ in range(rng.randrange(2)):  # nobody is served, and it is not forgotten
                    await ports.tick()
                load_last = last != "store"
                # asked until both have been served: if they want one bank, in two cycles
                turns = 0
                # each in a row of its own
                at, load_at, store_at = (
                    banks * rng.randrange(8) + (bank or 0) for bank in (compute, load, store)
                )
                load_waits, store_waits = load is not None, store is not None
                while load_waits or store_waits:
                    busy = compute if turns == 0 else None
                    if busy is not None and writes:
                        ports.compute_writes(at, word_of(at))
                    elif busy is not None:
                        ports.compute_reads(at)
                        ports.answer(dut.compute.residual_data, word_of(at))
                    if load_waits:
                        ports.load(load_at, word_of(load_at))
                    if store_waits:
                        ports.store(store_at)
                    both = load_waits and store_waits and load == store
                    load_may = load_waits and busy != load and not (both and load_last)
                    store_may = store_waits and busy != store and not (both and not load_last)
                    case = compute, load, store, writes, last
                    assert not load_waits or ctx.get(dut.write.ready) == load_may, case
                    assert not store_waits or ctx.get(dut.read.ready) == store_may, case
                    if load_may or store_may:
                        load_last = load_may
                    if store_may:
                        ports.answer(dut.read_valid, 1)
                        ports.answer(dut.read_data, word_of(store_at))
                    load_waits, store_waits = load_waits and not load_may, store_waits and not store_may
                    await ports.tick()
                    turns += 1
                assert turns <= 3
        # nothing went to a wrong place
        for address in range(0, machine.scratchpad_words + 2 * READ_LATENCY):
            ports.read([(address + slot) % machine.scratchpad_words for slot in range(banks)])
            if address >= READ_LATENCY:
                at = address - READ_LATENCY
                expected = [word_of((at + slot) % machine.scratchpad_words) for slot in range(banks)]
                assert ports.words() == expected
            await ports.tick()

    simulate(dut, bench)


@machines
def test_a_refused_load_writes_nothing(machine: Machine) -> None:
    dut = Scratchpad(machine)

    async def bench(ctx: SimulatorContext) -> None:
        ports = Ports(dut, ctx)
        await ports.fill()
        bank, row = 2, machine.input_lanes
        for _ in range(5):
            ports.compute_reads(bank + row)
            ports.load(bank, word_of(bank, 1))
            ports.store(bank + 2 * row)
            assert not ctx.get(dut.write.ready)
            assert not ctx.get(dut.read.ready)
            await ports.tick()
        ports.store(bank)
        for cycle in range(PORT_B_LATENCY + 3):
            assert ctx.get(dut.read_valid) == (cycle == PORT_B_LATENCY)
            if cycle == PORT_B_LATENCY:
                assert ctx.get(dut.read_data) == word_of(bank)
            if PORT_B_LATENCY - 5 <= cycle < PORT_B_LATENCY - 2:
                assert ctx.get(dut.compute.residual_data) == word_of(bank + row)
            await ports.tick()

    simulate(dut, bench)


@machines
@pytest.mark.parametrize("writer", ["compute", "load"])
@pytest.mark.parametrize("reader", ["port A", "residual", "store"])
def test_a_word_is_there_in_the_next_cycle(machine: Machine, writer: str, reader: str) -> None:
    """Written in one cycle, read in the next, and another one written in that one elsewhere."""
    banks = machine.input_lanes
    dut = Scratchpad(machine)

    async def bench(ctx: SimulatorContext) -> None:
        ports = Ports(dut, ctx)
        await ports.fill()
        for version in range(1, 4):
            for address in range(2 * banks + 3):
                word = word_of(address, version)
                if writer == "compute":
                    ports.compute_writes(address, word)
                else:
                    ports.load(address, word)
                    assert ctx.get(dut.write.ready)
                await ports.tick()
                if reader == "port A":  # one of the slots reads it
                    slot = (address + version) % banks
                    ports.read([address - slot + other & 0xFFFF for other in range(banks)])
                    ports.answer(dut.compute.read_data[slot], word, READ_LATENCY)
                elif reader == "residual":
                    ports.compute_reads(address)
                    ports.answer(dut.compute.residual_data, word)
                else:
                    ports.store(address)
                    ports.answer(dut.read_data, word)
                    assert ctx.get(dut.read.ready)
                ports.load(address + 1 + 4 * banks, word_of(address, 7))
                assert ctx.get(dut.write.ready)
                await ports.tick()
        for _ in range(PORT_B_LATENCY):
            await ports.tick()
        assert not ports.answers

    simulate(dut, bench)


@machines
def test_reset_of_one_cycle(machine: Machine) -> None:
    """Store gets no word that it asked for before; it is load's turn; words stay."""
    dut = Scratchpad(machine)
    reset = Signal()
    top = Module()
    top.submodules.scratchpad = ResetInserter(reset)(dut)

    async def bench(ctx: SimulatorContext) -> None:
        ports = Ports(dut, ctx)
        await ports.fill()
        for before in range(PORT_B_LATENCY + 1):
            ports.load(1, word_of(1))
            await ports.tick()
            ports.store(before)
            assert ctx.get(dut.read.ready)
            await ports.tick()
            for _ in range(before):
                await ports.tick()
            ctx.set(reset, 1)
            await ports.tick()
            ctx.set(reset, 0)
            # the first to be served is load
            ports.load(1, word_of(1))
            ports.store(1)
            assert ctx.get(dut.write.ready)
            assert not ctx.get(dut.read.ready)
            for _ in range(PORT_B_LATENCY + 1):
                assert not ctx.get(dut.read_valid)
                await ports.tick()
        for address in range(machine.scratchpad_words + PORT_B_LATENCY):
            if address < machine.scratchpad_words:
                ports.store(address)
            if address >= PORT_B_LATENCY:
                assert ctx.get(dut.read_valid)
                assert ctx.get(dut.read_data) == word_of(address - PORT_B_LATENCY)
            await ports.tick()

    simulate(top, bench)
