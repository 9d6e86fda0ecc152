"""Random fixed-point networks of every supported operator, for tests that compare implementations.

A network follows from (seed, size) alone, and the network of a smaller size is a prefix of the larger
one's: a failing test shrinks by itself to the shortest failing network.
"""

from __future__ import annotations

import math
from dataclasses import replace

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

__all__ = ["random_input", "random_network"]

#: Below this every float sum of onnxruntime is exact, so that it can be the judge.
EXACT_SUM = 1 << 24


def _output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1) -> int:
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


class _Builder:
    def __init__(self, seed: int, shape: Shape | None) -> None:
        self.random = np.random.default_rng(seed)
        own_shape = (self.integer(1, 24), self.integer(1, 18), self.integer(1, 18))
        shape = shape or own_shape
        bits = self.integer(2, 8)
        form = Format(bits, bool(self.integer(0, 1)), self.integer(-3, 9))
        self.shapes: dict[str, Shape] = {"t0": shape}
        self.formats: dict[str, Format] = {"t0": form}
        self.weights: dict[str, FixedWeights] = {}
        self.nodes: list[Node] = []

    def integer(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def source(self) -> str:
        """Mostly the newest tensor, sometimes an older one."""
        names = list(self.shapes)
        return names[-1] if self.chance(0.75) else names[self.integer(0, len(names) - 1)]

    def activation(self, fl: int, bits: int) -> Activation:
        kind = self.integer(0, 4)
        if kind <= 1:
            return Activation()
        if kind <= 3:
            return Activation(low=0.0)
        # a bound like ReLU6's that lies inside the format and on its grid or between its points
        return Activation(low=0.0, high=math.ldexp(self.integer(2, 2 ** bits), -fl - 1))

    def finish(self, node: Node, shape: Shape, fl: int) -> None:
        bits = self.integer(2, 8) if self.chance(0.5) else 8
        activation = self.activation(fl, bits)
        signed = self.chance(0.2) or activation.low < 0
        node = replace(node, activation=activation)
        self.nodes.append(node)
        self.shapes[node.output] = shape
        self.formats[node.output] = Format(bits, signed, fl)

    def add_node(self) -> None:
        number = len(self.nodes) + 1
        names = {"name": f"n{number}", "output": f"t{number}"}
        kinds = [self.convolution, self.convolution, self.depthwise, self.fully_connected, self.max_pool,
                 self.average_pool, self.add, self.add, self.concat, self.select]
        kinds[self.integer(0, len(kinds) - 1)](names)

    def _window(self, source: str, largest: int) -> tuple:
        """Kernel, stride, pads and dilation that fit on the source, and the output's rows, columns."""
        _, rows, columns = self.shapes[source]
        kernel, stride, dilation, before, after, sizes = [], [], [], [], [], []
        for size in (rows, columns):
            k = self.integer(1, largest)
            d = self.integer(1, 2) if self.chance(0.2) else 1
            b, a = (self.integer(0, k - 1) for _ in range(2))
            if d * (k - 1) + 1 > size + b + a:
                k, d, b, a = self.integer(1, min(size, largest)), 1, 0, 0
            s = self.integer(1, 3) if self.chance(0.4) else 1
            for values, value in zip((kernel, stride, dilation, before, after), (k, s, d, b, a)):
                values.append(value)
            sizes.append(_output_size(size, k, s, b, a, d))
        return (tuple(kernel), tuple(stride), (before[0], before[1], after[0], after[1]),
                tuple(dilation), tuple(sizes))

    def _convolve(self, names: dict, source: str, outputs: int, groups: int, window: tuple) -> None:
        kernel, stride, pads, dilation, (rows, columns) = window
        channels, form = self.shapes[source][0], self.formats[source]
        bits = self.integer(2, 8) if self.chance(0.5) else 8
        shape = (outputs, channels // groups, *kernel)
        high = (1 << (bits - 1)) - 1
        values = self.random.integers(-high - 1, high + 1, shape)
        largest = max(-form.low, form.high)
        # keep sums exact in float32 by zeroing weights, so that onnxruntime stays a judge
        room = EXACT_SUM // 2 // (largest << (bits - 1))
        flat = values.reshape(outputs, -1)
        for row in flat:
            if len(row) > room:
                row[self.random.permutation(len(row))[room:]] = 0
        fl = np.full(outputs, self.integer(-2, 10), np.int64)
        if self.chance(0.3):
            fl += self.random.integers(-2, 3, outputs)
        typical = max(1.0, math.sqrt(min(flat.shape[1], room)) * largest * high * 0.3)
        bias = self.random.integers(-int(typical) - 1, int(typical) + 2, outputs)
        self.weights[names["name"]] = FixedWeights(values, bits, fl, bias)
        node = Convolution(
            **names, inputs=(source,), stride=stride, pads=pads, dilation=dilation, groups=groups,
            weight=np.ldexp(values.astype(np.float32), -fl[:, None, None, None]).astype(np.float32),
            bias=np.ldexp(bias.astype(np.float64), -(fl + form.fl)).astype(np.float32))
        fl_out = form.fl + int(fl[0]) - round(math.log2(typical)) + 7 + self.integer(-3, 2)
        self.finish(node, (outputs, rows, columns), fl_out)

    def convolution(self, names: dict) -> None:
        source = self.source()
        channels = self.shapes[source][0]
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = divisors[self.integer(0, len(divisors) - 1)] if self.chance(0.3) else 1
        outputs = groups * self.integer(1, max(1, 40 // groups))
        self._convolve(names, source, outputs, groups, self._window(source, 5))

    def depthwise(self, names: dict) -> None:
        source = self.source()
        channels = self.shapes[source][0]
        self._convolve(names, source, channels, channels, self._window(source, 4))

    def fully_connected(self, names: dict) -> None:
        source = self.source()
        _, rows, columns = self.shapes[source]
        window = ((rows, columns), (1, 1), (0, 0, 0, 0), (1, 1), (1, 1))
        self._convolve(names, source, self.integer(1, 50), 1, window)

    def max_pool(self, names: dict) -> None:
        source = self.source()
        kernel, stride, pads, dilation, (rows, columns) = self._window(source, 3)
        pads = tuple(min(pad, 1) for pad in pads)
        _, height, width = self.shapes[source]
        rows = _output_size(height, kernel[0], stride[0], pads[0], pads[2], dilation[0])
        columns = _output_size(width, kernel[1], stride[1], pads[1], pads[3], dilation[1])
        touching = all(
            any(0 <= place * stride[axis] - pads[axis] + tap * dilation[axis] < size
                for tap in range(kernel[axis]))
            for axis, (size, places) in enumerate([(height, rows), (width, columns)])
            for place in range(places)
        )
        if rows < 1 or columns < 1 or not touching:  # a window of padding alone has no maximum
            kernel, stride, pads, dilation = (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)
            rows, columns = height, width
        node = MaxPool(**names, inputs=(source,), kernel=kernel, stride=stride, pads=pads, dilation=dilation)
        fl = self.formats[source].fl + (self.integer(-1, 1) if self.chance(0.3) else 0)
        self.finish(node, (self.shapes[source][0], rows, columns), fl)

    def average_pool(self, names: dict) -> None:
        source = self.source()
        channels, height, width = self.shapes[source]
        if self.chance(0.3):
            kernel, stride, pads, (rows, columns) = (height, width), (1, 1), (0, 0, 0, 0), (1, 1)
        else:
            kernel, stride, pads, dilation, (rows, columns) = self._window(source, 4)
            if dilation != (1, 1):
                kernel, stride, pads, (rows, columns) = (1, 1), (1, 1), (0, 0, 0, 0), (height, width)
        node = AveragePool(**names, inputs=(source,), kernel=kernel, stride=stride, pads=pads,
                           count_include_pad=self.chance(0.5))
        self.finish(node, (channels, rows, columns), self.formats[source].fl + self.integer(-1, 3))

    def add(self, names: dict) -> None:
        first = self.source()
        form = self.formats[first]
        partners = [name for name, shape in self.shapes.items()
                    if shape == self.shapes[first] and abs(self.formats[name].fl - form.fl) <= 10]
        second = partners[self.integer(0, len(partners) - 1)]
        inputs = (first, second) if self.chance(0.5) else (second, first)
        fl = min(form.fl, self.formats[second].fl) + self.integer(-1, 1)
        self.finish(Add(**names, inputs=inputs), self.shapes[first], fl)

    def concat(self, names: dict) -> None:
        first = self.source()
        _, rows, columns = self.shapes[first]
        others = [name for name, shape in self.shapes.items() if shape[1:] == (rows, columns)]
        inputs = [first] + [others[self.integer(0, len(others) - 1)] for _ in range(self.integer(1, 2))]
        channels = sum(self.shapes[name][0] for name in inputs)
        fl = self.formats[inputs[0]].fl + (self.integer(-1, 1) if self.chance(0.5) else 0)
        self.finish(Concat(**names, inputs=tuple(inputs)), (channels, rows, columns), fl)

    def select(self, names: dict) -> None:
        source = self.source()
        start, step, size = [], [], []
        for length in self.shapes[source]:
            if self.chance(0.5):
                start.append(0), step.append(1), size.append(length)
                continue
            begin, stride = self.integer(0, length - 1), self.integer(1, 3)
            start.append(begin), step.append(stride)
            size.append(self.integer(1, (length - begin - 1) // stride + 1))
        pads = (self.integer(0, 9), self.integer(0, 9)) if self.chance(0.3) else (0, 0)
        node = Select(**names, inputs=(source,), start=tuple(start), step=tuple(step), size=tuple(size),
                      pad_channels=pads)
        shape = (size[0] + sum(pads), size[1], size[2])
        fl = self.formats[source].fl + (self.integer(-2, 2) if self.chance(0.4) else 0)
        self.finish(node, shape, fl)


def random_network(seed: int, size: int, shape: Shape | None = None) -> FixedModel:
    """A network of at most ``size`` nodes, whose output is its newest tensor; nothing in it is unused.

    ``shape``: its input's; else it is random, too.
    """
    builder = _Builder(seed, shape)
    for _ in range(size):
        builder.add_node()
    output = builder.nodes[-1].output
    needed, nodes = {output}, []
    for node in reversed(builder.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            nodes.insert(0, node)
    if "t0" not in needed:
        raise AssertionError("every node descends from the input")
    graph = Graph(name=f"random_{seed}_{size}", nodes=nodes, input="t0", output=output,
                  shapes={name: shape for name, shape in builder.shapes.items() if name in needed},
                  output_shape=builder.shapes[output])
    return FixedModel(
        graph=graph,
        formats={name: form for name, form in builder.formats.items() if name in needed},
        weights={node.name: builder.weights[node.name] for node in nodes if node.name in builder.weights})


def random_input(model: FixedModel, seed: int, count: int = 1) -> np.ndarray:
    """(count, C, H, W) integers over the whole range of the input's format, corners included."""
    form = model.formats[model.graph.input]
    random = np.random.default_rng(seed)
    shape = (count, *model.graph.shapes[model.graph.input])
    values = random.integers(form.low, form.high + 1, shape)
    corners = random.random(shape) < 0.1
    return np.where(corners, random.choice([form.low, form.high], shape), values)
