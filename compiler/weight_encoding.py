"""How the weights of each COMPUTE are encoded: the smallest stream."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.weight_request import WeightRequest
from hw.machine import Machine
from hw.weight_stream import Encoding, encode_tiles, encodings_of, least_bytes

__all__ = ["EncodedWeights", "WeightEncoder"]


@dataclass(frozen=True)
class EncodedWeights:
    """The blocks of one request.

    Attributes
    ----------
    encoding : Encoding
    codebook : bytes
        That must be valid; empty: none need be.
    sizes : tuple of int
        Bytes of each block's tiles.
    folds : bool
        They are in the order of a COMPUTE with ``fold``.
    streams : tuple of bytes or None
        Each block's tiles; None: raw ones, which are made when they are asked for.
    """

    encoding: Encoding
    codebook: bytes
    sizes: tuple[int, ...]
    folds: bool
    streams: tuple[bytes, ...] | None

    def contents(self, machine: Machine, request: WeightRequest, first: int, blocks: int) -> list[bytes]:
        """The tiles of some of the request's blocks."""
        if self.streams is None:
            return [block.tobytes() for block in request.tiles(machine, first, blocks)]
        return list(self.streams[first - request.first :][:blocks])


class WeightEncoder:
    """Encodes each request once.

    The codebook is the layer's, if that has few values enough, so that it need not be sent again.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._found: dict[Hashable, EncodedWeights] = {}
        self._codebooks: dict[int, dict[Encoding, NDArray[np.int8]]] = {}

    def encode(self, request: WeightRequest) -> EncodedWeights:
        """The smallest encoding; raw tiles are not folded, because nothing is won."""
        if request.key not in self._found:
            found = self._raw(request)
            self._found[request.key] = self._smaller(request, found) if self.machine.weight_decoder else found
        return self._found[request.key]

    def _raw(self, request: WeightRequest) -> EncodedWeights:
        """Its size is known without the contents."""
        size = request.tile_count(self.machine) * self.machine.tile_bytes
        return EncodedWeights(Encoding.RAW, b"", (size,) * request.blocks, False, None)

    def _smaller(self, request: WeightRequest, best: EncodedWeights) -> EncodedWeights:
        machine = self.machine
        tiles = request.tiles(machine, request.first, request.blocks)
        ordered = request.folded_tiles(machine, tiles) if request.may_fold else tiles
        codebooks = encodings_of(tiles, machine)
        layer = self._layer_codebooks(request)
        smallest = sum(best.sizes)
        least = {encoding: least_bytes(ordered, encoding, machine) for encoding in codebooks}
        for encoding in sorted(set(codebooks) - {Encoding.RAW}, key=least.__getitem__):
            codebook = layer.get(encoding, codebooks[encoding])
            book = codebook.tobytes() if encoding.has_codebook else b""
            if least[encoding] + len(book) >= smallest:
                continue
            streams = tuple(encode_tiles(ordered, encoding, codebook, machine))
            sizes = tuple(map(len, streams))
            if sum(sizes) + len(book) < smallest:
                smallest = sum(sizes) + len(book)
                best = EncodedWeights(encoding, book, sizes, request.may_fold, streams)
        return best

    def _layer_codebooks(self, request: WeightRequest) -> dict[Encoding, NDArray[np.int8]]:
        if request.step not in self._codebooks:
            self._codebooks[request.step] = encodings_of(request.layer_values(self.machine), self.machine)
        return self._codebooks[request.step]
