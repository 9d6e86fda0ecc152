"""The network as everything after the front ends sees it: eight kinds of node on (C, H, W) tensors.

A float model is a `Graph` whose convolutions carry float weights.  A fixed-point model
(`quant.fixed_model`) is the same graph plus formats and integer weights.  Fully connected layers are
convolutions with one output pixel: ``Flatten`` followed by ``Gemm`` is a convolution whose kernel
covers the whole map.  Batch norm, activations and flattening have been folded away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Activation", "Add", "AveragePool", "Concat", "Convolution", "Graph", "MaxPool", "Node",
           "Pads", "Pair", "Select", "Shape"]

Shape = tuple[int, int, int]      #: channels, rows, columns
Pair = tuple[int, int]            #: rows, columns
Pads = tuple[int, int, int, int]  #: top, left, bottom, right


@dataclass(frozen=True)
class Activation:
    """Bounds that a node's result is clipped to: ReLU is 0 … inf, ReLU6 is 0 … 6."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation with one output tensor; ``name`` is unique and, where possible, the model's own."""

    name: str
    inputs: tuple[str, ...]
    output: str
    activation: Activation = Activation()


@dataclass(frozen=True, kw_only=True)
class Convolution(Node):
    """Cross-correlation as in ONNX Conv: weight (out, in / groups, rows, columns), bias (out)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class MaxPool(Node):
    """Largest value of each window; ceil mode is already part of the pads (bottom, right)."""

    kernel: Pair
    stride: Pair
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)


@dataclass(frozen=True, kw_only=True)
class AveragePool(Node):
    """Mean of each window: over all its elements if ``count_include_pad``, else over those inside.

    Global average pooling has the kernel (H, W).
    """

    kernel: Pair
    stride: Pair
    pads: Pads = (0, 0, 0, 0)
    count_include_pad: bool = False


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """Elementwise sum of two tensors of the same shape."""


@dataclass(frozen=True, kw_only=True)
class Concat(Node):
    """Concatenation along the channels."""


@dataclass(frozen=True, kw_only=True)
class Select(Node):
    """Strided rows, columns and channels of one tensor, with zero channels added on either side.

    ``start`` and ``step`` are (channel, row, column); ``size`` counts what is taken of each;
    ``pad_channels`` (before, after) are zeros added then.  With all of them neutral it only applies
    its activation, or another format: that is also how a lone Relu or Identity between two
    quantized tensors is represented.
    """

    start: tuple[int, int, int] = (0, 0, 0)
    step: tuple[int, int, int] = (1, 1, 1)
    size: Shape
    pad_channels: tuple[int, int] = (0, 0)


@dataclass
class Graph:
    """A network: nodes in execution order, each tensor's shape, and what the host does around it.

    Attributes
    ----------
    input : str
        Name of the only input tensor; its shape is in ``shapes``.
    output : str
        Name of the only output tensor.
    output_shape : tuple
        Shape of the output in the original model without the batch, (10,) say, in the order of the
        flattened (C, H, W) tensor.
    input_layout : str
        ``"NCHW"`` or ``"NHWC"``: the order of the original model's input.  Tensors inside the graph
        are always (C, H, W).
    host_operations : tuple
        Operators after the output that the host computes: ``("Softmax",)`` or nothing.
    """

    name: str
    nodes: list[Node]
    shapes: dict[str, Shape]
    input: str
    output: str
    output_shape: tuple[int, ...]
    input_layout: str = "NCHW"
    host_operations: tuple[str, ...] = ()
    _producers: dict[str, Node] = field(default_factory=dict, repr=False)

    def producer(self, tensor: str) -> Node | None:
        """The node that computes a tensor; None for the input."""
        if not self._producers:
            self._producers.update({node.output: node for node in self.nodes})
        return self._producers.get(tensor)

    def consumers(self, tensor: str) -> list[Node]:
        """The nodes that read a tensor, in execution order."""
        return [node for node in self.nodes if tensor in node.inputs]
