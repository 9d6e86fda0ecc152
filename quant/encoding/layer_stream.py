"""One layer's weights as a codebook and one stream of bits.

A sparse layer's stream is a sequence of entries, each a gap (`quant.encoding.relative_index`) and then an
index into the codebook, whose entry 0 is 0; a dense layer's is an index for each weight.  Gaps and indices
are plain fields or Huffman codes, whichever takes fewer bits, code lengths included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.encoding.bit_code import BitCode, decode_fields, encode_fields
from quant.encoding.codebook import LARGEST_CODEBOOK, look_up, split_into_codebook
from quant.encoding.error import EncodingError
from quant.encoding.huffman import code_lengths
from quant.encoding.relative_index import LARGEST_INDEX_BITS, positions_of, relative_indices

__all__ = ["LARGEST_LAYER", "LENGTH_BITS", "EncodedLayer", "IndexWidths", "decode_layer", "encode_layer"]

#: Bits that store one code length.
LENGTH_BITS = 4
#: Weights that a layer may have; more are taken for damage.
LARGEST_LAYER = 1 << 28

#: Widths of a relative index to choose from.
IndexWidths = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class EncodedLayer:
    """The weights of one layer, encoded.

    Attributes
    ----------
    shape : tuple
        Shape of the weights; the stream has them in C order: (out, in / groups, rows, columns).
    codebook : float32 array (entries,)
        Entry 0 of a sparse layer is 0.
    gap_bits : int
        Width of a relative index; 0 for a dense layer.
    gap_code : BitCode or None
        None for a dense layer.
    value_code : BitCode
    entries : int
        Rows of the stream, fillers included.
    payload : bytes
        The stream, filled up to whole bytes.
    payload_bits : int
    """

    shape: tuple[int, ...]
    codebook: NDArray[np.float32]
    gap_bits: int
    gap_code: BitCode | None
    value_code: BitCode
    entries: int
    payload: bytes
    payload_bits: int

    @property
    def value_bits(self) -> int:
        """Width of a plain index into the codebook."""
        return plain_bits(len(self.codebook))

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Gaps and codebook indices of all entries; no gaps for a dense layer.

        Raises
        ------
        EncodingError
            If the stream is damaged.
        """
        if self.gap_code is None:
            (values,) = decode_fields(self.payload, self.payload_bits, self.entries, (self.value_code,))
            return np.zeros(0, np.int64), values
        gaps, values = decode_fields(
            self.payload, self.payload_bits, self.entries, (self.gap_code, self.value_code)
        )
        return gaps, values


def plain_bits(entries: int) -> int:
    """Width of a plain index into a table; 1 at least."""
    return max(1, math.ceil(math.log2(max(1, entries))))


def encode_layer(weights: NDArray[np.float32], index_bits: IndexWidths | None = None) -> EncodedLayer:
    """The encoding of weights that takes fewest bits.

    Parameters
    ----------
    weights : float32 array
        With at most `LARGEST_CODEBOOK` distinct values; -0 is stored as 0.
    index_bits : tuple of int or None
        Widths of relative indices to choose from; with one or more given, the layer is sparse if any of
        its weights is 0.  None: 1 to `LARGEST_INDEX_BITS`, or dense.

    Raises
    ------
    EncodingError
        If a weight is not finite, or there are too many weights or distinct ones.
    """
    flat = np.ascontiguousarray(weights, np.float32).reshape(-1)
    if flat.size > LARGEST_LAYER:
        raise EncodingError(f"a layer may have {LARGEST_LAYER:,} weights at most, not {flat.size:,}")
    sparse_only = index_bits is not None and bool((flat == 0).any())
    candidates = [] if sparse_only else list(_dense(flat, weights.shape))
    if index_bits is None or sparse_only:
        widths = range(1, LARGEST_INDEX_BITS + 1) if index_bits is None else index_bits
        candidates += [_sparse(flat, weights.shape, bits) for bits in widths if _can_be_sparse(flat)]
    if not candidates:
        raise EncodingError(f"more than {LARGEST_CODEBOOK} distinct weights; share weights first")
    return min(candidates, key=lambda candidate: stored_bits(candidate))


def _can_be_sparse(flat: NDArray[np.float32]) -> bool:
    return len(np.unique(flat[flat != 0])) < LARGEST_CODEBOOK


def stored_bits(layer: EncodedLayer) -> int:
    """Bits of stream, codebook and code lengths."""
    total = layer.payload_bits + 32 * len(layer.codebook)
    for code in (layer.gap_code, layer.value_code):
        if code is not None and code.huffman:
            total += LENGTH_BITS * len(code.widths)
    return total


def _code(symbols: NDArray[np.int64], size: int) -> BitCode:
    """The plain fields or Huffman code for symbols below ``size``, whichever takes fewer bits."""
    counts = np.bincount(symbols, minlength=size)
    plain = BitCode.plain(plain_bits(size))
    huffman = BitCode.of_lengths(code_lengths(counts))
    saves = huffman.bits(counts) + LENGTH_BITS * size < plain.bits(counts)
    return huffman if saves else plain


def _dense(flat: NDArray[np.float32], shape: tuple[int, ...]) -> Iterator[EncodedLayer]:
    if len(np.unique(flat)) > LARGEST_CODEBOOK:
        return
    book, values = split_into_codebook(flat, zero_first=False)
    code = _code(values, max(1, len(book)))
    payload, bits = encode_fields((values,), (code,))
    yield EncodedLayer(shape, book, 0, None, code, len(values), payload, bits)


def _sparse(flat: NDArray[np.float32], shape: tuple[int, ...], gap_bits: int) -> EncodedLayer:
    positions = np.flatnonzero(flat)
    gaps, sources = relative_indices(positions, gap_bits)
    book, kept = split_into_codebook(flat[positions], zero_first=True)
    values = np.zeros(len(gaps), np.int64)
    values[sources >= 0] = kept
    codes = _code(gaps, 1 << gap_bits), _code(values, len(book))
    payload, bits = encode_fields((gaps, values), codes)
    return EncodedLayer(shape, book, gap_bits, codes[0], codes[1], len(gaps), payload, bits)


def decode_layer(layer: EncodedLayer) -> NDArray[np.float32]:
    """The weights, bit for bit those that were encoded.

    Raises
    ------
    EncodingError
        If the stream is damaged: bits that are no code, indices outside of the codebook, positions
        outside of the layer, or a wrong length.
    """
    size = math.prod(layer.shape)
    if size > LARGEST_LAYER or min(layer.shape, default=0) < 0:
        raise EncodingError(f"a layer of the shape {list(layer.shape)} is too large")
    if layer.entries > size:
        raise EncodingError(f"{layer.entries} entries for {size} weights")
    gaps, indices = layer.columns()
    values = look_up(layer.codebook, indices)
    if layer.gap_code is None:
        if len(values) != size:
            raise EncodingError(f"{len(values)} entries for {size} weights of a dense layer")
        return values.reshape(layer.shape)
    positions = positions_of(gaps)
    if len(positions) and positions[-1] >= size:
        raise EncodingError(f"an entry stands for weight {positions[-1]} of {size}")
    flat = np.zeros(size, np.float32)
    flat[positions] = values
    return flat.reshape(layer.shape)
