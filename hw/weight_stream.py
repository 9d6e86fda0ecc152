"""The tiles of an output block as bytes, and how the weight decoder reads them.

Tiles are raw, or their weights are indices into a codebook of at most 16 values, dense ones of two or four
bits or sparse ones, or they are sparse with the values themselves (`hw.sparse_stream`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hw.machine import Machine
from hw.sparse_stream import SparseStreamError, decode_sparse, encode_sparse, least_steps, sparse_beats

__all__ = ["CODEBOOK_ENTRIES", "BlockHeader", "Encoding", "WeightStreamError", "decode_tiles", "encode_tiles",
           "encodings_of", "least_bytes"]

#: Values in a codebook, each an int8; of a sparse stream's, entry 0 is no weight.
CODEBOOK_ENTRIES = 16

_CODEBOOK_BIT, _HUFFMAN_BIT, _TABLE_BIT = 3, 4, 5


class Encoding(IntEnum):
    """Of the tiles of an output block."""

    RAW = 0
    TWO_BITS = 1
    FOUR_BITS = 2
    SPARSE = 3
    SPARSE_VALUES = 4

    @property
    def has_codebook(self) -> bool:
        """Whether what it stores are indices."""
        return self not in (Encoding.RAW, Encoding.SPARSE_VALUES)

    @property
    def is_sparse(self) -> bool:
        """Whether zeros are left out."""
        return self in (Encoding.SPARSE, Encoding.SPARSE_VALUES)


#: Weights in a byte of dense encodings.
_PER_BYTE = {Encoding.RAW: 1, Encoding.FOUR_BITS: 2, Encoding.TWO_BITS: 4}


class WeightStreamError(ValueError):
    """A weight stream that no encoder has made; the message says why."""


@dataclass(frozen=True)
class BlockHeader:
    """Byte 7 of a block's parameters: how its tiles come.

    Attributes
    ----------
    encoding : Encoding
        Bits 0 to 2.
    codebook : bool
        Bit 3: a codebook comes in front of the tiles; else that of the block before is valid.
    huffman : bool
        Bit 4: the tiles are Huffman codes (`hw.huffman_stream`).
    table : bool
        Bit 5: of which a table comes behind the codebook; else that of the block before is valid.
    """

    encoding: Encoding = Encoding.RAW
    codebook: bool = False
    huffman: bool = False
    table: bool = False

    def to_byte(self) -> int:
        """The byte."""
        bits = self.encoding | self.codebook << _CODEBOOK_BIT
        return bits | self.huffman << _HUFFMAN_BIT | self.table << _TABLE_BIT

    @classmethod
    def from_byte(cls, byte: int) -> BlockHeader:
        """The header of a byte.

        Raises
        ------
        WeightStreamError
            If there is no such encoding, or other bits are set.
        """
        if byte & 7 > max(Encoding) or byte >> _TABLE_BIT + 1:
            raise WeightStreamError(f"the header {byte:#04x} of a block has unknown bits")
        bits = (_CODEBOOK_BIT, _HUFFMAN_BIT, _TABLE_BIT)
        return cls(Encoding(byte & 7), *(bool(byte >> bit & 1) for bit in bits))


def encodings_of(tiles: NDArray[np.int8], machine: Machine) -> dict[Encoding, NDArray[np.int8]]:
    """Encodings that can hold these weights, and their codebooks (16 entries, int8; zeros if there is none).

    The sparse codebook holds the values besides 0 from entry 1 on.
    """
    nothing = np.zeros(CODEBOOK_ENTRIES, np.int8)
    found = {Encoding.RAW: nothing}
    if not machine.weight_decoder:
        return found
    found[Encoding.SPARSE_VALUES] = nothing
    used = np.bincount(tiles.view(np.uint8).ravel(), minlength=256) > 0
    values = np.sort(np.flatnonzero(used).astype(np.uint8).view(np.int8))
    others = values[values != 0]

    def codebook(entries: NDArray[np.int8]) -> NDArray[np.int8]:
        return np.pad(entries, (0, CODEBOOK_ENTRIES - len(entries)))

    if len(values) <= 4:
        found[Encoding.TWO_BITS] = codebook(values)
    if len(values) <= CODEBOOK_ENTRIES:
        found[Encoding.FOUR_BITS] = codebook(values)
    if len(others) < CODEBOOK_ENTRIES:
        found[Encoding.SPARSE] = codebook(np.concatenate([np.zeros(1, np.int8), others]))
    return found


def least_bytes(tiles: NDArray[np.int8], encoding: Encoding, machine: Machine) -> int:
    """Bytes that these tiles (blocks, tiles, tile_bytes) take at least; of dense ones what they do take."""
    if encoding.is_sparse:
        steps = least_steps(tiles.view(np.uint8), machine)
        return machine.bus_bytes * sparse_beats(steps, wide=encoding is Encoding.SPARSE_VALUES)
    return tiles.size // _PER_BYTE[encoding]


def encode_tiles(
    tiles: NDArray[np.int8], encoding: Encoding, codebook: NDArray[np.int8], machine: Machine
) -> list[bytes]:
    """The tiles of each output block as bytes, whole weight words.

    Parameters
    ----------
    tiles : int8 array (blocks, tiles, tile_bytes)
    encoding : Encoding
    codebook : int8 array (16,)
        One of `encodings_of`.
    machine : Machine
    """
    if encoding is Encoding.RAW:
        return [block.tobytes() for block in tiles]
    if encoding is Encoding.SPARSE_VALUES:
        return encode_sparse(tiles.astype(np.int8).view(np.uint8), machine, wide=True)
    # of equal entries the first: those behind the last value are zeros
    order = np.argsort(codebook, kind="stable")
    indices = order[np.searchsorted(codebook, tiles, sorter=order)].astype(np.uint8)
    if encoding is Encoding.SPARSE:
        return encode_sparse(indices, machine, wide=False)
    per_byte = _PER_BYTE[encoding]
    fields = indices.reshape(len(tiles), -1, per_byte)
    packed = np.bitwise_or.reduce(fields << (8 // per_byte * np.arange(per_byte, dtype=np.uint8)), axis=2)
    return [block.astype(np.uint8).tobytes() for block in packed]


def decode_tiles(
    content: bytes, encoding: Encoding, codebook: NDArray[np.int8], tiles: int, machine: Machine
) -> NDArray[np.int8]:
    """The tiles of one output block, (tiles, tile_bytes).

    Raises
    ------
    WeightStreamError
        If the bytes are too few or too many, or a sparse stream leaves the decoder's window or ends
        elsewhere.
    """
    if encoding.is_sparse:
        try:
            found = decode_sparse(content, tiles, machine, wide=encoding is Encoding.SPARSE_VALUES)
        except SparseStreamError as error:
            raise WeightStreamError(str(error)) from None
        return codebook[found] if encoding.has_codebook else found.view(np.int8)
    stream = np.frombuffer(content, np.uint8)
    size, per_byte = tiles * machine.tile_bytes, _PER_BYTE[encoding]
    if len(stream) * per_byte != size:
        raise WeightStreamError(f"{len(stream)} bytes hold no {size} weights, {encoding.name}")
    if encoding is Encoding.RAW:
        return stream.view(np.int8).reshape(tiles, machine.tile_bytes)
    bits = 8 // per_byte
    fields = stream[:, None] >> (bits * np.arange(per_byte, dtype=np.uint8)) & ((1 << bits) - 1)
    return codebook[fields].reshape(tiles, machine.tile_bytes)
