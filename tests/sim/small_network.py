"""A tiny fixed-point network with a node of every kind, for benches that are slow."""

from __future__ import annotations

import numpy as np

from quant.fixed_model import FixedModel, FixedWeights
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Node, Shape
from quant.number_format import Format

__all__ = ["small_network"]

_NONE = Activation()


def small_network(seed: int = 0) -> FixedModel:
    """3x7x6 in, 10 numbers out: convolutions, depthwise, pools, a residual sum, Concat, fully connected."""
    random = np.random.default_rng(seed)
    relu = Activation(0.0)
    shapes: dict[str, Shape] = {"x": (3, 7, 6)}
    formats = {"x": Format(8, True, 5)}
    weights: dict[str, FixedWeights] = {}
    nodes: list[Node] = []

    def add(node: Node, shape: Shape, signed: bool, fl: int) -> None:
        nodes.append(node)
        shapes[node.output] = shape
        formats[node.output] = Format(8, signed, fl)

    def convolution(
        name: str,
        source: str,
        out: int,
        kernel: int,
        pad: int,
        shape: Shape,
        *,
        groups: int = 1,
        stride: int = 1,
        activation: Activation = _NONE,
        fl: int = 4,
    ) -> None:
        depth = shapes[source][0] // groups
        values = random.integers(-128, 128, (out, depth, kernel, kernel))
        bias = random.integers(-2000, 2000, out)
        weights[name] = FixedWeights(values, 8, np.full(out, 9), bias)
        add(
            Convolution(
                name=name,
                inputs=(source,),
                output=name,
                activation=activation,
                weight=np.ldexp(values.astype(np.float32), -9),
                bias=bias.astype(np.float32),
                stride=(stride, stride),
                pads=(pad,) * 4,
                groups=groups,
            ),
            shape,
            activation.low != 0,
            fl,
        )

    convolution("conv", "x", 10, 3, 1, (10, 7, 6), activation=relu)
    convolution("depthwise", "conv", 10, 3, 1, (10, 7, 6), groups=10, fl=3)
    add(Add(name="add", inputs=("depthwise", "conv"), output="add", activation=relu), (10, 7, 6), False, 3)
    add(
        MaxPool(name="max", inputs=("add",), output="max", kernel=(3, 3), stride=(2, 2), pads=(1, 1, 1, 1)),
        (10, 4, 3),
        False,
        3,
    )
    convolution("strided", "add", 6, 3, 1, (6, 4, 3), stride=2, fl=2)
    add(Concat(name="concat", inputs=("max", "strided"), output="concat"), (16, 4, 3), True, 2)
    add(
        AveragePool(name="average", inputs=("concat",), output="average", kernel=(2, 3), stride=(2, 3)),
        (16, 2, 1),
        True,
        3,
    )
    values = random.integers(-128, 128, (10, 16, 2, 1))
    bias = random.integers(-500, 500, 10)
    weights["full"] = FixedWeights(values, 8, np.full(10, 7), bias)
    add(
        Convolution(
            name="full",
            inputs=("average",),
            output="full",
            weight=values.astype(np.float32),
            bias=bias.astype(np.float32),
        ),
        (10, 1, 1),
        True,
        2,
    )
    graph = Graph("small", nodes, shapes, "x", "full", (10,))
    return FixedModel(graph, formats, weights)
