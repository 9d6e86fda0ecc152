"""Where the weight streams of all COMPUTE instructions lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.memory_map import align
from compiler.operation import Operation
from compiler.weights import weight_stream
from hw.machine import Machine

__all__ = ["InputPart", "WeightArea"]


@dataclass(frozen=True)
class InputPart:
    """Blocks of ``input_lanes`` channels whose products a COMPUTE adds to those of the parts before, or the
    operation's tail."""

    first: int
    blocks: int
    continues: bool
    partial: bool
    tail: bool = False


class WeightArea:
    """Weight streams one after another; each part that one COMPUTE takes starts aligned."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.byte_count = 0
        #: (step, first block, blocks, part of the inputs) → offset, in the order of offsets
        self.parts: dict[tuple[int, int, int, InputPart | None], int] = {}
        self._slot_columns: dict[int, int] = {}

    def place(
        self,
        step: int,
        operation: Operation,
        first: int,
        blocks: int,
        slot_columns: int,
        part: InputPart | None,
    ) -> tuple[int, int]:
        """Offset of these blocks' stream and the tiles of each block."""
        tiles = 1 if operation.hold_weights else operation.passes(self.machine, first, slot_columns)
        if part is not None:
            tiles = part.blocks * operation.taps
            if part.tail:
                tiles = operation.tail_passes(self.machine, slot_columns)
        self._slot_columns[step] = slot_columns
        key = (step, first, blocks, part)
        if key not in self.parts:
            self.parts[key] = self.byte_count
            size = blocks * (self.machine.parameter_bytes + tiles * self.machine.tile_bytes)
            self.byte_count = align(self.byte_count + size)
        return self.parts[key], tiles

    def contents(self, operations: list[Operation]) -> Iterator[tuple[int, int, bytes]]:
        """(step, offset, bytes) of every part."""
        for (step, first, blocks, part), offset in self.parts.items():
            operation, tiles, weights = operations[step], None, None
            if part is not None and part.tail:
                assert operation.tail is not None
                weights = operation.tail.weights
            elif part is not None:
                taps, start = operation.taps, operation.weights.source_blocks(first)[0]
                tiles = slice((part.first - start) * taps, (part.first - start + part.blocks) * taps)
            yield step, offset, weight_stream(
                self.machine, operation, first, blocks, self._slot_columns[step], tiles, weights
            )
