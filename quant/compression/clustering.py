"""k-means on the weights of a layer, from the three starts of Han et al. 2016, section 3.1 and 3.2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quant.compression.error import CompressionError
from quant.encoding import nearest_entries

__all__ = ["STARTS", "first_centroids", "shared_values"]

#: Equal steps from the least to the largest weight; equal steps in their distribution; some of them.
STARTS = ("linear", "density", "random")

_MOST_ITERATIONS = 300


def first_centroids(
    values: NDArray[np.floating], clusters: int, start: str = "linear", seed: int = 0
) -> NDArray[np.float64]:
    """Where k-means begins, ascending: ``clusters`` centroids or, without repetition, fewer.

    Parameters
    ----------
    values : array (n,), n > 0
    start : str
        One of `STARTS`; ``random`` (Forgy) draws among the distinct weights.

    Raises
    ------
    CompressionError
        If there is no such start or less than one cluster.
    """
    if clusters < 1:
        raise CompressionError(f"weights cannot be shared among {clusters} values; give 1 or more")
    if start == "linear":
        found = np.linspace(values.min(), values.max(), clusters) if clusters > 1 else [values.mean()]
    elif start == "density":
        found = np.quantile(values, (np.arange(clusters) + 0.5) / clusters)
    elif start == "random":
        distinct = np.unique(values)
        count = min(clusters, len(distinct))
        found = np.random.default_rng(seed).choice(distinct, count, replace=False)
    else:
        raise CompressionError(f"{start!r} is no start; there are {', '.join(STARTS)}")
    return np.unique(np.asarray(found, np.float64))


def shared_values(
    values: NDArray[np.floating], clusters: int, start: str = "linear", seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centroids, and the one that stands for each value: least squares by Lloyd's iteration.

    A cluster that has no value is dropped, so that there may be fewer than ``clusters``; no more distinct
    values than clusters are all kept as they are.

    Returns
    -------
    float32 array (k,), int64 array (n,)
        Centroids in ascending order, and an index for each value.
    """
    values = np.asarray(values, np.float32).reshape(-1)
    distinct, place = np.unique(values, return_inverse=True)
    if len(distinct) <= clusters:
        return distinct, place.reshape(-1).astype(np.int64)
    centroids = first_centroids(values, clusters, start, seed)
    indices = nearest_entries(values, centroids)
    for _ in range(_MOST_ITERATIONS):
        counts = np.bincount(indices, minlength=len(centroids))
        sums = np.bincount(indices, values.astype(np.float64), len(centroids))
        centroids = np.unique(sums[counts > 0] / counts[counts > 0])
        moved = nearest_entries(values, centroids)
        if len(centroids) == len(counts) and np.array_equal(moved, indices):
            break
        indices = moved
    book, merged = np.unique(centroids.astype(np.float32), return_inverse=True)
    return book, merged.reshape(-1)[indices]
