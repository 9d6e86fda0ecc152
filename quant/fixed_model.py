"""The fixed-point model: a graph whose every tensor has a format and whose weights are integers.

`quant.qdq` writes it to and reads it from standard QDQ ONNX; `sim.reference` is its meaning;
`compiler` turns it into a program.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quant.graph import Graph, Node
from quant.number_format import Format

__all__ = ["FixedModel", "FixedWeights", "Preparation"]


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


@dataclass(frozen=True)
class Preparation:
    """How an image becomes the network's input: given once, recorded in the file.

    An image is (H, W, C) or (H, W), 0 … 255, RGB.  The input tensor is
    ``(image / divide - mean) / std`` per channel, with channels in ``channel_order``.

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
    """

    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channel_order: str = "RGB"
    resize: int | None = None
    crop: bool = False


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

    def bounds(self, node: Node) -> tuple[int, int]:
        """Integer clip bounds of a node's result: its format's range and its activation's."""
        form = self.formats[node.output]
        low, high = form.low, form.high
        if np.isfinite(node.activation.low):
            low = max(low, int(np.rint(np.ldexp(node.activation.low, form.fl))))
        if np.isfinite(node.activation.high):
            high = min(high, int(np.rint(np.ldexp(node.activation.high, form.fl))))
        return low, high
