"""Few distinct values: a table of them and an index into it for each weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.encoding.error import EncodingError

__all__ = ["LARGEST_CODEBOOK", "look_up", "nearest_entries", "split_into_codebook"]

#: Entries that a codebook may have, that of fillers included: an index has 8 bits at most.
LARGEST_CODEBOOK = 256


def split_into_codebook(
    values: ArrayLike, *, zero_first: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The distinct values in ascending order, and the index of each value; -0 counts as 0.

    Parameters
    ----------
    values : float32 array (n,)
    zero_first : bool
        Put 0 in front, for fillers, whether it occurs or not.

    Raises
    ------
    EncodingError
        If a value is not finite or there are more than `LARGEST_CODEBOOK`.
    """
    values = np.asarray(values, np.float32).reshape(-1) + np.float32(0)  # -0 + 0 is 0
    if not np.isfinite(values).all():
        raise EncodingError("a weight is not a finite number")
    book, indices = np.unique(values, return_inverse=True)
    indices = indices.astype(np.int64).reshape(-1)
    if zero_first:
        kept = np.flatnonzero(book != 0)
        place = np.zeros(len(book), np.int64)
        place[kept] = np.arange(len(kept)) + 1
        book, indices = np.concatenate([np.zeros(1, np.float32), book[kept]]), place[indices]
    if len(book) > LARGEST_CODEBOOK:
        raise EncodingError(
            f"{len(book)} distinct weights do not fit a codebook of {LARGEST_CODEBOOK}; share weights first"
        )
    return book, indices


def nearest_entries(values: ArrayLike, book: NDArray[np.floating]) -> NDArray[np.int64]:
    """The index of the entry nearest to each value; of two equally near ones the smaller entry's.

    ``book`` need not be in order, but must not be empty.
    """
    order = np.argsort(book, kind="stable")
    middles = (book[order][1:].astype(np.float64) + book[order][:-1]) / 2
    return order[np.searchsorted(middles, np.asarray(values, np.float64), side="left")]


def look_up(book: NDArray[np.float32], indices: NDArray[np.integer]) -> NDArray[np.float32]:
    """The value of each index.

    Raises
    ------
    EncodingError
        If an index is outside of the codebook.
    """
    if indices.size and not (indices.min() >= 0 and indices.max() < len(book)):
        raise EncodingError(f"an index is outside of its codebook of {len(book)} entries")
    return book[indices]
