"""The scratchpad against a list: compute on both ports, load and store on what is left of port B.

Run by `test_scratchpad_cocotb.py`; ``$MACHINE`` is the machine in JSON.
"""

from __future__ import annotations

import json
import os
import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotb_bench import pauses, reset, start_clock

from hw.dual_port_memory import READ_LATENCY
from hw.machine import Machine

MACHINE = Machine.from_json(json.loads(os.environ["MACHINE"]))
WORDS = MACHINE.scratchpad_words
BITS = 8 * MACHINE.word_bytes


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
        self.words: list[int | None] = [None] * WORDS  # not written yet: unknown
        self.port_a: deque[int | None] = deque([None] * READ_LATENCY)
        self.residual: deque[int | None] = deque([None] * READ_LATENCY)
        self.store: deque[tuple[int | None] | None] = deque([None] * READ_LATENCY)
        self.newest: set[int] = set()  # written in the last cycle: port A sees them one cycle later
        self.waits = {"load": 0, "store": 0}
        self.taken = {"load": 0, "store": 0, "port_a": 0, "residual": 0, "compute": 0}

    def _address(self) -> int:
        # few addresses, so that words are read soon after they were written
        return self.rng.choice((self.rng.randrange(8), self.rng.randrange(WORDS)))

    async def run(self, cycles: int) -> None:
        dut, rng = self.dut, self.rng
        edge = RisingEdge(dut.clk)
        load: tuple[int, int] | None = None  # kept until they are taken
        store: int | None = None
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
            read = self._address() if reads else None
            written = write or load
            if read in self.newest or (written and read == written[0]):
                read = None
            dut.compute_write_enable.value = write is not None
            dut.compute_write_address.value, dut.compute_write_data.value = write or self._garbage()
            dut.compute_residual_enable.value = residual is not None
            dut.compute_residual_address.value = self._garbage()[0] if residual is None else residual
            dut.compute_read_enable.value = read is not None
            dut.compute_read_address.value = self._garbage()[0] if read is None else read
            dut.write_valid.value = load is not None
            address, word = load or self._garbage()
            dut.write_payload.value = address | word << 16
            dut.read_valid.value = store is not None
            dut.read_payload.value = self._garbage()[0] if store is None else store
            await edge

            # what they get
            for name, handle, pipeline in (
                ("port_a", dut.compute_read_data, self.port_a),
                ("residual", dut.compute_residual_data, self.residual),
            ):
                expected = pipeline.popleft()
                if expected is not None:
                    self.taken[name] += 1
                    assert int(handle.value) == expected, name
            answer = self.store.popleft()
            assert int(dut.word_valid.value) == (answer is not None)
            if answer is not None and answer[0] is not None:
                assert int(dut.word.value) == answer[0], "store"
            load_done = load is not None and bool(int(dut.write_ready.value))
            store_done = store is not None and bool(int(dut.read_ready.value))
            free = write is None and residual is None
            wanted = load is not None or store is not None
            assert load_done + store_done == int(free and wanted), "port B idle, or given twice"
            for name, wish, done in (
                ("load", load is not None, load_done),
                ("store", store is not None, store_done),
            ):
                self.waits[name] = self.waits[name] + 1 if wish and free and not done else 0
                assert self.waits[name] <= 1, f"{name} is not served in turn"

            # what that does
            self.port_a.append(None if read is None else self.words[read])
            self.residual.append(None if residual is None else self.words[residual])
            self.store.append((self.words[store],) if store_done and store is not None else None)
            self.newest.clear()
            for done in (write, load if load_done else None):
                if done is not None:
                    self.words[done[0]] = done[1]
                    self.newest.add(done[0])
            self.taken["compute"] += write is not None
            if load_done:
                load = None
                self.taken["load"] += 1
            if store_done:
                store = None
                self.taken["store"] += 1

    def _garbage(self) -> tuple[int, int]:
        return self.rng.randrange(WORDS), self.rng.getrandbits(BITS)


INPUTS = (
    "compute_read_enable",
    "compute_write_enable",
    "compute_residual_enable",
    "write_valid",
    "read_valid",
)


@cocotb.test()
@cocotb.parametrize(
    (
        ("seed", "writes", "residuals", "wishes"),
        [
            (1, 0.0, 0.0, 1.0),
            (2, 0.3, 0.3, 0.7),
            (3, 0.9, 0.05, 0.9),
            (4, 0.1, 0.5, 0.3),
            (5, 0.5, 0.5, 1.0),
            (6, 0.2, 0.1, 1.0),
        ],
    )
)
async def random_accesses(dut: Any, seed: int, writes: float, residuals: float, wishes: float) -> None:
    start_clock(dut)
    await reset(dut, low=INPUTS)
    bench = Bench(dut, seed, writes, residuals, wishes)
    await bench.run(4000)
    idle = {"compute"} if writes == 0 else set()
    idle |= {"residual"} if residuals == 0 else set()
    assert all(bench.taken[name] > 60 for name in bench.taken.keys() - idle), bench.taken


@cocotb.test()
@cocotb.parametrize(seed=[7])
async def reset_in_the_middle(dut: Any, seed: int) -> None:
    """Words stay, answers that were on their way do not come."""
    start_clock(dut)
    words: list[int | None] = [None] * WORDS
    for cycles in (300, 1, 2, 3, 57, 1500):
        await reset(dut, low=INPUTS)
        bench = Bench(dut, seed + cycles, 0.3, 0.3, 0.8)
        bench.words = words
        await bench.run(cycles)
        for address in bench.newest:  # may have been lost
            words[address] = None
