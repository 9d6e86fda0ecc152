"""Where the non-zero weights are, as differences (Han et al. 2016, section 2).

An entry is a gap g of ``bits`` bits and a value: g zeros are skipped, then the value comes.  Where more
than 2^bits - 1 zeros follow each other, a filler comes first: gap 2^bits - 1 and the value 0, which stands
for 2^bits zeros.  Zeros after the last value are not stored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.encoding.error import EncodingError

__all__ = ["LARGEST_INDEX_BITS", "positions_of", "relative_indices"]

LARGEST_INDEX_BITS = 8


def relative_indices(positions: ArrayLike, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The gaps of all entries, and which value each has.

    Parameters
    ----------
    positions : int array (n,)
        Ascending, from 0 on.
    bits : int
        1 to `LARGEST_INDEX_BITS`.

    Returns
    -------
    gaps, sources : int64 arrays (entries,)
        ``sources`` counts the positions from 0; -1 for a filler.

    Raises
    ------
    EncodingError
    """
    if not 1 <= bits <= LARGEST_INDEX_BITS:
        raise EncodingError(f"a relative index must have 1 to {LARGEST_INDEX_BITS} bits, not {bits}")
    positions = np.asarray(positions, np.int64).reshape(-1)
    zeros = np.diff(positions, prepend=-1) - 1
    if zeros.size and zeros.min() < 0:
        raise EncodingError("positions must ascend from 0 on")
    span = 1 << bits
    ends = np.cumsum(zeros // span + 1)
    entries = int(ends[-1]) if ends.size else 0
    gaps, sources = np.full(entries, span - 1, np.int64), np.full(entries, -1, np.int64)
    gaps[ends - 1], sources[ends - 1] = zeros % span, np.arange(len(positions))
    return gaps, sources


def positions_of(gaps: ArrayLike) -> NDArray[np.int64]:
    """The position of each entry, fillers included: the sum of (gap + 1) so far, minus 1."""
    return np.cumsum(np.asarray(gaps, np.int64) + 1) - 1
