"""What crosses the memory bus: beats and bursts of an instruction, and how fast a memory moves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hw.isa import NARROW_BYTES, Instruction, Opcode
from hw.machine import Machine

__all__ = ["LONGEST_BURST", "Bus", "MemoryTiming", "Transfer", "transfer_of"]

#: Beats in the longest burst of load, weights and store; bursts end where this divides the address.
LONGEST_BURST = 64
#: Banks of an SDRAM whose rows have to be opened again after a refresh, on average.
_OPENED_AGAIN = 2


class MemoryTiming(Protocol):
    """The part of `sim.memory_settings.MemorySettings` that matters here; times in core cycles."""

    @property
    def read_latency(self) -> int: ...
    @property
    def write_latency(self) -> int: ...
    @property
    def outstanding(self) -> int: ...
    @property
    def stall_cycles(self) -> int: ...
    @property
    def stall_period(self) -> int: ...
    @property
    def sdram_bytes(self) -> int: ...
    @property
    def sdram_beat_overhead(self) -> int: ...
    @property
    def sdram_row_bytes(self) -> int: ...
    @property
    def sdram_row_miss(self) -> int: ...
    @property
    def sdram_row_open(self) -> int: ...
    @property
    def sdram_turnaround(self) -> int: ...
    @property
    def sdram_refresh_period(self) -> int: ...
    @property
    def sdram_refresh(self) -> int: ...


@dataclass(frozen=True)
class Transfer:
    """Beats of one LOAD, STORE or WEIGHTS, the bursts they are cut into, and separate runs of addresses.

    ``beat_cycles``: least cycles of a beat, however fast the memory: of a narrow LOAD, one for each word.
    """

    beats: int
    bursts: int
    runs: int
    beat_cycles: int = 1


def transfer_of(instruction: Instruction, machine: Machine) -> Transfer:
    """What a LOAD, a STORE or a WEIGHTS moves."""
    i, bus_bytes = instruction, machine.bus_bytes
    if i.opcode is Opcode.WEIGHTS:
        sizes = np.array([machine.parameter_bytes, i["words"] * machine.weight_word_bytes]) // bus_bytes
        blocks = np.arange(i["blocks"])[:, None]
        starts = i["memory_address"] // bus_bytes + blocks * sizes.sum() + [0, sizes[0]]
        return Transfer(int(i["blocks"] * sizes.sum()), _bursts(starts[:, sizes > 0], sizes[sizes > 0]), 1)
    beats, beat_cycles = i["words"] * machine.beats_per_word, 1
    if i.opcode is Opcode.LOAD and i["narrow"]:
        beats, beat_cycles = i["words"] * NARROW_BYTES // bus_bytes, bus_bytes // NARROW_BYTES
    starts = (
        i["memory_address"]
        + np.arange(i["planes"])[:, None] * i["memory_plane_step"]
        + np.arange(i["rows"]) * i["memory_row_step"]
    ) // bus_bytes
    return Transfer(beats * starts.size, _bursts(starts, np.array(beats)), starts.size, beat_cycles)


def _bursts(starts: NDArray[np.int64], beats: NDArray[np.int64]) -> int:
    """Bursts of the runs that begin at these beats of the memory."""
    return int(((starts + beats - 1) // LONGEST_BURST - starts // LONGEST_BURST + 1).sum())


class Bus:
    """How the flows of beats share a memory.

    Readers share in proportion to the bursts that they have on their way (`shares`).  Writes have their own
    channel and go at the same time, unless the memory is an SDRAM: then bursts of the writer take turns with
    those of the readers together.

    Attributes
    ----------
    one_direction : bool
        An SDRAM: reads and writes share it.
    beat_cycles : float
        Cycles of a beat in a long burst.
    slots : int
        Reading bursts on their way at a time: those that the memory accepts, and one waiting for it.
    """

    def __init__(self, machine: Machine, memory: MemoryTiming) -> None:
        self.memory = memory
        self.bus_bytes = machine.bus_bytes
        self.one_direction = memory.sdram_bytes > 0
        self.slots = memory.outstanding + 1
        self.beat_cycles = 1.0
        if self.one_direction:
            self.beat_cycles = max(machine.bus_bytes // memory.sdram_bytes, 1) + memory.sdram_beat_overhead
            if memory.sdram_refresh_period:
                lost = memory.sdram_refresh + _OPENED_AGAIN * memory.sdram_row_open
                self.beat_cycles /= 1 - lost / memory.sdram_refresh_period
        elif memory.stall_period:
            self.beat_cycles = memory.stall_period / (memory.stall_period - memory.stall_cycles)

    def burst_cycles(self, transfer: Transfer) -> float:
        """Cycles of an average burst of a transfer."""
        cycles = transfer.beats / transfer.bursts * self.beat_cycles
        if self.one_direction:
            rows = max(transfer.beats * self.bus_bytes / self.memory.sdram_row_bytes, transfer.runs)
            cycles += min(rows / transfer.bursts, 1.0) * self.memory.sdram_row_miss
        return cycles

    def shares(self, rooms: Sequence[float]) -> list[float]:
        """Bursts of each reader that are on their way while all want more, first those served first.

        Parameters
        ----------
        rooms : sequence of float
            Most that each may have.
        """
        free, found = float(self.slots), list[float]()
        for room in rooms:
            found.append(min(room, free))
            free -= found[-1]
        return found

    def turns(
        self, reads: Sequence[tuple[float, float]], write: float | None, free: float
    ) -> tuple[float, float]:
        """Cycles of one turn of all readers, and from one burst of the writer to its next.

        Parameters
        ----------
        reads : sequence of (float, float)
            For each reader that wants to move, its bursts in a turn and `burst_cycles`.
        write : float or None
            Those of the writer; None: it has nothing to move.
        free : float
            Share of the memory's time that they have.
        """
        free = max(free, 1e-9)
        turn = sum(bursts * cycles for bursts, cycles in reads)
        if write is None or not self.one_direction:
            return turn / free, write or 0.0
        if not reads:
            return 0.0, write / free
        # one burst of a reader, one of the writer
        bursts = sum(bursts for bursts, _ in reads)
        period = (turn / bursts + write + 2 * self.memory.sdram_turnaround) / free
        return bursts * period, period
