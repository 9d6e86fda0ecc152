"""The weight phase of dynamic precision (Qiu et al. 2016, section 4.2): fractional lengths of weights."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quant.fixed_model import FixedWeights, channel_bounds
from quant.graph import Convolution
from quant.number_format import FL_LIMIT, Format

__all__ = [
    "ERROR_POWERS",
    "METHODS",
    "choose_weight_lengths",
    "fixed_weights",
    "largest_fl_without_overflow",
    "real_parameters",
]

#: How fractional lengths are chosen.  ``greedy``: the neighbour with the least sum of squared errors;
#: ``absolute``: with the least sum of absolute errors, as in the paper; ``max``: by the largest magnitude.
METHODS = ("greedy", "absolute", "max")

#: Power of the errors that a method adds up.
ERROR_POWERS = {"greedy": 2, "absolute": 1}

#: Neighbours of the no-overflow fractional length that are tried: from one below it, in which the largest
#: weights round better, to three above it, in which only the bulk of the weights fits.
_NEIGHBOURS = range(-1, 4)


def largest_fl_without_overflow(low: float, high: float, bits: int, signed: bool) -> int:
    """The largest fl at which values from ``low`` to ``high`` round to integers of the format.

    All-zero values get ``bits - 1``, as if they were below 1.
    """
    form = Format(bits, signed, 0)
    largest = max(high, -low if signed else 0.0)
    if largest <= 0.0:
        return bits - 1
    fl = math.floor(math.log2((form.high + 1) / largest)) + 1
    while np.rint(math.ldexp(high, fl)) > form.high or (signed and np.rint(math.ldexp(low, fl)) < form.low):
        fl -= 1
    return max(-FL_LIMIT, min(FL_LIMIT, fl))


def choose_weight_lengths(
    weight: NDArray[np.floating], bits: int, method: str = "greedy", per_channel: bool = False
) -> NDArray[np.int64]:
    """Fractional length of each output channel (out,); all equal unless ``per_channel``.

    Tried are the no-overflow length and its neighbours; ``method`` is one of `METHODS`.
    """
    whole = _choose(weight, bits, method)
    if not per_channel:
        return np.full(len(weight), whole, np.int64)
    # channels that small are lost in their layer's feature map, whatever their weights' precision
    return np.array([min(_choose(channel, bits, method), whole + bits) for channel in weight], np.int64)


def _choose(weight: NDArray[np.floating], bits: int, method: str) -> int:
    values = np.asarray(weight, np.float64)
    start = largest_fl_without_overflow(
        float(values.min(initial=0.0)), float(values.max(initial=0.0)), bits, True
    )
    if method == "max":
        return start

    def error(fl: int) -> float:
        form = Format(bits, True, fl)
        difference = np.abs(values - np.ldexp(form.quantize(values).astype(np.float64), -fl))
        return float((difference ** ERROR_POWERS[method]).sum())

    candidates = [fl for fl in (start + step for step in _NEIGHBOURS) if abs(fl) <= FL_LIMIT]
    # of equal ones, the nearest to no overflow
    return min(candidates, key=lambda fl: (error(fl), abs(fl - start)))


def fixed_weights(
    node: Convolution, bits: int, lengths: NDArray[np.int64], input_fl: int, input_range: tuple[int, int]
) -> FixedWeights:
    """A convolution's weights and biases as integers.

    ``lengths`` (out,) are given up bit by bit where a channel's sums could pass 32 bits: a bias far
    larger than the weights, say.
    """
    form = Format(bits, True, 0)
    bias, weight = np.asarray(node.bias, np.float64), np.asarray(node.weight, np.float64)
    per_channel = bool(np.any(lengths != lengths[0]))
    while True:
        scaled = np.rint(np.ldexp(weight, lengths.reshape(-1, 1, 1, 1)))
        # far outside 32 bits is enough to know that a bias does not fit
        units = np.clip(np.rint(np.ldexp(bias, input_fl + lengths)), -(2.0**40), 2.0**40)
        weights = FixedWeights(
            np.clip(scaled, form.low, form.high).astype(np.int64), bits, lengths, units.astype(np.int64)
        )
        too_large = channel_bounds(weights, input_range) >= 1 << 31
        if not too_large.any():
            return weights
        lengths = lengths - (too_large if per_channel else 1)


def real_parameters(weights: FixedWeights, input_fl: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weights and biases that the integers stand for."""
    weight = np.ldexp(weights.values.astype(np.float64), -weights.fl.reshape(-1, 1, 1, 1))
    bias = np.ldexp(weights.bias.astype(np.float64), -(weights.fl + input_fl))
    return weight.astype(np.float32), bias.astype(np.float32)
