"""Where the elements of an ONNX tensor lie in a (C, H, W) tensor.

An ONNX tensor that only rearranges a feature map (Transpose, Reshape, Slice, Pad, …) is never
computed.  It is a `View`: an array of the ONNX tensor's shape that holds, for each element, its
position in the flattened (C, H, W) tensor.  An operator that needs (C, H, W) order asks here
whether the positions are in that order, or a regular part of it (`find_window`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.graph import Pads, Shape

__all__ = ["LARGEST_MAP", "LOWEST", "ZERO", "View", "Window", "find_window", "is_complete", "order_of"]

LARGEST_MAP = 2**30  #: elements of a feature map; their positions are 32-bit integers
ZERO = -1    #: the position of an element that is not in the tensor: a zero from a Pad
LOWEST = -2  #: the same for padding with minus infinity


@dataclass(frozen=True, eq=False)
class View:
    """An ONNX tensor as elements of a graph tensor.

    Attributes
    ----------
    name : str
        The ONNX tensor.
    tensor : str
        The (C, H, W) tensor of the graph that its elements come from.
    index : int32 array
        For each element its position in that tensor, or `ZERO` or `LOWEST`.
    """

    name: str
    tensor: str
    index: NDArray[np.int32]


@dataclass(frozen=True)
class Window:
    """A regular part of a (C, H, W) tensor with padding around it.

    ``start``, ``step`` and ``size`` are (channel, row, column); ``channels_before`` and
    ``channels_after`` are padding channels, ``pads`` padding pixels; ``fill`` is what they hold.
    """

    start: tuple[int, int, int]
    step: tuple[int, int, int]
    size: Shape
    channels_before: int
    channels_after: int
    pads: Pads
    fill: int

    def takes_all_of(self, shape: Shape) -> bool:
        """Whether nothing is left out and no channel added, so that only ``pads`` may remain."""
        return self.size == shape and self.channels_before == self.channels_after == 0


def order_of(count: int) -> NDArray[np.int32]:
    """The positions of ``count`` elements in their own order."""
    return np.arange(count, dtype=np.int32)


def is_complete(index: NDArray[np.int32], count: int) -> bool:
    """Whether each of ``count`` elements appears exactly once, in any order."""
    if index.size != count:
        return False
    flat = index.reshape(-1)
    order = order_of(count)
    return np.array_equal(flat, order) or np.array_equal(np.sort(flat), order)


def _regular(coordinates: NDArray[np.int32]) -> tuple[int, int] | None:
    """(start, step) of evenly spaced, rising coordinates; None if they are not."""
    step = int(coordinates[1] - coordinates[0]) if coordinates.size > 1 else 1
    if step < 1 or np.any(np.diff(coordinates) != step):
        return None
    return int(coordinates[0]), step


def find_window(index: NDArray[np.int32], shape: Shape) -> Window | None:
    """How a (C', H', W') array of positions is cut out of a tensor of ``shape``; None if it is not."""
    if index.ndim != 3 or index.size == 0:
        return None
    if index.shape == shape and np.array_equal(index.reshape(-1), order_of(index.size)):
        return Window((0, 0, 0), (1, 1, 1), shape, 0, 0, (0, 0, 0, 0), ZERO)
    inside = index >= 0
    if not inside.any():
        return None
    edges = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        used = np.flatnonzero(inside.any(axis=others))
        edges.append((int(used[0]), int(used[-1]) + 1))
    core = index[tuple(slice(*edge) for edge in edges)]
    padding = np.unique(index[~inside])
    if (core < 0).any() or padding.size > 1:
        return None
    channels, rows, columns = np.unravel_index(core, shape)
    parts = [_regular(channels[:, 0, 0]), _regular(rows[0, :, 0]), _regular(columns[0, 0, :])]
    if any(part is None for part in parts):
        return None
    (c, sc), (h, sh), (w, sw) = (part for part in parts if part is not None)
    grid = np.ix_(c + sc * np.arange(core.shape[0]), h + sh * np.arange(core.shape[1]),
                  w + sw * np.arange(core.shape[2]))
    if not np.array_equal(core, np.ravel_multi_index(grid, shape)):
        return None
    (first_c, end_c), (first_h, end_h), (first_w, end_w) = edges
    return Window((c, h, w), (sc, sh, sw), (core.shape[0], core.shape[1], core.shape[2]),
                  first_c, index.shape[0] - end_c,
                  (first_h, first_w, index.shape[1] - end_h, index.shape[2] - end_w),
                  int(padding[0]) if padding.size else ZERO)
