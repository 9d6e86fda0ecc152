"""Where the weight streams of all COMPUTE instructions lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.memory_map import align
from compiler.weight_encoding import EncodedWeights, WeightEncoder
from compiler.weight_request import WeightRequest
from compiler.weights import weight_stream
from hw.isa import INSTRUCTION_BYTES
from hw.machine import Machine

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


@dataclass(frozen=True)
class _Placed:
    """What one COMPUTE takes; ``codebook``: what its first block brings."""

    request: WeightRequest
    encoded: EncodedWeights
    codebook: bytes
    runs: tuple[WeightRun, ...]


class WeightArea:
    """Weight streams one after another; each run starts aligned.

    The same blocks are read again for every rectangle of pixels.  A codebook stays valid in the machine until
    there is another one; blocks that find theirs sometimes lie there twice, with and without it.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.byte_count = 0
        self._encoder = WeightEncoder(machine)
        self._codebook = b""  # that is valid in the machine by now
        #: in the order of offsets
        self._placed: dict[tuple[object, bool], _Placed] = {}

    def place(self, request: WeightRequest) -> tuple[tuple[WeightRun, ...], bool]:
        """Runs of these blocks' stream, and whether its tiles are in the order of a COMPUTE with ``fold``.

        Must be called in the order of the instructions.
        """
        encoded = self._encoder.encode(request)
        brings = encoded.codebook not in (b"", self._codebook)
        key = (request.key, brings)
        if key not in self._placed:
            self._placed[key] = self._place(request, encoded, encoded.codebook if brings else b"")
        if brings:
            self._codebook = encoded.codebook
        return self._placed[key].runs, encoded.folds

    def _place(self, request: WeightRequest, encoded: EncodedWeights, codebook: bytes) -> _Placed:
        machine, runs, first = self.machine, [], request.first
        codebook += bytes(-len(codebook) % machine.weight_word_bytes)
        for sizes in _runs_of(encoded.sizes, len(codebook), fill=encoded.encoding.is_sparse):
            words = max(sizes) // machine.weight_word_bytes
            runs.append(WeightRun(self.byte_count, first, len(sizes), words))
            size = machine.parameter_bytes + words * machine.weight_word_bytes
            self.byte_count = align(self.byte_count + len(sizes) * size)
            first += len(sizes)
        return _Placed(request, encoded, codebook, tuple(runs))

    def contents(self) -> Iterator[tuple[int, int, bytes]]:
        """(step, offset, bytes) of every run."""
        machine = self.machine
        for placed in self._placed.values():
            request, encoded = placed.request, placed.encoded
            for run in placed.runs:
                book = placed.codebook if run.first == request.first else b""
                blocks = encoded.contents(machine, request, run.first, run.blocks)
                size = run.words * machine.weight_word_bytes
                # zeros behind a sparse stream do nothing
                blocks = [
                    block.ljust(size - len(book) * (number == 0), b"\0") for number, block in enumerate(blocks)
                ]
                yield request.step, run.offset, weight_stream(
                    machine, request.operation, run.first, blocks, encoded.encoding, book
                )


def _runs_of(sizes: tuple[int, ...], front: int, *, fill: bool) -> list[list[int]]:
    """Cut blocks of these sizes into runs, all as long as the longest of them, so that filling and instructions
    are few.

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
