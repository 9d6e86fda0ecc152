"""A k x k convolution as a k x 1 and a 1 x k one: the third dimension of the 3-d form.

Jaderberg et al. (BMVC 2014), scheme 2, which TPAMI 2016, section 3.5 puts before the reduction of filters:
the weights with a row for each pair of input channel and kernel row, and a column for each pair of filter
and kernel column, are a matrix, and its truncated SVD is the two kernels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.compression.layer_numbers import kind_of, layers_of
from quant.graph import Convolution, Graph

__all__ = ["SpatialSplit", "spatial_energies", "spatial_split", "spatial_spectrum", "split_rank"]


@dataclass(frozen=True, eq=False)
class SpatialSplit:
    """The kernels of the two convolutions.

    Attributes
    ----------
    vertical : float32 array (middle, inputs, k, 1)
    horizontal : float32 array (filters, middle, 1, k)
    """

    vertical: NDArray[np.float32]
    horizontal: NDArray[np.float32]


def split_rank(node: Convolution) -> int:
    """Filters in the middle with which the two kernels are as good as the one."""
    filters, inputs, rows, columns = node.weight.shape
    return min(inputs * rows, filters * columns)


def _matrix(node: Convolution) -> NDArray[np.float64]:
    filters, inputs, rows, columns = node.weight.shape
    ordered = node.weight.astype(np.float64).transpose(1, 2, 0, 3)
    return ordered.reshape(inputs * rows, filters * columns)


def spatial_spectrum(node: Convolution) -> NDArray[np.float64]:
    """Squared singular values of what is split, the largest first."""
    return np.square(np.linalg.svd(_matrix(node), compute_uv=False), dtype=np.float64)


def spatial_split(node: Convolution, middle: int) -> SpatialSplit:
    """The best two kernels with so many filters in the middle."""
    filters, inputs, rows, columns = node.weight.shape
    left, sizes, right = np.linalg.svd(_matrix(node), full_matrices=False)
    roots = np.sqrt(sizes[:middle])
    vertical = (left[:, :middle] * roots).T.reshape(middle, inputs, rows, 1)
    horizontal = (right[:middle].T * roots).reshape(filters, columns, middle)
    return SpatialSplit(
        vertical.astype(np.float32), horizontal.transpose(0, 2, 1)[:, :, None].astype(np.float32)
    )


def spatial_energies(graph: Graph, names: Iterable[str]) -> dict[str, NDArray[np.float64]]:
    """For each of these layers that can be split, the share of its energy (split rank + 1,) at each rank."""
    layers, found = layers_of(graph), {}
    for name in names:
        node = layers[name]
        if node.groups == 1 and min(node.weight.shape[2:]) > 1 and kind_of(node, graph) == "conv":
            sums = np.concatenate([[0.0], np.cumsum(spatial_spectrum(node))])
            found[name] = sums / sums[-1] if sums[-1] > 0 else np.ones(len(sums))
    return found
