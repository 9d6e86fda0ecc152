"""Canonical Huffman codes of limited length: an optimal length for each symbol, from which its code follows.

Only the lengths are stored.  Codes are numbered as in DEFLATE (RFC 1951, 3.2.2): shorter ones first, and
among equal lengths by symbol.  A code is complete (its Kraft sum is 1), but a lone symbol has the code 0
of one bit, and the code 1 is invalid then.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.encoding.error import EncodingError

__all__ = ["LENGTH_LIMIT", "canonical_codes", "check_lengths", "code_lengths"]

#: Longest code in bits, so that a length fits 4 bits.
LENGTH_LIMIT = 15


def code_lengths(counts: ArrayLike, limit: int = LENGTH_LIMIT) -> NDArray[np.uint8]:
    """The length in bits of each symbol's code, at most ``limit``; 0 for symbols that never occur.

    The sum of counts times lengths is the least possible under the limit (package-merge; Larmore and
    Hirschberg 1990).

    Parameters
    ----------
    counts : int array (symbols,)
        How often each symbol occurs.

    Raises
    ------
    EncodingError
        If a count is negative, or so many symbols do not fit under the limit.
    """
    counts = np.asarray(counts, np.int64).reshape(-1)
    if counts.size and counts.min() < 0:
        raise EncodingError("a symbol cannot occur less than 0 times")
    if not 1 <= limit <= LENGTH_LIMIT:
        raise EncodingError(f"the longest code must have 1 to {LENGTH_LIMIT} bits, not {limit}")
    used = np.flatnonzero(counts)
    lengths = np.zeros(counts.size, np.uint8)
    if len(used) > 1 << limit:
        raise EncodingError(f"{len(used)} symbols do not fit into codes of at most {limit} bits")
    if len(used) == 1:
        lengths[used] = 1
    if len(used) < 2:
        return lengths
    leaves: list[tuple[int, Sequence[int]]] = sorted(
        ((int(counts[symbol]), (int(symbol),)) for symbol in used), key=lambda leaf: leaf[0]
    )
    level = leaves
    for _ in range(limit - 1):
        packages = [
            (level[index][0] + level[index + 1][0], (*level[index][1], *level[index + 1][1]))
            for index in range(0, len(level) - 1, 2)
        ]
        level = sorted([*leaves, *packages], key=lambda item: item[0])
    for _, symbols in level[: 2 * len(used) - 2]:
        np.add.at(lengths, list(symbols), 1)
    return lengths


def check_lengths(lengths: ArrayLike) -> None:
    """Refuse lengths that are not those of a canonical code.

    Raises
    ------
    EncodingError
        If a length passes `LENGTH_LIMIT`, or the code is over-subscribed or incomplete.
    """
    lengths = np.asarray(lengths, np.int64)
    used = lengths[lengths > 0]
    if not used.size:
        return
    if lengths.min() < 0 or used.max() > LENGTH_LIMIT:
        raise EncodingError(f"a Huffman code has a length that is not 0 to {LENGTH_LIMIT} bits")
    total = int((1 << (LENGTH_LIMIT - used)).sum())
    if total != 1 << LENGTH_LIMIT and not (used.size == 1 and used[0] == 1):
        what = "over-subscribed" if total > 1 << LENGTH_LIMIT else "incomplete"
        raise EncodingError(f"the lengths of a Huffman code are {what}")


def canonical_codes(lengths: ArrayLike) -> NDArray[np.uint32]:
    """The code of each symbol as a number whose most significant bit is sent first.

    Raises
    ------
    EncodingError
        As `check_lengths`.
    """
    lengths = np.asarray(lengths, np.int64)
    check_lengths(lengths)
    codes = np.zeros(lengths.size, np.uint32)
    code, before = 0, 0
    for symbol in np.lexsort((np.arange(lengths.size), lengths)):
        length = int(lengths[symbol])
        if not length:
            continue
        code <<= length - before
        codes[symbol] = code
        code, before = code + 1, length
    return codes
