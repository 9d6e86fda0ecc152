"""Random networks in both layouts with random boundaries: every tensor that survives is onnxruntime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quant.float_run import run_float
from quant.graph import Shape
from quant.onnx_import import ModelError, import_with_aliases

OPERATORS = (
    "Conv", "Depthwise", "BatchNormalization", "Relu", "Clip", "MaxPool", "AveragePool", "Add", "Concat",
    "Pad", "ChannelPad", "Slice", "Mul", "AddConstant", "Identity", "Layout", "Shuffle",
)  # fmt: skip


class Network:
    """A model that grows by one operator after another, with the (C, H, W) of each NCHW tensor."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.random = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.nodes: list[NodeProto] = []
        self.stored: dict[str, np.ndarray] = {}
        self.shapes: dict[str, Shape] = {}
        self.inner: set[str] = set()  # tensors of rank 5, which are nobody's boundary

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def constant(self, values: Any) -> str:
        name = f"k{len(self.stored)}"
        self.stored[name] = np.asarray(values)
        return name

    def weights(self, *shape: int) -> str:
        return self.constant(self.random.uniform(-1, 1, shape).astype(np.float32))

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        result = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [result], name=f"n{result}", **attributes))
        return result

    def grow(self) -> None:
        operator = self.draw(st.sampled_from(OPERATORS))
        source = self.draw(st.sampled_from(list(self.shapes)[-3:]))
        channels, rows, columns = self.shapes[source]
        grown = getattr(self, operator.lower())(source, channels, rows, columns)
        if grown is not None:
            self.shapes[grown[0]] = grown[1]

    def window(self, rows: int, columns: int) -> tuple[dict[str, Any], tuple[int, int]]:
        kernel = [self.integer(1, min(3, rows)), self.integer(1, min(3, columns))]
        stride = [self.integer(1, 2), self.integer(1, 2)]
        pads = [self.integer(0, kernel[axis % 2] - 1) for axis in range(4)]
        return {"kernel_shape": kernel, "strides": stride, "pads": pads}, (
            (rows + pads[0] + pads[2] - kernel[0]) // stride[0] + 1,
            (columns + pads[1] + pads[3] - kernel[1]) // stride[1] + 1,
        )

    def conv(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        attributes, (rows, columns) = self.window(h, w)
        outputs, kernel = self.integer(1, 4), attributes["kernel_shape"]
        inputs = [source, self.weights(outputs, c, *kernel)] + [self.weights(outputs)] * self.integer(0, 1)
        return self.node("Conv", inputs, **attributes), (outputs, rows, columns)

    def depthwise(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        attributes, (rows, columns) = self.window(h, w)
        weight = self.weights(c, 1, *attributes["kernel_shape"])
        return self.node("Conv", [source, weight], group=c, **attributes), (c, rows, columns)

    def maxpool(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        attributes, (rows, columns) = self.window(h, w)
        return self.node("MaxPool", [source], **attributes), (c, rows, columns)

    def averagepool(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        attributes, (rows, columns) = self.window(h, w)
        include = self.integer(0, 1)
        return self.node("AveragePool", [source], count_include_pad=include, **attributes), (c, rows, columns)

    def batchnormalization(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        variance = self.constant(self.random.uniform(0.5, 2, c).astype(np.float32))
        return self.node("BatchNormalization", [source, *(self.weights(c) for _ in range(3)), variance]), (
            c,
            h,
            w,
        )

    def relu(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        return self.node("Relu", [source]), (c, h, w)

    def identity(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        return self.node("Identity", [source]), (c, h, w)

    def clip(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        low = self.random.uniform(-1, 0.5)
        bounds = [self.constant(np.float32(low)), self.constant(np.float32(low + 1))]
        return self.node("Clip", [source, *bounds]), (c, h, w)

    def mul(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        return self.node("Mul", [source, self.weights(c, 1, 1)]), (c, h, w)

    def addconstant(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        return self.node("Add", [self.weights(1, c, 1, 1), source]), (c, h, w)

    def add(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        other = self.draw(st.sampled_from([name for name in self.shapes if self.shapes[name] == (c, h, w)]))
        return self.node("Add", [source, other]), (c, h, w)

    def concat(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape] | None:
        other = self.draw(st.sampled_from([name for name in self.shapes if self.shapes[name][1:] == (h, w)]))
        if c + self.shapes[other][0] > 12:
            return None
        return self.node("Concat", [source, other], axis=1), (c + self.shapes[other][0], h, w)

    def pad(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        top, left, bottom, right = (self.integer(0, 1) for _ in range(4))
        pads = self.constant([0, 0, top, left, 0, 0, bottom, right])
        return self.node("Pad", [source, pads]), (c, h + top + bottom, w + left + right)

    def channelpad(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        before, after = self.integer(0, 2), self.integer(0, 2)
        return self.node("Pad", [source, self.constant([0, before, 0, 0, 0, after, 0, 0])]), (
            c + before + after,
            h,
            w,
        )

    def slice(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        axis, size = self.integer(1, 3), [c, h, w]
        start, step = self.integer(0, size[axis - 1] - 1), self.integer(1, 2)
        given_as = [self.constant([value]) for value in (start, 2**40, axis, step)]
        size[axis - 1] = -(-(size[axis - 1] - start) // step)
        return self.node("Slice", [source, *given_as]), (size[0], size[1], size[2])

    def layout(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape]:
        """To channels last, an operator there, and back."""
        last = self.node("Transpose", [source], perm=[0, 2, 3, 1])
        kind = self.draw(st.sampled_from(["Relu", "Add", "Pad", "Slice"]))
        if kind == "Relu":
            done = self.node("Relu", [last])
        elif kind == "Add":
            done = self.node("Add", [last, self.weights(c)])
        elif kind == "Pad":
            done, h, c = self.node("Pad", [last, self.constant([0, 1, 0, 0, 0, 0, 0, 1])]), h + 1, c + 1
        else:
            done, w = self.node("Slice", [last, *(self.constant([n]) for n in (0, 2**40, 2, 2))]), -(-w // 2)
        return self.node("Transpose", [done], perm=[0, 3, 1, 2]), (c, h, w)

    def shuffle(self, source: str, c: int, h: int, w: int) -> tuple[str, Shape] | None:
        """ShuffleNet's exchange of channels between groups, in front of a convolution."""
        if c % 2:
            return None
        whole = self.node("Relu", [source])  # a Slice whose channels are then exchanged is refused
        split = self.node("Reshape", [whole, self.constant([1, 2, c // 2, h, w])])
        turned = self.node("Transpose", [split], perm=[0, 2, 1, 3, 4])
        self.inner |= {split, turned}
        joined = self.node("Reshape", [turned, self.constant([1, c, h, w])])
        if self.integer(0, 1):
            joined = self.node("Relu", [joined])
        return self.conv(joined, c, h, w)


@st.composite
def networks(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[str]]:
    """A model with all tensors as outputs for onnxruntime, and some of their names as boundaries."""
    network = Network(draw)
    shape = draw(st.integers(1, 4)), draw(st.integers(3, 8)), draw(st.integers(3, 8))
    network.shapes["x"] = shape
    for _ in range(draw(st.integers(1, 9))):
        network.grow()
    last = list(network.shapes)[-1]
    network.node("Relu", [last])
    graph = helper.make_graph(
        network.nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *shape))],
        [helper.make_empty_tensor_value_info(network.nodes[-1].output[0])],
        [numpy_helper.from_array(values, name) for name, values in network.stored.items()],
    )
    names = [node.output[0] for node in network.nodes if node.output[0] not in network.inner]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, draw(st.lists(st.sampled_from(names), max_size=4, unique=True))


def all_tensors(model: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    names = [node.output[0] for node in model.graph.node]
    whole.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        whole.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(None, {"x": image}), strict=True))


@settings(max_examples=200, deadline=None)
@given(network=networks())
def test_every_surviving_tensor_is_onnxruntimes(network: tuple[onnx.ModelProto, list[str]]) -> None:
    model, boundaries = network
    output = model.graph.output[0].name
    try:
        graph, aliases = import_with_aliases(model, boundaries=frozenset(boundaries))
    except ModelError as error:
        # a window may lie on padding only; everything else must be accepted
        assert "outside the image" in str(error) or "padding only" in str(error)  # noqa: PT017
        return
    image = np.random.default_rng(1).uniform(-2, 2, (1, *graph.shapes["x"])).astype(np.float32)
    given_as = image if graph.input_layout == "NCHW" else np.ascontiguousarray(image.transpose(0, 2, 3, 1))
    expected = all_tensors(model, given_as)
    computed = run_float(graph, torch.from_numpy(image))
    scale = max(1.0, *(float(np.abs(values).max()) for values in expected.values()))
    for name, values in computed.items():
        if name in expected:  # the elements, in whatever order the model has them
            np.testing.assert_allclose(
                np.sort(values.numpy(), axis=None) / scale,
                np.sort(expected[name], axis=None) / scale,
                atol=1e-5,
                err_msg=name,
            )
    result = computed[graph.output].numpy()[0]
    result = (result.transpose(1, 2, 0) if graph.host_operations else result).reshape(-1)
    np.testing.assert_allclose(result / scale, expected[output].reshape(-1) / scale, atol=1e-5)
    for name in boundaries:
        if name in aliases:
            assert aliases[name] in graph.shapes
        elif name not in graph.shapes:
            # nothing that the output needs reads it
            needed = {output}
            for node in reversed(model.graph.node):
                if node.output[0] in needed:
                    needed.update(node.input)
            assert name not in needed
