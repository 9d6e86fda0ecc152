"""Where the weight streams of all COMPUTE instructions lie in memory, and how they are encoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.memory_map import align
from compiler.operation import Operation
from compiler.weights import block_tiles, folded, weight_stream
from hw.isa import INSTRUCTION_BYTES
from hw.machine import Machine
from hw.weight_stream import Encoding, encode_tiles, encodings_of

__all__ = ["InputPart", "WeightArea", "WeightRun"]


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
class WeightRun:
    """What one WEIGHTS reads: output blocks whose tiles, as they are encoded, take equally many words.

    Attributes
    ----------
    offset : int
        Bytes from the area's start.
    first, blocks : int
        Output blocks of the operation.
    words : int
        Weight words of each block behind its parameters.
    """

    offset: int
    first: int
    blocks: int
    words: int


@dataclass(frozen=True)
class _Part:
    """What one COMPUTE takes; ``streams``: its runs' bytes, if they have been encoded already."""

    step: int
    part: InputPart | None
    slot_columns: int
    runs: tuple[WeightRun, ...]
    streams: tuple[bytes, ...] | None
    fold: bool


class WeightArea:
    """Weight streams one after another; each run starts aligned."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.byte_count = 0
        #: by step, first block, blocks, part of the inputs; in the order of offsets
        self._parts: dict[tuple[int, int, int, InputPart | None], _Part] = {}

    def place(
        self,
        step: int,
        operation: Operation,
        first: int,
        blocks: int,
        slot_columns: int,
        part: InputPart | None,
        fold: bool = False,
        rows_adjoin: bool = False,
    ) -> tuple[tuple[WeightRun, ...], bool]:
        """Runs of these blocks' stream, and whether its tiles are in the order of a COMPUTE with ``fold``.

        ``fold``: it may be, and is if that makes the stream smaller; ``rows_adjoin`` as in `folded`.
        """
        key = (step, first, blocks, part)
        if key not in self._parts:
            self._parts[key] = (
                self._encode(step, operation, first, blocks, slot_columns, part, fold, rows_adjoin)
                if self.machine.weight_decoder
                else self._raw(step, operation, first, blocks, slot_columns, part)
            )
        return self._parts[key].runs, self._parts[key].fold

    def _run(self, first: int, blocks: int, words: int) -> WeightRun:
        run = WeightRun(self.byte_count, first, blocks, words)
        size = self.machine.parameter_bytes + words * self.machine.weight_word_bytes
        self.byte_count = align(self.byte_count + blocks * size)
        return run

    def _raw(
        self,
        step: int,
        operation: Operation,
        first: int,
        blocks: int,
        slot_columns: int,
        part: InputPart | None,
    ) -> _Part:
        """Sizes are known without the contents."""
        tiles = 1 if operation.hold_weights else operation.passes(self.machine, first, slot_columns)
        if part is not None:
            tiles = part.blocks * operation.taps
            if part.tail:
                tiles = operation.tail_passes(self.machine, slot_columns)
        words = tiles * self.machine.tile_bytes // self.machine.weight_word_bytes
        return _Part(step, part, slot_columns, (self._run(first, blocks, words),), None, False)

    def _encode(
        self,
        step: int,
        operation: Operation,
        first: int,
        blocks: int,
        slot_columns: int,
        part: InputPart | None,
        fold: bool,
        rows_adjoin: bool,
    ) -> _Part:
        """The smallest encoding of the stream; raw tiles are not folded, because nothing is won."""
        machine = self.machine
        word = machine.weight_word_bytes
        tiles = self._tiles(operation, first, blocks, slot_columns, part)
        best: tuple[int, list[WeightRun], list[bytes], bool] | None = None
        start = self.byte_count
        for encoding, codebook in encodings_of(tiles, machine).items():
            folds = fold and encoding is not Encoding.RAW
            ordered = folded(machine, operation, first, tiles, rows_adjoin) if folds else tiles
            contents = encode_tiles(ordered, encoding, codebook, machine)
            book = b"" if encoding is Encoding.RAW else codebook.tobytes()
            book += bytes(-len(book) % word)
            groups = [contents] if encoding is Encoding.RAW else [contents[:1], *_runs_of(contents[1:])]
            runs, streams, block = [], [], first
            self.byte_count = start
            for group in filter(None, groups):
                longest = max(map(len, group))  # zeros behind a sparse stream do nothing
                group = [content.ljust(longest, b"\0") for content in group]
                runs.append(self._run(block, len(group), (len(book) + len(group[0])) // word))
                streams.append(weight_stream(machine, operation, block, group, encoding, book))
                block += len(group)
                book = b""
            if best is None or self.byte_count < best[0]:
                best = self.byte_count, runs, streams, folds
        assert best is not None
        self.byte_count, runs, streams, folds = best
        return _Part(step, part, slot_columns, tuple(runs), tuple(streams), folds)

    def _tiles(
        self,
        operation: Operation,
        first: int,
        blocks: int,
        slot_columns: int,
        part: InputPart | None,
    ):
        tiles, weights = None, None
        if part is not None and part.tail:
            assert operation.tail is not None
            weights = operation.tail.weights
        elif part is not None:
            taps, start = operation.taps, operation.weights.source_blocks(first)[0]
            tiles = slice((part.first - start) * taps, (part.first - start + part.blocks) * taps)
        return block_tiles(self.machine, operation, first, blocks, slot_columns, tiles, weights)

    def contents(self, operations: list[Operation]) -> Iterator[tuple[int, int, bytes]]:
        """(step, offset, bytes) of every run."""
        for placed in self._parts.values():
            operation = operations[placed.step]
            for number, run in enumerate(placed.runs):
                if placed.streams is not None:
                    stream = placed.streams[number]
                else:
                    tiles = self._tiles(operation, run.first, run.blocks, placed.slot_columns, placed.part)
                    raw = [block.tobytes() for block in tiles]
                    stream = weight_stream(self.machine, operation, run.first, raw)
                yield placed.step, run.offset, stream


def _runs_of(contents: list[bytes]) -> list[list[bytes]]:
    """Cut blocks into runs, all as long as the longest of them, so that filling and instructions are few."""
    least = [0] + [1 << 62] * len(contents)  # bytes of the first n blocks
    cut = [0] * (len(contents) + 1)
    for end in range(1, len(contents) + 1):
        longest = 0
        for start in range(end - 1, -1, -1):
            longest = max(longest, len(contents[start]))
            total = least[start] + (end - start) * longest + INSTRUCTION_BYTES
            if total < least[end]:
                least[end], cut[end] = total, start
    runs, end = [], len(contents)
    while end:
        runs.insert(0, contents[cut[end] : end])
        end = cut[end]
    return runs
