"""Static precision: one fractional length for all weights of a network and one for all its feature maps.

That is what dynamic precision is measured against (Qiu et al. 2016, section 4.2 and Table 3).  Widths and
signs are those of dynamic precision (unsigned where the network's structure keeps a feature map from being
negative), the input and the output are feature maps like all others, and weights are rounded to the
nearest: only the two lengths are left to choose, and they are the best that a search over both finds.

A layer whose sums could pass 32 bits leaves the lowest bits of its weights 0, as in dynamic precision.  Its
weights are words of the common format all the same; the model holds them without the zeros, with a
fractional length that is shorter by as many.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from quant.answers import is_classifier, softmax_divergence
from quant.fixed_model import FixedModel, Preparation
from quant.fixed_output import float32_output
from quant.fixed_run import FixedRun
from quant.float_run import float_steps
from quant.graph import Convolution, Graph
from quant.map_formats import CalibrationError, never_negative
from quant.number_format import FL_LIMIT, Format
from quant.weight_formats import fixed_weights, largest_fl_without_overflow

__all__ = ["FloatSample", "Lengths", "StaticPrecision", "find_static_precision", "sample_float"]

#: Fractional lengths of all weights and of all feature maps.
Lengths = tuple[int, int]

#: Steps from the network-wide length without overflow that are tried; those above it saturate.
_STEPS = range(-1, 8)
#: Images that candidates are compared on, and those that every candidate of the grid is tried on first.
_SAMPLE, _FIRST = 50, 16
#: Candidates that the first look leaves.
_KEPT = 4


@dataclass(frozen=True)
class FloatSample:
    """What the search needs to know of the float network; the same for every width.

    Attributes
    ----------
    ranges : dict
        Smallest and largest value of each tensor on all calibration images.
    batch : float32 tensor (N, C, H, W)
        At most 50 of the images, evenly spread.
    output : float32 tensor (N, outputs)
        What the float network answers to them.
    """

    ranges: dict[str, tuple[float, float]]
    batch: torch.Tensor
    output: torch.Tensor


def sample_float(graph: Graph, batches: Iterable[NDArray[np.float32]], images: int) -> FloatSample:
    """Run the float network on the calibration images.

    Parameters
    ----------
    batches : iterable of float batches (N, C, H, W)
    images : int
        How many images these are together.

    Raises
    ------
    CalibrationError
        If there are no images or the float network overflows on them.
    """
    count = min(_SAMPLE, images)
    wanted = set((np.arange(count) * images // max(count, 1)).tolist())
    ranges: dict[str, tuple[float, float]] = {}
    kept, answers, seen = [], [], 0
    for array in batches:
        picked = [index for index in range(len(array)) if seen + index in wanted]
        if not len(array):
            continue
        seen += len(array)
        for tensor, values in float_steps(graph, torch.from_numpy(array)):
            low, high = (float(bound) for bound in values.aminmax())
            if not (math.isfinite(low) and math.isfinite(high)):
                node = graph.producer(tensor)
                raise CalibrationError(
                    f"{node.name if node else tensor}: its results are not finite on the calibration images; "
                    "look at the model's weights and at how the images are prepared"
                )
            old = ranges.get(tensor, (low, high))
            ranges[tensor] = min(old[0], low), max(old[1], high)
            if tensor == graph.output:
                answers.append(values.flatten(1)[picked])
        kept.append(torch.from_numpy(array[picked]))
    if not kept:
        raise CalibrationError("there are no calibration images; give at least one, better 100 or more")
    return FloatSample(ranges, torch.cat(kept), torch.cat(answers))


@dataclass(frozen=True)
class StaticPrecision:
    """The best static formats that were found.

    Attributes
    ----------
    model : FixedModel
    weight_fl, map_fl : int
        Fractional length of all weights and of all feature maps.
    errors : dict
        Mean error by (weight_fl, map_fl) of every candidate that was measured on the whole sample; all
        neighbours of the chosen one are among them.  The Kullback-Leibler divergence of the output's
        softmax from the float network's, in nats; for networks that compute values, the squared error.
        Infinite for lengths past their limit (`quant.number_format.FL_LIMIT`).
    """

    model: FixedModel
    weight_fl: int
    map_fl: int
    errors: dict[Lengths, float]


def find_static_precision(
    graph: Graph,
    sample: FloatSample,
    weight_bits: Mapping[str, int],
    map_bits: Mapping[str, int],
    preparation: Preparation | None = None,
) -> StaticPrecision:
    """The two fractional lengths with the least error at the network's output.

    A grid around the lengths without overflow is tried on a few images.  From the best of it, the search
    goes on to the best of the eight neighbours, on the whole sample, until none is better.

    Parameters
    ----------
    weight_bits, map_bits : mapping
        Width of each convolution's weights by node, and of each feature map by tensor.
    preparation : Preparation or None
        How the images were prepared; recorded in the model.
    """
    candidates = _Candidates(graph, sample, weight_bits, map_bits, preparation or Preparation())
    start = candidates.start
    grid = [(start[0] + weight, start[1] + data) for weight, data in itertools.product(_STEPS, _STEPS)]
    first = {lengths: candidates.error(lengths, _FIRST) for lengths in grid}

    def rank(errors: Mapping[Lengths, float], lengths: Lengths) -> tuple[float, int, Lengths]:
        distance = abs(lengths[0] - start[0]) + abs(lengths[1] - start[1])
        return errors[lengths], distance, lengths

    kept = sorted(grid, key=lambda lengths: rank(first, lengths))[:_KEPT]
    errors = {lengths: candidates.error(lengths) for lengths in kept}
    best = min(kept, key=lambda lengths: rank(errors, lengths))
    while True:
        around = [
            (best[0] + weight, best[1] + data) for weight, data in itertools.product((0, -1, 1), repeat=2)
        ]
        for lengths in around:
            if lengths not in errors:
                errors[lengths] = candidates.error(lengths)
        better = min(around, key=lambda lengths: rank(errors, lengths))
        if errors[better] >= errors[best]:
            break
        best = better
    model = candidates.model(best)
    assert model is not None, "the best candidate has no model"
    return StaticPrecision(model, *best, errors)


class _Candidates:
    """Fixed-point models by their lengths, and their errors."""

    def __init__(
        self,
        graph: Graph,
        sample: FloatSample,
        weight_bits: Mapping[str, int],
        map_bits: Mapping[str, int],
        preparation: Preparation,
    ) -> None:
        self._graph, self._sample, self._preparation = graph, sample, preparation
        self._weight_bits, self._map_bits = weight_bits, map_bits
        nonnegative = never_negative(graph, sample.ranges[graph.input][0] >= 0.0)
        self._signed = {tensor: not nonnegative[tensor] for tensor in map_bits}
        self._convolutions = [node for node in graph.nodes if isinstance(node, Convolution)]
        #: The largest lengths at which no weight and no feature map of the whole network overflows.
        self.start: Lengths = (
            min(
                (
                    largest_fl_without_overflow(
                        float(node.weight.min(initial=0.0)),
                        float(node.weight.max(initial=0.0)),
                        weight_bits[node.name],
                        True,
                    )
                    for node in self._convolutions
                ),
                default=0,
            ),
            min(
                largest_fl_without_overflow(*sample.ranges[tensor], bits, self._signed[tensor])
                for tensor, bits in map_bits.items()
            ),
        )

    def model(self, lengths: Lengths) -> FixedModel | None:
        """The model with these lengths; None if one of them is past its limit."""
        weight_fl, map_fl = lengths
        if max(abs(weight_fl), abs(map_fl)) > FL_LIMIT:
            return None
        formats = {
            tensor: Format(bits, self._signed[tensor], map_fl) for tensor, bits in self._map_bits.items()
        }
        model = FixedModel(self._graph, formats, {}, self._preparation)
        for node in self._convolutions:
            form = Format(self._weight_bits[node.name], True, weight_fl)
            model.weights[node.name] = fixed_weights(
                node,
                form.bits,
                np.full(len(node.weight), weight_fl, np.int64),
                map_fl,
                model.tensor_bounds(node.inputs[0]),
                partial(_words, node.weight, form),
            )
        return model

    def error(self, lengths: Lengths, images: int = _SAMPLE) -> float:
        """Mean error on the first images of the sample, evenly spread; infinite if there is no model."""
        model = self.model(lengths)
        if model is None:
            return math.inf
        total = len(self._sample.batch)
        count = min(images, total)
        picked = torch.arange(count) * total // count
        wanted = self._sample.output[picked].double()
        found = float32_output(FixedRun(model), self._sample.batch[picked]).flatten(1).double()
        if not is_classifier(self._graph):
            return float((found - wanted).square().mean())
        return softmax_divergence(wanted, found) / count


def _words(weight: NDArray[np.floating], form: Format, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nearest words of a format whose lowest bits are 0, without these: units of 2^-lengths (out,).

    Shorter lengths are asked for where sums could pass 32 bits; the range stays that of the format.
    """
    scaled = np.rint(np.ldexp(np.asarray(weight, np.float64), lengths[:, None, None, None]))
    dropped = int(form.fl - lengths[0])
    return np.clip(scaled, form.low >> dropped, form.high >> dropped).astype(np.int64)
