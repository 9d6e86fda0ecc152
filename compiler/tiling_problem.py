"""An operation that is to be cut into pieces, with what is known of its surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from compiler.operation import Operation
from hw.machine import Machine

__all__ = ["TilingProblem", "piece_sizes"]


def piece_sizes(extent: int, most: int) -> list[int]:
    """Sizes of nearly equal pieces of ``extent``, from few pieces to many, none larger than ``most``."""
    sizes = {-(-extent // pieces) for pieces in range(1, min(extent, 64) + 1)}
    sizes |= {size for size in range(1, min(extent, most) + 1) if size <= 8 or size & (size - 1) == 0}
    return sorted((size for size in sizes if size <= most), reverse=True)


@dataclass(frozen=True)
class TilingProblem:
    """An operation with what is known of its surroundings.

    ``source_pitch`` and ``destination_pitch``: the whole map is in the scratchpad, so that no slots are
    needed, with rows so many words apart; else 0.  ``source_arrives``: it is there, but this operation
    must load it.  ``residual_arrives``: the second operand comes from memory.  ``destination_stored``: the
    result goes to memory, too.
    """

    operation: Operation
    machine: Machine
    source_pitch: int = 0
    source_arrives: bool = False
    destination_pitch: int = 0
    residual_arrives: bool = False
    destination_stored: bool = True

    @property
    def source_resident(self) -> bool:
        """Whether the source needs no slots."""
        return self.source_pitch > 0

    @property
    def destination_resident(self) -> bool:
        """Whether the destination needs no slots."""
        return self.destination_pitch > 0

    @cached_property
    def _passes_by_slots(self) -> dict[int, int]:
        return {}

    def all_passes(self, pitch: int) -> int:
        """Passes of all output blocks, with the source's rows ``pitch`` words apart."""
        slots = self.operation.slot_columns(self.machine, pitch) if self.operation.reads_taps else 0
        if slots not in self._passes_by_slots:
            self._passes_by_slots[slots] = sum(
                self.operation.passes(self.machine, block, slots)
                for block in range(self.operation.destination.planes)
            )
        return self._passes_by_slots[slots]

    @cached_property
    def _planes_of_groups(self) -> dict[int, tuple[int, int]]:
        return {}

    @cached_property
    def groups(self) -> list[int]:
        """Candidates for ``group_blocks``, largest first."""
        operation, machine = self.operation, self.machine
        blocks = operation.destination.planes
        planes = operation.source_planes(0, blocks, machine)[1]
        most_of_one = max(operation.source_planes(block, 1, machine)[1] for block in range(blocks))
        if most_of_one == planes:
            return [blocks]
        return piece_sizes(blocks, blocks)

    def planes(self, group: int) -> tuple[int, int]:
        """Most input planes that a group loads, and those of all groups together."""
        if group not in self._planes_of_groups:
            blocks = self.operation.destination.planes
            counts = [
                self.operation.source_planes(first, min(group, blocks - first), self.machine)[1]
                for first in range(0, blocks, group)
            ]
            self._planes_of_groups[group] = (max(counts), sum(counts))
        return self._planes_of_groups[group]

    def extent(self, axis: int, count: int) -> int:
        """Rows or columns of input, at most, for ``count`` outputs."""
        operation, storage = self.operation, self.operation.source.storage
        size = (storage.rows, storage.columns)[axis]
        kernel = (operation.kernel[axis] - 1) * operation.dilation[axis] + 1
        extent = (count - 1) * operation.stride[axis] + kernel
        if axis == 1 and storage.narrow:  # whole beats, also where the first pixel is the last of its beat
            extent = ((extent - 2) // storage.beat_pixels + 2) * storage.beat_pixels
        return min(size, extent)

    @property
    def source_beats(self) -> float:
        """Beats of a word of the source in memory."""
        return self.operation.source.storage.pixel_bytes(self.machine.word_bytes) / self.machine.bus_bytes

    def least_words(self) -> int:
        """Words that the smallest possible tiling takes."""
        planes = min(self.planes(group)[0] for group in self.groups)
        source = 0 if self.source_resident else planes * self.extent(0, 1) * self.extent(1, 1)
        return source + (0 if self.destination_resident else 1)
