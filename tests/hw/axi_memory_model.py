"""External memory on AXI4 for Amaranth's simulator, with random stalls and checks of the protocol."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from amaranth.sim import Simulator

__all__ = ["AxiMemory"]

OKAY, SLVERR = 0, 2


@dataclass
class AxiMemory:
    """Memory behind the read channels, the write channels or both.

    ``stall`` is the probability that a channel is held back in a cycle, ``latency`` the range of
    cycles from an address to its data and from the last data to its response.  Addresses for which
    ``bad_read``, ``bad_write`` are true are answered with SLVERR.
    """

    content: bytearray
    bus_bytes: int
    seed: int = 0
    stall: float = 0.0
    latency: tuple[int, int] = (2, 2)
    outstanding: int = 64
    bad_read: Callable[[int], bool] = lambda address: False
    bad_write: Callable[[int], bool] = lambda address: False
    read_bursts: list[tuple[int, int]] = field(default_factory=list)  # address, beats
    write_bursts: list[tuple[int, int]] = field(default_factory=list)
    read_cycles: list[int] = field(default_factory=list)  # in which a beat was taken
    unanswered: int = 0

    def attach_read(self, sim: Simulator, axi: Any) -> None:
        """Answer the AR and R channels of ``axi``."""

        async def process(ctx: Any) -> None:
            await self._read(ctx, axi)

        sim.add_process(process)

    def attach_write(self, sim: Simulator, axi: Any) -> None:
        """Answer the AW, W and B channels of ``axi``."""

        async def process(ctx: Any) -> None:
            await self._write(ctx, axi)

        sim.add_process(process)

    def _check_address(self, address: int, length: int, size: int, burst: int) -> None:
        assert burst == 1, "bursts are INCR"
        assert 1 << size == self.bus_bytes, "beats are as wide as the bus"
        assert address % self.bus_bytes == 0, f"address {address:#x} is not that of a whole beat"
        end = address + (length + 1) * self.bus_bytes
        assert address // 4096 == (end - 1) // 4096, f"burst {address:#x} to {end:#x} crosses 4 KB"
        assert end <= len(self.content), f"burst {address:#x} to {end:#x} is outside memory"

    async def _read(self, ctx: Any, axi: Any) -> None:
        rng = random.Random(self.seed)
        bursts: deque[tuple[int, int, int]] = deque()  # first cycle, address, beats left
        ready, valid = False, False
        held: tuple[int, ...] | None = None
        cycle = 0
        async for _, rst, ar_valid, ar_address, ar_length, ar_size, ar_burst, r_ready in ctx.tick().sample(
            axi.arvalid, axi.araddr, axi.arlen, axi.arsize, axi.arburst, axi.rready
        ):
            cycle += 1
            if rst:
                bursts.clear()
                ready = valid = False
                held = None
                ctx.set(axi.arready, 0)
                ctx.set(axi.rvalid, 0)
                continue
            request = (ar_address, ar_length, ar_size, ar_burst)
            if held is not None:
                assert (ar_valid, request) == (1, held), "AR changed before it was accepted"
            held = request if ar_valid and not ready else None
            if ar_valid and ready:
                self._check_address(*request)
                self.read_bursts.append((ar_address, ar_length + 1))
                due = cycle + rng.randint(*self.latency)
                bursts.append((due, ar_address, ar_length + 1))
            if valid and r_ready:
                self.read_cycles.append(cycle)
                valid = False
                due, address, left = bursts.popleft()
                if left > 1:
                    bursts.appendleft((due, address + self.bus_bytes, left - 1))
            if not valid and bursts and bursts[0][0] <= cycle + 1 and rng.random() >= self.stall:
                _, address, left = bursts[0]
                valid = True
                ctx.set(axi.rdata, int.from_bytes(self.content[address : address + self.bus_bytes], "little"))
                ctx.set(axi.rresp, SLVERR if self.bad_read(address) else OKAY)
                ctx.set(axi.rlast, left == 1)
            ready = len(bursts) < self.outstanding and rng.random() >= self.stall
            ctx.set(axi.rvalid, valid)
            ctx.set(axi.arready, ready)

    async def _write(self, ctx: Any, axi: Any) -> None:
        rng = random.Random(self.seed + 1)
        addresses: deque[tuple[int, int]] = deque()  # address, beats
        data: list[tuple[int, int]] = []  # data and strobes of the burst that is coming in
        answers: deque[tuple[int, int]] = deque()  # first cycle, response
        aw_ready, w_ready, valid = False, False, False
        held: tuple[int, ...] | None = None
        held_data: tuple[int, ...] | None = None
        cycle = 0
        async for (
            _,
            rst,
            aw_valid,
            aw_address,
            aw_length,
            aw_size,
            aw_burst,
            w_valid,
            w_data,
            w_strobes,
            w_last,
            b_ready,
        ) in ctx.tick().sample(
            axi.awvalid,
            axi.awaddr,
            axi.awlen,
            axi.awsize,
            axi.awburst,
            axi.wvalid,
            axi.wdata,
            axi.wstrb,
            axi.wlast,
            axi.bready,
        ):
            cycle += 1
            if rst:
                addresses.clear()
                data.clear()
                answers.clear()
                aw_ready = w_ready = valid = False
                held = held_data = None
                for signal in (axi.awready, axi.wready, axi.bvalid):
                    ctx.set(signal, 0)
                continue
            request = (aw_address, aw_length, aw_size, aw_burst)
            if held is not None:
                assert (aw_valid, request) == (1, held), "AW changed before it was accepted"
            held = request if aw_valid and not aw_ready else None
            if aw_valid and aw_ready:
                self._check_address(*request)
                self.write_bursts.append((aw_address, aw_length + 1))
                addresses.append((aw_address, aw_length + 1))
            beat = (w_data, w_strobes, w_last)
            if held_data is not None:
                assert (w_valid, beat) == (1, held_data), "W changed before it was accepted"
            held_data = beat if w_valid and not w_ready else None
            if valid and b_ready:
                valid = False
                answers.popleft()
            if w_valid and w_ready:
                data.append((w_data, w_strobes))
                if w_last:
                    self._finish(addresses, data, answers, cycle + rng.randint(*self.latency))
            if not valid and answers and answers[0][0] <= cycle + 1 and rng.random() >= self.stall:
                valid = True
                ctx.set(axi.bresp, answers[0][1])
            # data is taken only behind its address, so that a burst is finished when its last beat comes
            aw_ready = len(addresses) + len(answers) < self.outstanding and rng.random() >= self.stall
            w_ready = bool(addresses) and rng.random() >= self.stall
            self.unanswered = len(answers)
            ctx.set(axi.bvalid, valid)
            ctx.set(axi.awready, aw_ready)
            ctx.set(axi.wready, w_ready)

    def _finish(
        self,
        addresses: deque[tuple[int, int]],
        data: list[tuple[int, int]],
        answers: deque[tuple[int, int]],
        due: int,
    ) -> None:
        address, beats = addresses.popleft()
        assert len(data) == beats, f"WLAST after {len(data)} beats of {beats}"
        for number, (value, strobes) in enumerate(data):
            for byte in range(self.bus_bytes):
                if strobes >> byte & 1:
                    self.content[address + number * self.bus_bytes + byte] = value >> 8 * byte & 0xFF
        data.clear()
        answers.append((due, SLVERR if self.bad_write(address) else OKAY))
