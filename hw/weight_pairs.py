"""Weights of 4 bits, two in a byte: what a tile of a COMPUTE with ``pairs`` means (`docs/machine.md`).

Such a tile has weights for twice as many input lanes, in as many bytes.  A byte holds the weights of two
output lanes, half of all apart, and the columns of the upper half those of the second half of the inputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw.machine import Machine

__all__ = ["PAIR_HIGH", "PAIR_LOW", "fits_pairs", "pair_tiles", "unpair_tiles"]

#: Range of a weight of 4 bits.
PAIR_LOW, PAIR_HIGH = -8, 7


def fits_pairs(weights: NDArray[np.integer]) -> bool:
    """Whether all these integers are weights of 4 bits."""
    return bool(weights.min(initial=0) >= PAIR_LOW and weights.max(initial=0) <= PAIR_HIGH)


def pair_tiles(weights: NDArray[np.integer], machine: Machine) -> NDArray[np.int8]:
    """Tiles (count, output_lanes, input_lanes) of weights (count, output_lanes, 2 * input_lanes), -8 to 7.

    A byte is ``16 * upper + lower`` modulo 256: its low four bits are the lower output lane's weight, the
    high ones that of the upper, less 1 where the lower is negative.
    """
    count, outputs, lanes = weights.shape
    half = outputs // 2
    wide = weights.astype(np.int16)
    packed = (16 * wide[:, half:] + wide[:, :half]).astype(np.uint8).view(np.int8)
    halves = packed.reshape(count, half, 2, lanes // 2).transpose(0, 2, 1, 3)
    return halves.reshape(count, machine.output_lanes, machine.input_lanes)


def unpair_tiles(tiles: NDArray[np.int8], machine: Machine) -> NDArray[np.int8]:
    """The weights that `pair_tiles` has packed."""
    count, half = len(tiles), machine.output_lanes // 2
    halves = tiles.reshape(count, 2, half, machine.input_lanes)
    packed = halves.transpose(0, 2, 1, 3).reshape(count, half, -1).view(np.uint8).astype(np.int16)
    lower = ((packed & 15) ^ 8) - 8
    upper = ((((packed - lower) >> 4) & 15) ^ 8) - 8
    return np.concatenate([lower, upper], axis=1).astype(np.int8)
