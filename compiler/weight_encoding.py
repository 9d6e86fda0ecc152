"""How the weights of each COMPUTE are encoded: the smallest stream."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.weight_request import WeightRequest
from hw.huffman_stream import LONGEST_CODE, HuffmanTable, huffman_encode
from hw.machine import Machine
from hw.weight_block import block_front
from hw.weight_stream import Encoding, encode_tiles, encodings_of, least_bytes
from quant.encoding.huffman import code_lengths

__all__ = ["EncodedWeights", "WeightEncoder"]

#: An encoding is tried with Huffman codes if it is the smallest one with this share of its bytes.
_CODED_SHARE = 0.25


@dataclass(frozen=True)
class EncodedWeights:
    """The blocks of one request.

    Attributes
    ----------
    encoding : Encoding
    codebook : bytes
        That must be valid; empty: none need be.
    table : HuffmanTable or None
        Of the codes that the tiles are.
    sizes : tuple of int
        Bytes of each block's tiles.
    folds : bool
        They are in the order of a COMPUTE with ``fold``.
    streams : tuple of bytes or None
        Each block's tiles; None: raw ones, which are made when they are asked for.
    """

    encoding: Encoding
    codebook: bytes
    table: HuffmanTable | None
    sizes: tuple[int, ...]
    folds: bool
    streams: tuple[bytes, ...] | None

    @property
    def may_be_filled(self) -> bool:
        """Zeros behind a block do nothing."""
        return self.encoding.is_sparse or self.table is not None

    def contents(self, machine: Machine, request: WeightRequest, first: int, blocks: int) -> list[bytes]:
        """The tiles of some of the request's blocks."""
        if self.streams is None:
            return [block.tobytes() for block in request.tiles(machine, first, blocks)]
        return list(self.streams[first - request.first :][:blocks])

    def byte_count(self, machine: Machine) -> int:
        """Of all blocks with what they need to be valid, without parameters."""
        return sum(self.sizes) + len(block_front(self.codebook, self.table, machine))


class WeightEncoder:
    """Encodes each request once.

    Codebook and table are the layer's where that is possible, so that they need not be sent again.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._found: dict[Hashable, EncodedWeights] = {}
        self._layers: dict[int, _Layer] = {}

    def encode(self, request: WeightRequest) -> EncodedWeights:
        """The smallest encoding; raw tiles are not folded, because nothing is won."""
        if request.key not in self._found:
            found = self._raw(request)
            self._found[request.key] = self._smaller(request, found) if self.machine.weight_decoder else found
        return self._found[request.key]

    def _raw(self, request: WeightRequest) -> EncodedWeights:
        """Its size is known without the contents."""
        size = request.tile_count(self.machine) * self.machine.tile_bytes
        return EncodedWeights(Encoding.RAW, b"", None, (size,) * request.blocks, False, None)

    def _smaller(self, request: WeightRequest, best: EncodedWeights) -> EncodedWeights:
        machine = self.machine
        if request.step not in self._layers:
            self._layers[request.step] = _Layer(request, machine)
        layer = self._layers[request.step]
        tiles = request.tiles(machine, request.first, request.blocks)
        folded = request.folded_tiles(machine, tiles) if request.may_fold else tiles
        codebooks = encodings_of(tiles, machine)
        least = {encoding: least_bytes(folded, encoding, machine) for encoding in codebooks}
        smallest = best.byte_count(machine)
        for encoding in sorted(codebooks, key=least.__getitem__):
            raw = encoding is Encoding.RAW
            share = _CODED_SHARE if machine.huffman_decoder else 1
            if (raw and not machine.huffman_decoder) or least[encoding] * share >= smallest:
                continue
            codebook = layer.codebooks.get(encoding, codebooks[encoding])
            book = codebook.tobytes() if encoding.has_codebook else b""
            streams = tuple(encode_tiles(tiles if raw else folded, encoding, codebook, machine))
            folds = request.may_fold and not raw
            found = [EncodedWeights(encoding, book, None, tuple(map(len, streams)), folds, streams)]
            if machine.huffman_decoder:
                found += self._coded(found[0], layer, smallest)
            for one in found:
                if one.byte_count(machine) < smallest:
                    smallest, best = one.byte_count(machine), one
        return best

    def _coded(self, plain: EncodedWeights, layer: _Layer, smallest: int) -> list[EncodedWeights]:
        """The same as Huffman codes, if there may be fewer of them than ``smallest``."""
        assert plain.streams is not None
        counts = np.bincount(np.frombuffer(b"".join(plain.streams), np.uint8), minlength=256)
        if not counts.any():
            return []
        table = layer.table(plain.encoding, counts)
        if int(table.codes[1] @ counts) // 8 >= smallest:
            return []
        streams = tuple(huffman_encode(stream, table, self.machine) for stream in plain.streams)
        sizes = tuple(map(len, streams))
        return [EncodedWeights(plain.encoding, plain.codebook, table, sizes, plain.folds, streams)]


class _Layer:
    """What the requests of one operation have in common."""

    def __init__(self, request: WeightRequest, machine: Machine) -> None:
        self._counts = request.layer_counts(machine)
        values = np.flatnonzero(self._counts).astype(np.uint8).view(np.int8)
        self.codebooks = encodings_of(values, machine)
        self._tables: dict[Encoding, HuffmanTable] = {}

    def table(self, encoding: Encoding, counts: NDArray[np.integer]) -> HuffmanTable:
        """The layer's for these bytes of an encoding, or their own, which is the layer's from then on."""
        if encoding is Encoding.RAW:
            counts = self._counts
        known = self._tables.get(encoding)
        if known is None or not known.codes[1][counts > 0].all():
            known = HuffmanTable.from_lengths(code_lengths(counts, LONGEST_CODE))
            self._tables[encoding] = known
        return known
