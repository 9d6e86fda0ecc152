"""The scratchpad against a list: compute on both ports, load and store on what is left of port B.

Run by `test_scratchpad_cocotb.py`; ``$MACHINE`` is the machine in JSON.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotb_bench import pauses, reset, start_clock
from scratchpad_places import place_of, unwanted

from hw.dual_port_memory import PLACES_LATENCY
from hw.machine import Machine
from hw.scratchpad import ADDRESS_WIDTH, PORT_B_LATENCY, READ_LATENCY

MACHINE = Machine.from_json(json.loads(os.environ["MACHINE"]))
WORDS = MACHINE.scratchpad_words
BANKS = MACHINE.input_lanes
BITS = 8 * MACHINE.word_bytes

#: A word, or None if it may be any.
Word = int | None


class Bench:
    """Drives all inputs for one cycle after another, and knows what each output must be.

    ``writes``, ``residuals`` and ``wishes`` are the probabilities that compute writes, that it reads a
    residual, and that load and store each want something, in cycles in which they are not paused.
    """

    def __init__(self, dut: Any, seed: int, writes: float, residuals: float, wishes: float) -> None:
        self.dut = dut
        self.rng = random.Random(seed)
        self.writes, self.residuals, self.wishes = writes, residuals, wishes
        self.stalls: list[Iterator[int]] = [pauses(1000 * seed + number) for number in range(4)]
        self.words: list[Word] = [None] * WORDS  # not written yet: unknown
        self.port_a: deque[list[Word]] = deque([[None] * BANKS for _ in range(READ_LATENCY)])
        self.residual: deque[Word] = deque([None] * PORT_B_LATENCY)
        self.store: deque[tuple[Word] | None] = deque([None] * PORT_B_LATENCY)
        self.newest: list[int] = []  # written in the last cycle
        self.on_their_way: deque[list[int]] = deque(maxlen=1 + PLACES_LATENCY)  # in the last ones
        self.load_was_last = False
        self.bank = 0  # where most want to go
        #: How often each thing happened that must not be missing.
        self.seen: Counter[str] = Counter()

    def _address(self) -> int:
        """Any word, or one of a bank that is busy, one of few, the last one, one that was just written."""
        rng = self.rng
        if rng.random() < 0.05:
            self.bank = rng.randrange(BANKS)
        among = rng.choice((WORDS, 2 * BANKS))
        choices = [rng.randrange(among), rng.randrange(0, among, BANKS) + self.bank, WORDS - 1]
        return rng.choice(choices + self.newest)

    def _slots(self) -> tuple[list[int], list[bool]]:
        """The addresses of a read of all words, and which of them fit their bank and the scratchpad.

        They are consecutive, or jump as at the end of a kernel's row, or are anywhere.
        """
        rng = self.rng
        first = self._address()
        if self.newest and rng.random() < 0.3:  # a word that was just written, in any slot
            first = (rng.choice(self.newest) - rng.randrange(BANKS)) % WORDS
        addresses = [(first + slot) % (1 << ADDRESS_WIDTH) for slot in range(BANKS)]
        kind = rng.random()
        if kind < 0.5:
            jump = rng.randrange(BANKS)
            for slot in range(jump, BANKS):
                addresses[slot] = (addresses[slot] + BANKS * rng.randrange(WORDS)) % WORDS
        elif kind < 0.7:
            addresses = [(first + slot + BANKS * rng.randrange(WORDS)) % WORDS for slot in range(BANKS)]
        # some lie elsewhere, which must not disturb the others
        wrong = rng.choice((0.0, 0.0, 0.2, 0.9))
        for slot in range(BANKS):
            if rng.random() < wrong:
                addresses[slot] = rng.randrange(1 << ADDRESS_WIDTH)
        fit = [at < WORDS and (at - addresses[0] - slot) % BANKS == 0 for slot, at in enumerate(addresses)]
        return addresses, fit

    async def run(self, cycles: int) -> None:
        dut, rng, seen = self.dut, self.rng, self.seen
        edge = RisingEdge(dut.clk)
        load: tuple[int, int] | None = None  # kept until they are taken
        store: int | None = None
        loaded = 0  # the word whose place was taken in the last cycle
        for _ in range(cycles):
            # what everybody wants in this cycle
            busy, load_rests, store_rests, reads = (not next(stall) for stall in self.stalls)
            choice = rng.random()
            write = (self._address(), rng.getrandbits(BITS)) if busy and choice < self.writes else None
            residual = None
            if busy and not write and choice < self.writes + self.residuals:
                residual = self._address()
            if load is None and not load_rests and rng.random() < self.wishes:
                load = self._address(), rng.getrandbits(BITS)
            if store is None and not store_rests and rng.random() < self.wishes:
                store = self._address()
            addresses, fit = self._slots()
            read_all = bool(rng.getrandbits(1))
            dut.compute_write_enable.value = write is not None
            address, dut.compute_write_data.value = write or self._garbage()
            place = place_of(address if residual is None else residual, BANKS)
            used = write is not None or residual is not None
            dut.compute_b_place.value = place if used else unwanted(place, BANKS)
            dut.compute_residual_enable.value = residual is not None
            dut.compute_read_enable.value = reads
            dut.compute_read_all.value = read_all
            dut.compute_read_addresses.value = sum(
                address << ADDRESS_WIDTH * slot for slot, address in enumerate(addresses)
            )
            dut.write_valid.value = load is not None
            garbage = unwanted(place_of(self._garbage()[0], BANKS), BANKS)
            dut.write_payload.value = garbage if load is None else place_of(load[0], BANKS)
            dut.write_data.value = loaded
            dut.read_valid.value = store is not None
            dut.read_payload.value = garbage if store is None else place_of(store, BANKS)
            await edge

            # what they get
            self._check_words()
            load_done = load is not None and bool(int(dut.write_ready.value))
            store_done = store is not None and bool(int(dut.read_ready.value))
            compute = write[0] if write else residual
            taken = None if compute is None else compute % BANKS
            load_bank = None if load is None else load[0] % BANKS
            store_bank = None if store is None else store % BANKS
            together = load_bank is not None and load_bank == store_bank
            load_may = load is not None and load_bank != taken and not (together and self.load_was_last)
            store_may = (
                store is not None and store_bank != taken and not (together and not self.load_was_last)
            )
            assert load_done == load_may, "load"
            assert store_done == store_may, "store"
            if load_done or store_done:
                self.load_was_last = load_done
            seen["load and store in one cycle"] += load_done and store_done
            seen["in turn"] += together and load_done != store_done
            seen["all three"] += load_done and store_done and taken is not None
            seen["refused for compute"] += taken is not None and taken in (load_bank, store_bank)

            # what that does
            written = [done for done in (write, load if load_done else None) if done is not None]
            unknown = {address for address, _ in written}  # read in the cycle in which it is written
            port_a: list[Word] = [None] * BANKS
            for slot, at in enumerate(addresses):
                if reads and fit[slot] and (slot == 0 or read_all) and at not in unknown:
                    port_a[slot] = self.words[at]
                    seen["newest word, port A"] += at in self.newest
                    seen["behind a wrong one"] += slot > 0 and not all(fit[:slot])
            self.port_a.append(port_a)
            self.residual.append(None if residual is None else self.words[residual])
            self.store.append((self.words[store],) if store_done and store is not None else None)
            seen["newest word, store"] += store_done and store in self.newest
            seen["newest word, residual"] += residual in self.newest
            self.newest = sorted(unknown)
            self.on_their_way.append(self.newest)
            for address, word in written:
                self.words[address] = word
            seen["write"] += write is not None
            seen["load"] += load_done
            seen["store"] += store_done
            loaded = load[1] if load_done and load is not None else self._garbage()[1]
            load = None if load_done else load
            store = None if store_done else store

    def _check_words(self) -> None:
        dut = self.dut
        words = int(dut.compute_read_data.value)
        for slot, expected in enumerate(self.port_a.popleft()):
            if expected is not None:
                self.seen["port A"] += 1
                assert words >> BITS * slot & (1 << BITS) - 1 == expected, f"slot {slot}"
        expected = self.residual.popleft()
        if expected is not None:
            self.seen["residual"] += 1
            assert int(dut.compute_residual_data.value) == expected, "residual"
        answer = self.store.popleft()
        assert int(dut.word_valid.value) == (answer is not None)
        if answer is not None and answer[0] is not None:
            assert int(dut.word.value) == answer[0], "store"

    def _garbage(self) -> tuple[int, int]:
        return self.rng.randrange(1 << ADDRESS_WIDTH), self.rng.getrandbits(BITS)


INPUTS = (
    "compute_read_enable",
    "compute_write_enable",
    "compute_residual_enable",
    "write_valid",
    "read_valid",
)

#: What does not happen if compute does not use port B, or does not write.
NOT_WITHOUT_COMPUTE = {"all three", "refused for compute", "residual", "newest word, residual", "write"}
EVERYTHING = NOT_WITHOUT_COMPUTE | {
    "port A",
    "newest word, port A",
    "behind a wrong one",
    "load",
    "store",
    "load and store in one cycle",
    "in turn",
    "newest word, store",
}


@cocotb.test()
@cocotb.parametrize(
    (
        ("seed", "writes", "residuals", "wishes"),
        [
            (1, 0.0, 0.0, 1.0),
            (2, 0.3, 0.3, 0.7),
            (3, 0.7, 0.25, 0.9),
            (4, 0.1, 0.5, 0.5),
            (5, 0.5, 0.5, 1.0),
            (6, 0.2, 0.1, 1.0),
        ],
    )
)
async def random_accesses(dut: Any, seed: int, writes: float, residuals: float, wishes: float) -> None:
    start_clock(dut)
    await reset(dut, low=INPUTS)
    bench = Bench(dut, seed, writes, residuals, wishes)
    await bench.run(6000)
    expected = EVERYTHING if writes else EVERYTHING - NOT_WITHOUT_COMPUTE
    assert all(bench.seen[name] >= 10 for name in expected), bench.seen


@cocotb.test()
@cocotb.parametrize(seed=[7])
async def reset_in_the_middle(dut: Any, seed: int) -> None:
    """Words stay, answers that were on their way do not come."""
    start_clock(dut)
    words: list[Word] = [None] * WORDS
    for cycles in (300, 1, 2, 3, 57, 2, 5, 1500):
        await reset(dut, low=INPUTS)
        bench = Bench(dut, seed + cycles, 0.3, 0.3, 0.8)
        bench.words = words
        await bench.run(cycles)
        for written in bench.on_their_way:  # may have been lost
            for address in written:
                words[address] = None
