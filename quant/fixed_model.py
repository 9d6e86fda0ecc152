"""The fixed-point model: a graph whose every tensor has a format and whose weights are integers.

`quant.qdq` writes it to and reads it from standard QDQ ONNX; `sim.reference` is its meaning;
`compiler` turns it into a program.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quant.graph import Add, AveragePool, Convolution, Graph, Node
from quant.number_format import Format

__all__ = ["FixedModel", "FixedWeights", "Preparation", "PreparationError", "accumulator_bound",
           "channel_bounds", "inexact_in_float32"]


@dataclass(frozen=True)
class FixedWeights:
    """Integer weights and biases of one convolution.

    Attributes
    ----------
    values : int array (out, in / groups, rows, columns)
        Weights in units of 2^-fl of their output channel.
    bits : int
        Width that the values were quantized to.
    fl : int array (out,)
        Fractional length of each output channel; all equal unless chosen per channel.
    bias : int64 array (out,)
        Biases in units of 2^-(fl of the input + fl of the channel); each fits in int32.
    """

    values: NDArray[np.int64]
    bits: int
    fl: NDArray[np.int64]
    bias: NDArray[np.int64]


class PreparationError(ValueError):
    """Images are to be prepared in another way than a model records; the message says what to do."""


@dataclass(frozen=True)
class Preparation:
    """How an image becomes the network's input: given once, recorded in the file.

    An image is (H, W, C) or (H, W), 0 … 255, RGB.  The input tensor is
    ``(image / divide - mean) / std * gain`` per channel, with channels in ``channel_order``.

    Attributes
    ----------
    divide : float
        255 for networks trained on 0 … 1, 1 for raw ones.
    mean, std : tuple
        One value per channel (in ``channel_order``), or one for all.
    channel_order : str
        ``"RGB"`` or ``"BGR"``; ``"L"`` for one channel.
    resize : int or None
        Shorter side is resized to this before cropping; None: no resize (a folder of images that
        are larger than the input is an error then, unless ``crop``).
    crop : bool
        Whether the centre is cut out to the input's size.
    gain : tuple
        A factor per channel, or one for all, that the fixed-point network's first layers take back
        (`quant.input_gain`); 1 for a float network.
    """

    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channel_order: str = "RGB"
    resize: int | None = None
    crop: bool = False
    gain: tuple[float, ...] = (1.0,)

    def of_float(self) -> Preparation:
        """How images are prepared for the float network."""
        return replace(self, gain=(1.0,))


@dataclass
class FixedModel:
    """A graph with formats: every tensor in ``graph.shapes`` has an entry in ``formats``.

    ``weights`` has an entry for every `quant.graph.Convolution`, by node name; the float weights in
    the graph are then only for reference.
    """

    graph: Graph
    formats: dict[str, Format]
    weights: dict[str, FixedWeights]
    preparation: Preparation = field(default_factory=Preparation)

    def prepared_as(self, given: Preparation | None, name: str | Path) -> FixedModel:
        """The model with the preparation of float images that options give; with its own if they give none.

        Raises
        ------
        PreparationError
            If the model ``name`` records another one.
        """
        if given is None:
            return self
        if self.preparation.of_float() not in (Preparation(), given):
            raise PreparationError(f"{name}: it records how images are prepared; leave those options out")
        return replace(self, preparation=replace(given, gain=self.preparation.gain))

    def bounds(self, node: Node) -> tuple[int, int]:
        """Integer clip bounds of a node's result: its format's range and its activation's."""
        form = self.formats[node.output]
        low, high = form.low, form.high
        if np.isfinite(node.activation.low):
            low = max(low, int(np.rint(np.ldexp(node.activation.low, form.fl))))
        if np.isfinite(node.activation.high):
            high = min(high, int(np.rint(np.ldexp(node.activation.high, form.fl))))
        return low, high

    def tensor_bounds(self, tensor: str) -> tuple[int, int]:
        """Smallest and largest integer that a tensor can hold."""
        producer = self.graph.producer(tensor)
        if producer is not None:
            return self.bounds(producer)
        return self.formats[tensor].low, self.formats[tensor].high


def accumulator_bound(model: FixedModel, node: Node) -> int:
    """Largest magnitude that a node's exact sum can reach before it is requantized, in any order.

    Convolutions: in units of 2^-(fl_in + fl_w), from the real weights and the range of the input;
    every partial sum stays within it too.  Add: in units of the finer operand.  AveragePool: the sum
    over the window, in units of the input.  Other nodes: the largest input.
    """
    if isinstance(node, Convolution):
        bounds = channel_bounds(model.weights[node.name], model.tensor_bounds(node.inputs[0]))
        return int(bounds.max(initial=0))
    ranges = [model.tensor_bounds(tensor) for tensor in node.inputs]
    largest_inputs = [max(abs(low), abs(high)) for low, high in ranges]
    if isinstance(node, AveragePool):
        return node.kernel[0] * node.kernel[1] * largest_inputs[0]
    if isinstance(node, Add):
        lengths = [model.formats[tensor].fl for tensor in node.inputs]
        return sum(value << (max(lengths) - fl) for value, fl in zip(largest_inputs, lengths))
    return max(largest_inputs)


def channel_bounds(weights: FixedWeights, input_range: tuple[int, int]) -> NDArray[np.int64]:
    """Largest magnitude (out,) that each output channel's sum can reach, with its bias, in any order."""
    # 0 belongs to the range: padding brings it in, and partial sums leave terms out
    low, high = min(input_range[0], 0), max(input_range[1], 0)
    positive = np.maximum(weights.values, 0).sum(axis=(1, 2, 3))
    negative = np.minimum(weights.values, 0).sum(axis=(1, 2, 3))
    largest = high * positive + low * negative + np.maximum(weights.bias, 0)
    smallest = low * positive + high * negative + np.minimum(weights.bias, 0)
    return np.maximum(largest, -smallest)


def inexact_in_float32(model: FixedModel) -> list[str]:
    """Tensors whose float32 computation may round, so that onnxruntime is no judge of them.

    Sums are exact in float32 up to 2^24 units.  A quotient of average pooling is rounded twice there
    (to float32, then to the format): its sum must stay below 2^23 units of the output, too.
    """
    names = []
    for node in model.graph.nodes:
        bound = accumulator_bound(model, node)
        limit = 1 << 24
        if isinstance(node, AveragePool):
            bound <<= max(model.formats[node.output].fl - model.formats[node.inputs[0]].fl, 0)
            limit = 1 << 23
        if bound > limit:
            names.append(node.output)
    return names
