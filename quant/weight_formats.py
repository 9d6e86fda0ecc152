"""The weight phase of dynamic precision (Qiu et al. 2016, section 4.2): fractional lengths of weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quant.fixed_model import FixedWeights, channel_bounds
from quant.graph import Convolution
from quant.number_format import FL_LIMIT, Format

__all__ = [
    "ERROR_POWERS",
    "candidate_lengths",
    "choose_weight_lengths",
    "fixed_weights",
    "largest_fl_without_overflow",
    "nearest_errors",
    "nearest_values",
    "pick_lengths",
    "real_parameters",
]

#: Power of the errors that a way to choose formats adds up.
ERROR_POWERS = {"greedy": 2, "absolute": 1}

#: Neighbours of the no-overflow fractional length that are tried, nearest first: from one below it, in
#: which the largest weights round better, to three above it, in which only the bulk of the weights fits.
_STEPS = (0, -1, 1, 2, 3)


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


def candidate_lengths(
    weight: NDArray[np.floating], bits: int, formats: str = "greedy", channels: bool = False
) -> NDArray[np.int64]:
    """Fractional lengths (choices, out) that are tried, the one without overflow first.

    ``formats`` is one of `quant.search.FORMATS`; with ``channels`` each channel starts from its own largest
    weight, else all from that of the layer.
    """
    whole = _start(weight, bits)
    starts = np.full(len(weight), whole, np.int64)
    if channels:
        # channels that small are lost in their layer's feature map, whatever their weights' precision
        starts = np.array([min(_start(channel, bits), whole + bits) for channel in weight], np.int64)
    steps = (0,) if formats == "max" else _STEPS
    return np.clip(starts + np.array(steps).reshape(-1, 1), -FL_LIMIT, FL_LIMIT)


def _start(weight: NDArray[np.floating], bits: int) -> int:
    return largest_fl_without_overflow(
        float(weight.min(initial=0.0)), float(weight.max(initial=0.0)), bits, True
    )


def nearest_values(weight: NDArray[np.floating], bits: int, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nearest integers (…, out, in, rows, columns) for fractional lengths (…, out)."""
    form = Format(bits, True, 0)
    scaled = np.rint(np.ldexp(np.asarray(weight, np.float64), lengths[..., None, None, None]))
    return np.clip(scaled, form.low, form.high).astype(np.int64)


def nearest_errors(
    weight: NDArray[np.floating], bits: int, lengths: NDArray[np.int64], formats: str
) -> NDArray[np.float64]:
    """Sum of errors (choices, out) of the nearest integers for fractional lengths (choices, out)."""
    errors = []
    for row in lengths:
        real = np.ldexp(nearest_values(weight, bits, row).astype(np.float64), -row[:, None, None, None])
        errors.append((np.abs(weight - real) ** ERROR_POWERS[formats]).sum(axis=(1, 2, 3)))
    return np.array(errors)


def pick_lengths(
    lengths: NDArray[np.int64], errors: NDArray[np.float64], channels: bool
) -> NDArray[np.int64]:
    """Which choice (out,) has the least error: for each output channel, or for all of them together.

    Of equal ones, the first.
    """
    if channels:
        return errors.argmin(axis=0)
    return np.full(lengths.shape[1], errors.sum(axis=1).argmin(), np.int64)


def choose_weight_lengths(
    weight: NDArray[np.floating], bits: int, formats: str = "greedy", channels: bool = False
) -> NDArray[np.int64]:
    """Fractional length of each output channel (out,) for weights rounded to the nearest.

    All equal unless ``channels``.
    """
    lengths = candidate_lengths(weight, bits, formats, channels)
    if len(lengths) == 1:
        return lengths[0]
    picked = pick_lengths(lengths, nearest_errors(weight, bits, lengths, formats), channels)
    return lengths[picked, np.arange(len(weight))]


def fixed_weights(
    node: Convolution,
    bits: int,
    lengths: NDArray[np.int64],
    input_fl: int,
    input_range: tuple[int, int],
    rounding: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None,
) -> FixedWeights:
    """A convolution's weights and biases as integers.

    ``lengths`` (out,) are given up bit by bit where a channel's sums could pass 32 bits: a bias far
    larger than the weights, say.  ``rounding`` makes integers (out, in, rows, columns) for lengths; by
    default they are the nearest.
    """
    bias = np.asarray(node.bias, np.float64)
    per_channel = bool(np.any(lengths != lengths[0]))
    # rounding may be slow: what biases alone exclude is skipped at once
    excess = np.maximum(np.where(bias != 0.0, np.frexp(bias)[1] + input_fl + lengths - 31, 0), 0)
    lengths = lengths - (excess if per_channel else excess.max(initial=0))
    while True:
        values = nearest_values(node.weight, bits, lengths) if rounding is None else rounding(lengths)
        # far outside 32 bits is enough to know that a bias does not fit
        units = np.clip(np.rint(np.ldexp(bias, input_fl + lengths)), -(2.0**40), 2.0**40)
        weights = FixedWeights(values, bits, lengths, units.astype(np.int64))
        too_large = channel_bounds(weights, input_range) >= 1 << 31
        if not too_large.any():
            return weights
        lengths = lengths - (too_large if per_channel else 1)


def real_parameters(weights: FixedWeights, input_fl: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weights and biases that the integers stand for."""
    weight = np.ldexp(weights.values.astype(np.float64), -weights.fl.reshape(-1, 1, 1, 1))
    bias = np.ldexp(weights.bias.astype(np.float64), -(weights.fl + input_fl))
    return weight.astype(np.float32), bias.astype(np.float32)
