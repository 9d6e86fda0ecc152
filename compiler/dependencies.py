"""Dependency tokens: which instruction must wait for which, found from what each reads and writes.

For every word of the scratchpad and of the feature maps in memory the pass remembers which
instruction of each unit read and wrote it last.  A conflict (read after write, write after read,
write after write) with an instruction of another unit becomes one signal and one wait, unless the
units' order and earlier tokens imply it already.

COMPUTE instructions overlap (`docs/machine.md`): one may read its first words before the one right before
it has written its last.  So there are tokens from compute to itself, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from hw.isa import MAXIMUM_TOKENS, Instruction, Opcode, Unit

__all__ = ["Box", "Scheduled", "insert_tokens"]

UNIT_OF = {Opcode.LOAD: Unit.LOAD, Opcode.COMPUTE: Unit.COMPUTE, Opcode.STORE: Unit.STORE}

#: Tokens that may wait between a pair of units; the machine holds `MAXIMUM_TOKENS`.
_TOKEN_LIMIT = MAXIMUM_TOKENS - 55


@dataclass(frozen=True)
class Box:
    """Words of a memory: ``planes`` times ``rows`` runs of ``words``, the first at ``base``."""

    base: int
    planes: int
    plane_step: int
    rows: int
    row_step: int
    words: int

    def of(self, memory: NDArray) -> NDArray:
        """These words of a one-dimensional array, as a (planes, rows, words) view."""
        end = self.base + (self.planes - 1) * self.plane_step + (self.rows - 1) * self.row_step + self.words
        if not 0 <= self.base < end <= len(memory):
            raise AssertionError(f"{self} lies outside the {len(memory)} words")
        item = memory.itemsize
        return as_strided(
            memory[self.base :],
            (self.planes, self.rows, self.words),
            (self.plane_step * item, self.row_step * item, item),
        )


@dataclass
class Scheduled:
    """An instruction with what it touches: scratchpad words and feature-map words in memory.

    ``base`` names what its memory address counts from: ``"weights"`` or ``"maps"``.  ``scratch_late_reads``
    happen after everything that the unit's instruction before has written: residuals.
    """

    instruction: Instruction
    base: str = ""
    scratch_reads: list[Box] = field(default_factory=list)
    scratch_late_reads: list[Box] = field(default_factory=list)
    scratch_writes: list[Box] = field(default_factory=list)
    map_reads: list[Box] = field(default_factory=list)
    map_writes: list[Box] = field(default_factory=list)


class _History:
    """For each word of one memory and each unit: the last instruction that read it and that wrote it."""

    def __init__(self, words: int) -> None:
        self.reads = [np.full(words, -1, np.int32) for _ in Unit]
        self.writes = [np.full(words, -1, np.int32) for _ in Unit]

    def conflicts(self, unit: Unit, reads: Iterable[Box], writes: Iterable[Box], latest: list[int]) -> None:
        """Raise ``latest[other unit]`` to the last instruction that conflicts."""
        for other in Unit:
            if other is unit:
                continue
            for box in reads:
                latest[other] = max(latest[other], int(box.of(self.writes[other]).max()))
            for box in writes:
                latest[other] = max(
                    latest[other], int(box.of(self.writes[other]).max()), int(box.of(self.reads[other]).max())
                )

    def own_writes(self, unit: Unit, reads: Iterable[Box]) -> int:
        """The unit's last instruction that wrote something of this; −1 for none."""
        return max((int(box.of(self.writes[unit]).max()) for box in reads), default=-1)

    def record(self, unit: Unit, number: int, reads: Iterable[Box], writes: Iterable[Box]) -> None:
        for box in reads:
            box.of(self.reads[unit])[...] = number
        for box in writes:
            box.of(self.writes[unit])[...] = number


def insert_tokens(program: list[Scheduled], scratchpad_words: int, map_words: int) -> None:
    """Set the ``wait`` and ``signal`` masks of a program that is right when executed one by one.

    Afterwards every wait takes exactly the token of the signal it is meant for: between two units, the
    k-th wait belongs to the k-th signal.
    """
    scratchpad, maps = _History(scratchpad_words), _History(map_words)
    # clock[unit]: the last instruction of each unit that is known to be complete when the newest
    # instruction of `unit` starts; done[number]: the same once instruction `number` is complete
    clock = [[-1] * len(Unit) for _ in Unit]
    done: dict[int, list[int]] = {}
    waits: dict[tuple[Unit, Unit], list[int]] = {(a, b): [] for a in Unit for b in Unit}
    computes = [-1, -1]  # the last two; the older one is complete when the next starts
    for number, scheduled in enumerate(program):
        unit = UNIT_OF.get(scheduled.instruction.opcode)
        if unit is None:
            continue
        latest = [-1] * len(Unit)
        mine = clock[unit]
        scratch_reads = scheduled.scratch_reads + scheduled.scratch_late_reads
        scratchpad.conflicts(unit, scratch_reads, scheduled.scratch_writes, latest)
        maps.conflicts(unit, scheduled.map_reads, scheduled.map_writes, latest)
        if unit is Unit.COMPUTE:
            latest[unit] = scratchpad.own_writes(unit, scheduled.scratch_reads)
            mine[unit] = max(mine[unit], computes[0])
        # the newest first: it often implies the others
        for other in sorted(Unit, key=lambda other: -latest[other]):
            if latest[other] <= mine[other]:
                continue
            source = program[latest[other]].instruction
            if source.signal >> unit & 1:
                raise AssertionError("a signal would be given twice")
            pair = waits[(other, unit)]
            if len(pair) >= _TOKEN_LIMIT and done[latest[other]][unit] < pair[-_TOKEN_LIMIT]:
                raise AssertionError(
                    f"more than {_TOKEN_LIMIT} tokens could wait between {other.name} and {unit.name}"
                )
            source.signal |= 1 << unit
            scheduled.instruction.wait |= 1 << other
            pair.append(number)
            for third in Unit:
                mine[third] = max(mine[third], done[latest[other]][third])
        done[number] = list(mine)
        done[number][unit] = number
        if unit is Unit.COMPUTE:
            computes = [computes[1], number]
        else:
            mine[unit] = number
        scratchpad.record(unit, number, scratch_reads, scheduled.scratch_writes)
        maps.record(unit, number, scheduled.map_reads, scheduled.map_writes)
