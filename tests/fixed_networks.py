"""Fixed-point networks made by hand, layer after layer, for tests of the compiler and the simulators."""

from __future__ import annotations

import numpy as np

from quant.fixed_model import FixedModel, FixedWeights
from quant.graph import (
    Activation,
    Add,
    AveragePool,
    Concat,
    Convolution,
    Graph,
    MaxPool,
    Node,
    Select,
    Shape,
)
from quant.number_format import Format

__all__ = ["NetworkBuilder"]

RELU = Activation(low=0.0)


class NetworkBuilder:
    """Every method adds a node and returns its output tensor, named as the node with ``_out``."""

    def __init__(self, shape: Shape, form: Format | None = None, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {"input": shape}
        self.formats: dict[str, Format] = {"input": form or Format(8, False, 0)}
        self.weights: dict[str, FixedWeights] = {}

    def _finish(self, node: Node, shape: Shape, form: Format) -> str:
        self.nodes.append(node)
        self.shapes[node.output] = shape
        self.formats[node.output] = form
        return node.output

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def _windowed(
        self, source: str, kernel: tuple, stride: tuple, pads: tuple, dilation: tuple
    ) -> tuple[int, int]:
        sizes = []
        for axis in (0, 1):
            span = dilation[axis] * (kernel[axis] - 1) + 1
            sizes.append(
                (self.shapes[source][1 + axis] + pads[axis] + pads[2 + axis] - span) // stride[axis] + 1
            )
        return sizes[0], sizes[1]

    def convolution(
        self,
        source: str,
        outputs: int,
        kernel: tuple = (3, 3),
        *,
        stride: tuple = (1, 1),
        pads: tuple = (0, 0, 0, 0),
        dilation: tuple = (1, 1),
        groups: int = 1,
        bits: int = 8,
        fl: int | None = None,
        form: Format | None = None,
        activation: Activation = RELU,
        values: np.ndarray | None = None,
    ) -> str:
        """Random weights (or ``values``) and biases; ``fl`` is chosen so that results fill 8 bits."""
        channels = self.shapes[source][0]
        name = self._name("conv")
        shape = (outputs, channels // groups, *kernel)
        if values is None:
            high = (1 << (bits - 1)) - 1
            values = self.random.integers(-high - 1, high + 1, shape)
        typical = np.sqrt(np.prod(shape[1:])) * 2000
        bias = self.random.integers(-int(typical) - 1, int(typical) + 2, outputs)
        form = form or Format(8, activation.low < 0, 0)
        if fl is None:
            fl = form.fl - self.formats[source].fl + int(np.log2(typical)) - 5
        self.weights[name] = FixedWeights(values, bits, np.full(outputs, fl, np.int64), bias)
        node = Convolution(
            name=name,
            inputs=(source,),
            output=f"{name}_out",
            activation=activation,
            stride=stride,
            pads=pads,
            dilation=dilation,
            groups=groups,
            weight=np.zeros(shape, np.float32) if values.size < 1 << 20 else np.zeros(0, np.float32),
            bias=np.zeros(outputs, np.float32),
        )
        return self._finish(node, (outputs, *self._windowed(source, kernel, stride, pads, dilation)), form)

    def fully_connected(self, source: str, outputs: int, **fields) -> str:
        """A convolution whose kernel covers the whole map."""
        return self.convolution(source, outputs, self.shapes[source][1:], **fields)

    def max_pool(
        self,
        source: str,
        kernel: tuple = (2, 2),
        stride: tuple = (2, 2),
        pads: tuple = (0, 0, 0, 0),
        form: Format | None = None,
    ) -> str:
        """MaxPool."""
        name = self._name("maxpool")
        node = MaxPool(
            name=name, inputs=(source,), output=f"{name}_out", kernel=kernel, stride=stride, pads=pads
        )
        return self._finish(
            node,
            (self.shapes[source][0], *self._windowed(source, kernel, stride, pads, (1, 1))),
            form or self.formats[source],
        )

    def average_pool(
        self,
        source: str,
        kernel: tuple,
        stride: tuple = (1, 1),
        pads: tuple = (0, 0, 0, 0),
        include: bool = False,
        form: Format | None = None,
    ) -> str:
        """AveragePool."""
        name = self._name("average")
        node = AveragePool(
            name=name,
            inputs=(source,),
            output=f"{name}_out",
            kernel=kernel,
            stride=stride,
            pads=pads,
            count_include_pad=include,
        )
        return self._finish(
            node,
            (self.shapes[source][0], *self._windowed(source, kernel, stride, pads, (1, 1))),
            form or self.formats[source],
        )

    def add(
        self, first: str, second: str, form: Format | None = None, activation: Activation | None = None
    ) -> str:
        """Elementwise sum."""
        name = self._name("add")
        node = Add(
            name=name, inputs=(first, second), output=f"{name}_out", activation=activation or Activation()
        )
        return self._finish(node, self.shapes[first], form or self.formats[first])

    def concat(self, *sources: str, form: Format | None = None, activation: Activation | None = None) -> str:
        """Concatenation of channels."""
        name = self._name("concat")
        node = Concat(name=name, inputs=sources, output=f"{name}_out", activation=activation or Activation())
        channels = sum(self.shapes[source][0] for source in sources)
        return self._finish(node, (channels, *self.shapes[sources[0]][1:]), form or self.formats[sources[0]])

    def select(
        self,
        source: str,
        *,
        start: tuple = (0, 0, 0),
        step: tuple = (1, 1, 1),
        size: tuple | None = None,
        pad: tuple = (0, 0),
        form: Format | None = None,
        activation: Activation | None = None,
    ) -> str:
        """Strided choice of channels, rows and columns."""
        name = self._name("select")
        size = size or self.shapes[source]
        node = Select(
            name=name,
            inputs=(source,),
            output=f"{name}_out",
            start=start,
            step=step,
            size=size,
            pad_channels=pad,
            activation=activation or Activation(),
        )
        return self._finish(node, (size[0] + sum(pad), size[1], size[2]), form or self.formats[source])

    def model(self, output: str) -> FixedModel:
        """The network that ends in a tensor."""
        graph = Graph(
            name="test",
            nodes=self.nodes,
            shapes=self.shapes,
            input="input",
            output=output,
            output_shape=self.shapes[output],
        )
        return FixedModel(graph=graph, formats=self.formats, weights=self.weights)

    def image(self) -> np.ndarray:
        """Random integers (C, H, W) over the whole range of the input's format, corners included."""
        form, shape = self.formats["input"], self.shapes["input"]
        values = self.random.integers(form.low, form.high + 1, shape)
        return np.where(
            self.random.random(shape) < 0.1, self.random.choice([form.low, form.high], shape), values
        )
