"""The file of compressed weights (`docs/compression.md`): all layers with their tables, and a checksum."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.encoding.bit_code import BitCode
from quant.encoding.codebook import LARGEST_CODEBOOK
from quant.encoding.error import EncodingError
from quant.encoding.layer_stream import LARGEST_LAYER, EncodedLayer, plain_bits
from quant.encoding.relative_index import LARGEST_INDEX_BITS

__all__ = ["MAGIC", "StoredLayer", "read_weight_file", "weight_file_bytes"]

#: The first four bytes; the last is the version of the format.
MAGIC = b"PSW\x01"

_SPARSE, _GAP_HUFFMAN, _VALUE_HUFFMAN = 1, 2, 4
_LARGEST_RANK = 8


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """A layer of the file.

    Attributes
    ----------
    name : str
    weights : EncodedLayer
    bias : float32 array (out,)
    """

    name: str
    weights: EncodedLayer
    bias: NDArray[np.float32]


def weight_file_bytes(layers: Iterable[StoredLayer]) -> bytes:
    """The content of the file.

    Raises
    ------
    EncodingError
        If there are more than 65,535 layers or a name is longer than 65,535 bytes.
    """
    records = [record_bytes(layer) for layer in layers]
    if len(records) > 0xFFFF:
        raise EncodingError(f"a file may have 65,535 layers at most, not {len(records):,}")
    content = b"".join([MAGIC, struct.pack("<H", len(records)), *records])
    return content + struct.pack("<I", zlib.crc32(content))


def record_bytes(layer: StoredLayer) -> bytes:
    """One layer's record in the file; the errors of `weight_file_bytes`."""
    weights, name = layer.weights, layer.name.encode()
    if len(name) > 0xFFFF:
        raise EncodingError("the name of a layer is longer than 65,535 bytes")
    flags = _VALUE_HUFFMAN if weights.value_code.huffman else 0
    if weights.gap_code is not None:
        flags |= _SPARSE | (_GAP_HUFFMAN if weights.gap_code.huffman else 0)
    parts = [
        struct.pack("<H", len(name)),
        name,
        struct.pack(f"<B{len(weights.shape)}I", len(weights.shape), *weights.shape),
        struct.pack("<I", len(layer.bias)),
        layer.bias.astype("<f4").tobytes(),
        struct.pack("<BBH", flags, weights.gap_bits, len(weights.codebook)),
        weights.codebook.astype("<f4").tobytes(),
        *(
            _nibbles(code.widths)
            for code in (weights.gap_code, weights.value_code)
            if code is not None and code.huffman
        ),
        struct.pack("<II", weights.entries, weights.payload_bits),
        weights.payload,
    ]
    return b"".join(parts)


def _nibbles(lengths: NDArray[np.uint8]) -> bytes:
    even = np.append(lengths, np.zeros(len(lengths) % 2, np.uint8))
    return (even[0::2] | even[1::2] << 4).astype(np.uint8).tobytes()


def read_weight_file(content: bytes, where: str = "the file") -> list[StoredLayer]:
    """The layers of a file; their weights are decoded by `quant.encoding.decode_layer`.

    Parameters
    ----------
    where : str
        Stands for the file in messages.

    Raises
    ------
    EncodingError
        If the file is not one of these, is truncated, or its checksum or structure is wrong.
    """
    if content[:3] != MAGIC[:3]:
        raise EncodingError(f"{where}: not a file of compressed weights")
    if len(content) > 3 and content[3] != MAGIC[3]:
        raise EncodingError(f"{where}: its format has the version {content[3]}, not {MAGIC[3]}")
    if len(content) < len(MAGIC) + 6:
        raise EncodingError(f"{where}: truncated after {len(content)} bytes; copy or write it again")
    (stored,) = struct.unpack("<I", content[-4:])
    found = zlib.crc32(content[:-4])
    if found != stored:
        raise EncodingError(
            f"{where}: truncated or damaged (CRC-32 {found:08x}, not {stored:08x}); copy or write it again"
        )
    try:
        cursor = _Cursor(content[:-4], len(MAGIC))
        layers = [_read_record(cursor) for _ in range(*cursor.numbers("<H"))]
        if cursor.place != len(content) - 4:
            raise EncodingError("bytes follow the last layer")
    except EncodingError as error:
        raise EncodingError(f"{where}: damaged ({error}); write it again") from None
    return layers


class _Cursor:
    """Takes bytes one after another."""

    def __init__(self, content: bytes, place: int):
        self.content, self.place = content, place

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.place:
            raise EncodingError(f"it ends within {count} bytes at {self.place}")
        self.place += count
        return self.content[self.place - count : self.place]

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def floats(self, count: int) -> NDArray[np.float32]:
        values = np.frombuffer(self.take(4 * count), "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise EncodingError("a value is not a finite number")
        return values


def _read_record(cursor: _Cursor) -> StoredLayer:
    try:
        name = cursor.take(*cursor.numbers("<H")).decode()
    except UnicodeDecodeError:
        raise EncodingError("the name of a layer is no text") from None
    (rank,) = cursor.numbers("<B")
    if rank > _LARGEST_RANK:
        raise EncodingError(f"{name}: {rank} dimensions")
    shape = cursor.numbers(f"<{rank}I")
    if math.prod(shape) > LARGEST_LAYER:
        raise EncodingError(f"{name}: the shape {list(shape)} is too large")
    bias = cursor.floats(*cursor.numbers("<I"))
    flags, gap_bits, count = cursor.numbers("<BBH")
    sparse = bool(flags & _SPARSE)
    if flags > 7 or (flags & _GAP_HUFFMAN and not sparse) or count > LARGEST_CODEBOOK:
        raise EncodingError(f"{name}: its flags are {flags}, its codebook has {count} entries")
    if (sparse and not 1 <= gap_bits <= LARGEST_INDEX_BITS) or (not sparse and gap_bits):
        raise EncodingError(f"{name}: its relative indices have {gap_bits} bits")
    book = cursor.floats(count)
    if sparse and (not count or book[0] != 0):
        raise EncodingError(f"{name}: the codebook of a sparse layer does not begin with 0")
    gap_code = _read_code(cursor, bool(flags & _GAP_HUFFMAN), 1 << gap_bits) if sparse else None
    value_code = _read_code(cursor, bool(flags & _VALUE_HUFFMAN), max(1, count))
    entries, bits = cursor.numbers("<II")
    payload = cursor.take((bits + 7) // 8)
    return StoredLayer(
        name, EncodedLayer(shape, book, gap_bits, gap_code, value_code, entries, payload, bits), bias
    )


def _read_code(cursor: _Cursor, huffman: bool, symbols: int) -> BitCode:
    if not huffman:
        return BitCode.plain(plain_bits(symbols))
    packed = np.frombuffer(cursor.take((symbols + 1) // 2), np.uint8)
    return BitCode.of_lengths(np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:symbols])
