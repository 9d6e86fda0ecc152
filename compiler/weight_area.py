"""Where the weight streams of all COMPUTE instructions lie in memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from compiler.error import CompileError
from compiler.memory_map import align
from compiler.weight_encoding import EncodedWeights, WeightEncoder
from compiler.weight_request import WeightRequest
from compiler.weights import weight_stream
from hw.huffman_stream import HuffmanTable
from hw.isa import INSTRUCTION_BYTES
from hw.machine import Machine
from hw.small_firmware import BLOCK_BEATS
from hw.weight_block import block_front
from hw.weight_stream import BlockHeader

__all__ = ["WeightArea", "WeightRun"]


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

    def beats(self, machine: Machine) -> int:
        """Bus beats that it takes."""
        size = machine.parameter_bytes + self.words * machine.weight_word_bytes
        return self.blocks * size // machine.bus_bytes


@dataclass(frozen=True)
class _Placed:
    """What one COMPUTE takes; ``codebook`` and ``table``: what its first block brings."""

    request: WeightRequest
    encoded: EncodedWeights
    codebook: bytes
    table: HuffmanTable | None
    runs: tuple[WeightRun, ...]


class WeightArea:
    """Weight streams one after another; each run starts aligned.

    The same blocks are read again for every rectangle of pixels.  Codebooks and tables stay valid in the
    machine until there are others; blocks that find theirs sometimes lie there twice, with and without them.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.byte_count = 0
        self._encoder = WeightEncoder(machine)
        # what is valid in the machine by now
        self._codebook = b""
        self._table: HuffmanTable | None = None
        self._placed: dict[Hashable, _Placed] = {}

    def place(self, request: WeightRequest) -> tuple[tuple[WeightRun, ...], bool]:
        """Runs of these blocks' stream, and whether its tiles are in the order of a COMPUTE with ``fold``.

        Must be called in the order of the instructions.
        """
        encoded = self._encoder.encode(request)
        codebook = encoded.codebook if encoded.codebook != self._codebook else b""
        table = encoded.table if encoded.table != self._table else None
        key = (request.key, bool(codebook), table is not None)
        if key not in self._placed:
            self._placed[key] = self._place(request, encoded, codebook, table)
        self._codebook, self._table = codebook or self._codebook, table or self._table
        return self._placed[key].runs, encoded.folds

    def _place(
        self, request: WeightRequest, encoded: EncodedWeights, codebook: bytes, table: HuffmanTable | None
    ) -> _Placed:
        machine, runs, first = self.machine, [], request.first
        front = len(block_front(codebook, table, machine))
        for sizes in _runs_of(encoded.sizes, front, fill=encoded.may_be_filled):
            words = max(sizes) // machine.weight_word_bytes
            run = WeightRun(self.byte_count, first, len(sizes), words)
            runs.append(run)
            size = machine.parameter_bytes + words * machine.weight_word_bytes
            if machine.in_order and size > BLOCK_BEATS * machine.bus_bytes:
                raise CompileError(
                    f"{request.operation.name}: {size} bytes of weights for {machine.output_lanes} output "
                    f"channels, the small core reads at most {BLOCK_BEATS * machine.bus_bytes}"
                )
            self.byte_count = align(self.byte_count + run.beats(machine) * machine.bus_bytes)
            first += len(sizes)
        return _Placed(request, encoded, codebook, table, tuple(runs))

    def runs(self) -> list[WeightRun]:
        """All runs in the order of their offsets."""
        found = [run for placed in self._placed.values() for run in placed.runs]
        return sorted(found, key=lambda run: run.offset)

    def order(self, first: Sequence[WeightRun]) -> dict[int, int]:
        """Move runs to the area's start, in this order; the others follow in theirs.

        Returns the new offsets by the old ones.
        """
        before, moved, offset = {run.offset for run in first}, dict[int, int](), 0
        for run in [*first, *(run for run in self.runs() if run.offset not in before)]:
            moved[run.offset] = offset
            offset = align(offset + run.beats(self.machine) * self.machine.bus_bytes)
        for key, placed in self._placed.items():
            runs = tuple(replace(run, offset=moved[run.offset]) for run in placed.runs)
            self._placed[key] = replace(placed, runs=runs)
        return moved

    def contents(self) -> Iterator[tuple[int, int, bytes]]:
        """(step, offset, bytes) of every run, in the order of their offsets."""
        machine = self.machine
        everything = [(run, placed) for placed in self._placed.values() for run in placed.runs]
        for run, placed in sorted(everything, key=lambda one: one[0].offset):
            request, encoded = placed.request, placed.encoded
            later = BlockHeader(encoded.encoding, huffman=encoded.table is not None)
            brings = replace(later, codebook=bool(placed.codebook), table=placed.table is not None)
            front = block_front(placed.codebook, placed.table, machine)
            blocks = encoded.contents(machine, request, run.first, run.blocks)
            headers = [later] * run.blocks
            if run.first == request.first:
                headers[0], blocks[0] = brings, front + blocks[0]
            size = run.words * machine.weight_word_bytes
            blocks = [block.ljust(size, b"\0") for block in blocks]
            stream = weight_stream(machine, request.operation, run.first, blocks, headers)
            yield request.step, run.offset, stream


def _runs_of(sizes: tuple[int, ...], front: int, *, fill: bool) -> list[list[int]]:
    """Cut blocks of these sizes into runs, all as long as the longest of them, so that filling and
    instructions are few.

    ``front``: bytes that come before the first block; ``fill``: blocks may be filled up.
    """
    sizes = (sizes[0] + front, *sizes[1:]) if sizes else sizes
    least = [0] + [1 << 62] * len(sizes)  # bytes of the first n blocks
    cut = [0] * (len(sizes) + 1)
    for end in range(1, len(sizes) + 1):
        longest = 0
        for start in range(end - 1, -1, -1):
            longest = max(longest, sizes[start])
            if not fill and sizes[start] != sizes[end - 1]:
                break
            total = least[start] + (end - start) * longest + INSTRUCTION_BYTES
            if total < least[end]:
                least[end], cut[end] = total, start
    runs, end = [], len(sizes)
    while end:
        runs.insert(0, list(sizes[cut[end] : end]))
        end = cut[end]
    return runs
