"""The weight phase of dynamic precision (Qiu et al. 2016, section 4.2): fractional lengths of weights."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quant.number_format import FL_LIMIT, Format

__all__ = ["choose_weight_lengths", "largest_fl_without_overflow", "quantize_weights"]

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


def choose_weight_lengths(weight: NDArray[np.floating], bits: int, method: str = "greedy",
                          per_channel: bool = False) -> NDArray[np.int64]:
    """Fractional length of each output channel (out,); all equal unless ``per_channel``.

    ``"greedy"`` takes the neighbour of the no-overflow length with the least sum of |float - fixed|;
    ``"max"`` stays at the no-overflow length.
    """
    if per_channel:
        return np.array([_choose(channel, bits, method) for channel in weight], np.int64)
    return np.full(len(weight), _choose(weight, bits, method), np.int64)


def _choose(weight: NDArray[np.floating], bits: int, method: str) -> int:
    values = np.asarray(weight, np.float64)
    start = largest_fl_without_overflow(float(values.min(initial=0.0)), float(values.max(initial=0.0)), bits, True)
    if method == "max":
        return start

    def error(fl: int) -> float:
        form = Format(bits, True, fl)
        return float(np.abs(values - form.dequantize(form.quantize(values))).sum())

    candidates = [fl for fl in (start + step for step in _NEIGHBOURS) if abs(fl) <= FL_LIMIT]
    # of equal ones, the nearest to no overflow
    return min(candidates, key=lambda fl: (error(fl), abs(fl - start)))


def quantize_weights(weight: NDArray[np.floating], bits: int, fl: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integers of weights (out, ...) in units of 2^-fl of their output channel, clipped to ``bits``."""
    form = Format(bits, True, 0)
    lengths = fl.reshape(-1, *[1] * (weight.ndim - 1))
    scaled = np.rint(np.ldexp(np.asarray(weight, np.float64), lengths))
    return np.clip(scaled, form.low, form.high).astype(np.int64)
