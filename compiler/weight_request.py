"""Which weights one COMPUTE takes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.operation import Operation
from compiler.weights import block_tiles, folded
from hw.machine import Machine

__all__ = ["InputPart", "WeightRequest"]


@dataclass(frozen=True)
class InputPart:
    """Blocks of ``input_lanes`` channels whose products a COMPUTE adds to those of the parts before, or the
    operation's tail."""

    first: int
    blocks: int
    continues: bool
    partial: bool
    tail: bool = False


@dataclass(frozen=True)
class WeightRequest:
    """Output blocks of one COMPUTE, in all rectangles of pixels.

    Attributes
    ----------
    step : int
        Number of the operation.
    operation : Operation
    first, blocks : int
        Output blocks.
    slot_columns : int
    part : InputPart or None
        All of the inputs.
    may_fold : bool
        The COMPUTE may be one with ``fold``.
    rows_adjoin : bool
        As in `compiler.weights.folded`.
    """

    step: int
    operation: Operation
    first: int
    blocks: int
    slot_columns: int
    part: InputPart | None = None
    may_fold: bool = False
    rows_adjoin: bool = False

    @property
    def key(self) -> Hashable:
        """The same for the same blocks of other rectangles."""
        return self.step, self.first, self.blocks, self.part

    def tile_count(self, machine: Machine) -> int:
        """Tiles of each block."""
        operation = self.operation
        if self.part is not None and self.part.tail:
            return operation.tail_passes(machine, self.slot_columns)
        if self.part is not None:
            return self.part.blocks * operation.taps
        return 1 if operation.hold_weights else operation.passes(machine, self.first, self.slot_columns)

    def tiles(self, machine: Machine, first: int, blocks: int) -> NDArray[np.int8]:
        """Tiles of some of the blocks: (blocks, tiles, tile_bytes)."""
        tiles, weights = None, None
        operation, part = self.operation, self.part
        if part is not None and part.tail:
            assert operation.tail is not None
            weights = operation.tail.weights
        elif part is not None:
            taps, start = operation.taps, operation.weights.source_blocks(self.first)[0]
            tiles = slice((part.first - start) * taps, (part.first - start + part.blocks) * taps)
        return block_tiles(machine, operation, first, blocks, self.slot_columns, tiles, weights)

    def folded_tiles(self, machine: Machine, tiles: NDArray[np.int8]) -> NDArray[np.int8]:
        """`tiles` of all blocks in the order of a COMPUTE with ``fold``."""
        return folded(machine, self.operation, self.first, tiles, self.rows_adjoin)

    def layer_counts(self, machine: Machine) -> NDArray[np.int64]:
        """How often each byte (256) is a weight of any block and part of the operation."""
        operation = self.operation
        weights = [operation.weights, *([operation.tail.weights] if operation.tail is not None else [])]
        found = np.zeros(256, np.int64)
        for block in range(operation.destination.planes):
            for one in weights:
                found += np.bincount(
                    one.tiles(block, self.slot_columns).view(np.uint8).ravel(), minlength=256
                )
        return found
