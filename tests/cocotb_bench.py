"""What cocotb benches share: stalls, streams, clock and reset, memory that fails."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiRamRead, AxiRamWrite

__all__ = [
    "FaultyRamRead",
    "FaultyRamWrite",
    "Receiver",
    "Sender",
    "never",
    "pauses",
    "quiet",
    "reset",
    "start_clock",
]


def pauses(seed: int) -> Iterator[int]:
    """1 in cycles in which a channel stands still: long runs of either, and fast changes."""
    source = random.Random(seed)
    while True:
        chance = source.choice((0.0, 0.2, 0.5, 0.9))
        for _ in range(source.randrange(1, 60)):
            yield int(source.random() < chance)


def never() -> Iterator[int]:
    """A channel that never stands still."""
    while True:
        yield 0


def start_clock(dut: Any) -> None:
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())


async def reset(dut: Any, tasks: Iterable[Any] = (), low: Iterable[str] = ()) -> None:
    """Reset for some cycles, after ending ``tasks`` and driving the inputs ``low`` low.

    Returns behind an edge at which reset is low.
    """
    for task in tasks:
        task.cancel()
    for name in low:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


class Sender:
    """Offers payloads on a stream, with pauses between them only: what is offered stays."""

    def __init__(self, dut: Any, name: str, stalls: Iterator[int]) -> None:
        self.dut = dut
        self.valid = getattr(dut, f"{name}_valid")
        self.ready = getattr(dut, f"{name}_ready")
        self.payload = getattr(dut, f"{name}_payload")
        self.stalls = stalls
        self.queue: deque[int] = deque()
        self.sent = 0
        self.valid.value = 0
        self.task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self.dut.clk)
        offered = False
        while True:
            await edge
            if offered and int(self.ready.value):
                offered = False
                self.sent += 1
                self.valid.value = 0
            if not offered and self.queue and not next(self.stalls):
                self.payload.value = self.queue.popleft()
                self.valid.value = 1
                offered = True


class Receiver:
    """Takes payloads from a stream with pauses, and checks that what is offered stays."""

    def __init__(self, dut: Any, name: str, stalls: Iterator[int], take: Callable[[int], None]) -> None:
        self.dut = dut
        self.name = name
        self.valid = getattr(dut, f"{name}_valid")
        self.ready = getattr(dut, f"{name}_ready")
        self.payload = getattr(dut, f"{name}_payload")
        self.stalls = stalls
        self.take = take
        self.taken = 0
        self.ready.value = 0
        self.task = cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self.dut.clk)
        ready = 0
        waiting: int | None = None
        while True:
            await edge
            valid = int(self.valid.value)
            if valid:
                payload = int(self.payload.value)
                assert waiting in (None, payload), f"{self.name} changed before it was taken"
                waiting = payload
                if ready:
                    self.take(payload)
                    self.taken += 1
                    waiting = None
            else:
                assert waiting is None, f"{self.name} went away before it was taken"
            ready = 1 - next(self.stalls)
            self.ready.value = ready


class FaultyRamRead(AxiRamRead):
    """Read RAM that answers SLVERR where ``bad(address)``."""

    bad: Callable[[int], bool] = staticmethod(lambda address: False)

    async def _read(self, address: int, length: int) -> Any:
        if self.bad(address):
            raise ValueError("injected read error")
        return await super()._read(address, length)


class FaultyRamWrite(AxiRamWrite):
    """Write RAM that answers SLVERR where ``bad(address)``, and writes nothing there."""

    bad: Callable[[int], bool] = staticmethod(lambda address: False)

    async def _write(self, address: int, data: bytes) -> None:
        if self.bad(address):
            raise ValueError("injected write error")
        await super()._write(address, data)


def quiet(*interfaces: Any) -> None:
    """No log entry for every access."""
    for interface in interfaces:
        interface.log.setLevel("ERROR")
