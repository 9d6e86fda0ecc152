"""Symbols as bits: plain fields and Huffman codes in one stream.

Bit n of a stream is bit n mod 8 of byte n // 8, which is also bit n mod 64 of a little-endian 64-bit word
n // 64.  A plain field is sent from its least significant bit on, a Huffman code from its most
significant bit on (both as in DEFLATE, RFC 1951, 3.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.encoding.error import EncodingError
from quant.encoding.huffman import canonical_codes

__all__ = ["BitCode", "decode_fields", "encode_fields"]

_WIDEST = 16
#: Bits that are decoded at once, so that memory stays small.
_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class BitCode:
    """How the symbols 0 … n - 1 of one kind are written.

    Attributes
    ----------
    patterns : uint32 array (n,)
        Bits of each symbol; bit 0 is sent first.
    widths : uint8 array (n,)
        How many bits; 0 for a symbol that cannot be written.
    huffman : bool
        Whether it is a Huffman code.
    """

    patterns: NDArray[np.uint32]
    widths: NDArray[np.uint8]
    huffman: bool

    @classmethod
    def plain(cls, bits: int) -> BitCode:
        """Fields of 1 to 16 bits.

        Raises
        ------
        EncodingError
        """
        if not 1 <= bits <= _WIDEST:
            raise EncodingError(f"a field must have 1 to {_WIDEST} bits, not {bits}")
        return cls(np.arange(1 << bits, dtype=np.uint32), np.full(1 << bits, bits, np.uint8), False)

    @classmethod
    def of_lengths(cls, lengths: ArrayLike) -> BitCode:
        """The canonical Huffman code of these lengths; errors as `canonical_codes`."""
        lengths = np.asarray(lengths, np.uint8)
        codes = canonical_codes(lengths)
        patterns = np.zeros(len(codes), np.uint32)
        for bit in range(int(lengths.max(initial=0))):
            inside = lengths > bit
            patterns[inside] |= ((codes[inside] >> (lengths[inside] - 1 - bit)) & 1) << np.uint32(bit)
        return cls(patterns, lengths, True)

    def bits(self, counts: ArrayLike) -> int:
        """Bits of a message with so many of each symbol, (n,) or fewer."""
        counts = np.asarray(counts, np.int64)
        return int((counts * self.widths[: len(counts)]).sum())

    def _table(self) -> tuple[int, NDArray[np.uint16], NDArray[np.uint8]]:
        """Bits to look at, and for each value of them the symbol and its width (0: no symbol)."""
        look = max(1, int(self.widths.max(initial=0)))
        symbols, widths = np.zeros(1 << look, np.uint16), np.zeros(1 << look, np.uint8)
        for symbol in np.flatnonzero(self.widths):
            step = 1 << int(self.widths[symbol])
            symbols[int(self.patterns[symbol]) :: step] = symbol
            widths[int(self.patterns[symbol]) :: step] = self.widths[symbol]
        return look, symbols, widths


def encode_fields(columns: Sequence[NDArray[np.integer]], codes: Sequence[BitCode]) -> tuple[bytes, int]:
    """Rows of symbols, one after another, each with its columns in order.

    Parameters
    ----------
    columns : sequence of int arrays (rows,)
    codes : sequence of BitCode
        One for each column.

    Returns
    -------
    bytes, int
        The stream, filled up with zeros to whole bytes, and how many bits it has.

    Raises
    ------
    EncodingError
        If a symbol has no code.
    """
    rows = len(columns[0])
    patterns = np.zeros((rows, len(codes)), np.uint32)
    widths = np.zeros((rows, len(codes)), np.int64)
    for number, (column, code) in enumerate(zip(columns, codes, strict=True)):
        column = np.asarray(column, np.int64)
        if rows and not (column.min() >= 0 and column.max() < len(code.widths)):
            raise EncodingError(f"a symbol is not 0 to {len(code.widths) - 1}")
        patterns[:, number], widths[:, number] = code.patterns[column], code.widths[column]
    if not widths.all():
        raise EncodingError("a symbol has no code")
    flat, sizes = patterns.reshape(-1), widths.reshape(-1)
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if rows else 0
    bits = np.zeros(total, np.uint8)
    for bit in range(int(sizes.max(initial=0))):
        inside = sizes > bit
        bits[(ends - sizes)[inside] + bit] = (flat[inside] >> np.uint32(bit)) & 1
    return np.packbits(bits, bitorder="little").tobytes(), total


def decode_fields(
    stream: bytes, total: int, rows: int, codes: Sequence[BitCode]
) -> tuple[NDArray[np.int64], ...]:
    """The columns that `encode_fields` wrote.

    Parameters
    ----------
    total : int
        Bits of the stream; all of them must be used.
    rows : int

    Raises
    ------
    EncodingError
        If the stream is too short or too long, or its bits are no code.
    """
    if len(stream) * 8 < total:
        raise EncodingError(f"a stream of {total} bits has only {len(stream)} bytes")
    if rows * len(codes) > total:  # each symbol has a bit at least
        raise EncodingError(f"{rows} entries cannot lie in {total} bits")
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=total, bitorder="little")
    tables = [code._table() for code in codes]
    margin = sum(look for look, _, _ in tables)
    result = np.zeros((len(codes), rows), np.int64)
    done = position = 0
    while done < rows:
        piece = bits[position : position + _CHUNK + margin]
        starts, found, after = _chunk(piece, min(_CHUNK, len(piece)), rows - done, tables)
        result[:, done : done + len(starts)] = found
        done, position = done + len(starts), position + after
        if position > total or (done < rows and position == total):
            raise EncodingError(f"a stream ends after {total} bits, within its {rows} entries")
    if position != total:
        raise EncodingError(f"{rows} entries take {position} bits, but their stream has {total}")
    return tuple(result)


def _chunk(
    bits: NDArray[np.uint8],
    until: int,
    most: int,
    tables: Sequence[tuple[int, NDArray[np.uint16], NDArray[np.uint8]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Rows that start before ``until``: their first bits, symbols (columns, rows), and the bit after them."""
    places = np.arange(len(bits) + 1)
    behind = places  # for each place, where the columns so far of a row that starts there end; -1: nowhere
    symbols = []
    for look, of_window, width_of in tables:
        padded = np.concatenate([bits, np.zeros(look, np.uint8)])
        windows = np.zeros(len(bits) + 1, np.uint32)
        for bit in range(look):
            windows |= padded[bit : bit + len(windows)].astype(np.uint32) << np.uint32(bit)
        valid = (behind >= 0) & (behind <= len(bits))
        here = windows[np.where(valid, behind, 0)]
        symbols.append(of_window[here])
        behind = np.where(valid & (width_of[here] > 0), behind + width_of[here], np.where(valid, -1, behind))
    chain = behind.tolist()
    starts: list[int] = []
    place = 0
    while place < until and len(starts) < most:
        starts.append(place)
        place = chain[place]
        if place < 0:
            raise EncodingError("a stream holds bits that are no code")
    first = np.array(starts, np.int64)
    return first, np.stack([column[first] for column in symbols]).astype(np.int64), place
