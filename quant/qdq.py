"""Write a fixed-point model as ordinary QDQ ONNX, which every ONNX tool opens and onnxruntime runs.

Each tensor ``t`` of the graph appears as float ``t`` → QuantizeLinear → integers →
DequantizeLinear → its readers.  Zero points are 0 and scales 2^-fl.  Weights and biases are integer
initializers behind a DequantizeLinear.  What ONNX has no type for, 6 bits say, lives in the next
larger type behind a Clip in front of its QuantizeLinear; the width is in that node's metadata.
`docs/quantization.md` describes the file; `quant.qdq_import` reads it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hw.whole_file import write_whole
from quant.fixed_model import FixedModel, FixedWeights
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, MaxPool, Node, Select
from quant.number_format import Format, check_width

__all__ = [
    "BITS_KEY",
    "GraphWriter",
    "LAYOUT_KEY",
    "NODE_KEY",
    "OPSET",
    "PREPARATION_KEY",
    "PRODUCER",
    "WriteError",
    "fixed_model_to_onnx",
    "write_fixed_model",
]

#: First opset with 4- and 16-bit integers in QuantizeLinear and DequantizeLinear; files that need neither
#: have the one before it, in which onnxruntime's optimizer makes no DequantizeLinear that it then refuses.
OPSET = 21
_IR_VERSION = 10

#: Metadata of QuantizeLinear (feature maps) and DequantizeLinear (weights): width in bits; the Clip before
#: a QuantizeLinear that has it only enforces that width.
BITS_KEY = "pointshift.bits"
#: Metadata of QuantizeLinear: the graph's node that computes the feature map, which may be several here.
NODE_KEY = "pointshift.node"
#: Metadata of the model: ``NCHW`` or ``NHWC``, the order of its input.
LAYOUT_KEY = "pointshift.layout"
#: Who wrote the file, in its ``producer_name``.
PRODUCER = "pointshift"
#: Metadata of the model: its `Preparation` as JSON.
PREPARATION_KEY = "pointshift.preparation"

_INT4, _INT8, _INT16 = TensorProto.INT4, TensorProto.INT8, TensorProto.INT16
_UINT8, _UINT16, _INT32 = TensorProto.UINT8, TensorProto.UINT16, TensorProto.INT32


class WriteError(ValueError):
    """A fixed-point model cannot be written; the message names the tensor and the limit."""


def write_fixed_model(model: FixedModel, path: str | Path) -> None:
    """Write QDQ ONNX: first beside the file, then renamed, so that it is whole or not there.

    Raises
    ------
    WriteError
        If a tensor has no format, a node no weights, or weights or biases do not fit their width.
    FormatError
        If a width is not 2 to 16 bits.
    hw.whole_file.WholeFileError
        If the file cannot be written.
    """
    proto = fixed_model_to_onnx(model)
    write_whole(path, proto.SerializeToString())


def fixed_model_to_onnx(model: FixedModel) -> onnx.ModelProto:
    """The checked `onnx.ModelProto` that `write_fixed_model` writes; the same errors."""
    return GraphWriter(model).write()


class GraphWriter:
    """Nodes and initializers of the file under construction; `quant.float_onnx` writes float graphs by it."""

    def __init__(self, model: FixedModel):
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.taken = {*model.graph.shapes}
        self.node_names = {node.name for node in model.graph.nodes}
        self.dequantized: dict[str, str] = {}  # tensor of the graph: what its readers read

    def write(self) -> onnx.ModelProto:
        graph = self.model.graph
        channels, rows, columns = graph.shapes[graph.input]
        channels_last = graph.input_layout == "NHWC"
        input_shape = (rows, columns, channels) if channels_last else (channels, rows, columns)
        self._quantize(graph.input)
        if channels_last:
            self.dequantized[graph.input] = self._emit(
                "Transpose",
                [self.dequantized[graph.input]],
                self._fresh(graph.input + "/nchw"),
                perm=[0, 3, 1, 2],
            )
        for node in graph.nodes:
            self._write_node(node)
        output = self._write_tail()
        proto = helper.make_model(
            helper.make_graph(
                self.nodes,
                graph.name or "network",
                [helper.make_tensor_value_info(graph.input, TensorProto.FLOAT, ["batch", *input_shape])],
                [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *graph.output_shape])],
                self.initializers,
            ),
            opset_imports=[helper.make_opsetid("", self._opset())],
            ir_version=_IR_VERSION,
            producer_name=PRODUCER,
        )
        helper.set_model_props(proto, self._metadata())
        onnx.checker.check_model(proto)
        return proto

    def _metadata(self) -> dict[str, str]:
        preparation = json.dumps(asdict(self.model.preparation))
        return {PREPARATION_KEY: preparation, LAYOUT_KEY: self.model.graph.input_layout}

    def _opset(self) -> int:
        widths = [form.bits for form in self.model.formats.values()]
        eight = all(bits <= 8 for bits in widths) and all(
            4 < weights.bits <= 8 for weights in self.model.weights.values()
        )
        return OPSET - 1 if eight else OPSET

    # names, constants, nodes

    def _fresh(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.taken:
            name, number = f"{wanted}_{number}", number + 1
        self.taken.add(name)
        return name

    def _constant(self, name: str, values: NDArray, element_type: int | None = None) -> str:
        name = self._fresh(name)
        if element_type is None:
            self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        else:
            self.initializers.append(
                helper.make_tensor(name, element_type, values.shape, values.ravel().tolist())
            )
        return name

    def _emit(
        self,
        operator: str,
        inputs: list[str],
        output: str,
        name: str | None = None,
        metadata: dict[str, str] | None = None,
        **attributes: object,
    ) -> str:
        if name is None:
            name, number = f"{output}/{operator}", 1
            while name in self.node_names:
                name, number = f"{output}/{operator}_{number}", number + 1
            self.node_names.add(name)
        node = helper.make_node(operator, inputs, [output], name, **attributes)
        for key, value in (metadata or {}).items():
            node.metadata_props.add(key=key, value=value)
        self.nodes.append(node)
        return output

    # feature maps

    def _quantize(self, tensor: str) -> None:
        """Float ``tensor`` → integers → what its readers read."""
        form = self.model.formats.get(tensor)
        if form is None:
            raise WriteError(f"tensor {tensor} has no format")
        check_width(form.bits, f"tensor {tensor}")
        element_type = (
            (_INT8 if form.bits <= 8 else _INT16) if form.signed else (_UINT8 if form.bits <= 8 else _UINT16)
        )
        producer = self.model.graph.producer(tensor)
        metadata = {} if producer is None else {NODE_KEY: producer.name}
        source = tensor
        if form.bits not in (8, 16):
            bounds = [
                self._constant(f"{tensor}/{end}", np.float32(value * form.scale))
                for end, value in (("low", form.low), ("high", form.high))
            ]
            source = self._emit("Clip", [tensor, *bounds], self._fresh(f"{tensor}/clipped"))
            metadata[BITS_KEY] = str(form.bits)
        scale = self._constant(f"{tensor}/scale", np.float32(form.scale))
        zero = self._constant(f"{tensor}/zero_point", np.zeros((), np.int64), element_type)
        integers = self._emit(
            "QuantizeLinear", [source, scale, zero], self._fresh(f"{tensor}/quantized"), metadata=metadata
        )
        self.dequantized[tensor] = self._emit(
            "DequantizeLinear", [integers, scale, zero], self._fresh(f"{tensor}/dequantized")
        )

    # nodes

    def _write_node(self, node: Node) -> None:
        inputs = [self.dequantized[tensor] for tensor in node.inputs]
        active = node.activation != Activation()
        output = self._fresh(f"{node.output}/sum") if active else node.output
        match node:
            case Convolution():
                weight, bias = self._write_weights(node)
                self._emit(
                    "Conv",
                    [inputs[0], weight, bias],
                    output,
                    node.name,
                    kernel_shape=node.weight.shape[2:],
                    strides=node.stride,
                    pads=node.pads,
                    dilations=node.dilation,
                    group=node.groups,
                )
            case MaxPool():
                self._emit(
                    "MaxPool",
                    inputs,
                    output,
                    node.name,
                    kernel_shape=node.kernel,
                    strides=node.stride,
                    pads=node.pads,
                    dilations=node.dilation,
                )
            case AveragePool():
                self._emit(
                    "AveragePool",
                    inputs,
                    output,
                    node.name,
                    kernel_shape=node.kernel,
                    strides=node.stride,
                    pads=node.pads,
                    count_include_pad=int(node.count_include_pad),
                )
            case Add():
                self._emit("Add", inputs, output, node.name)
            case Concat():
                self._emit("Concat", inputs, output, node.name, axis=1)
            case Select():
                self._write_select(node, inputs[0], output, active)
            case _:
                raise WriteError(f"{node.name}: unknown node {type(node).__name__}")
        if active:
            self._write_activation(node, output)
        self._quantize(node.output)

    def _is_neutral(self, node: Select) -> bool:
        """Whether everything is taken."""
        whole = self.model.graph.shapes[node.inputs[0]]
        return (node.start, node.step, node.size) == ((0, 0, 0), (1, 1, 1), whole)

    def _write_select(self, node: Select, source: str, output: str, active: bool) -> None:
        """Slice and Pad, each only if it does something; Identity if nothing else names the tensor."""
        steps: list[tuple[str, list[str], dict[str, object]]] = []
        if not self._is_neutral(node):
            ends = [
                start + (size - 1) * step + 1 for start, step, size in zip(node.start, node.step, node.size)
            ]
            steps.append(
                (
                    "Slice",
                    [
                        self._constant(f"{node.name}/{what}", np.array(values, np.int64))
                        for what, values in (
                            ("starts", node.start),
                            ("ends", ends),
                            ("axes", (1, 2, 3)),
                            ("steps", node.step),
                        )
                    ],
                    {},
                )
            )
        if any(node.pad_channels):
            before, after = node.pad_channels
            amounts = np.array([0, before, 0, 0, 0, after, 0, 0], np.int64)
            steps.append(("Pad", [self._constant(f"{node.name}/pads", amounts)], {"mode": "constant"}))
        if not steps:
            steps.append(("Identity", [], {}))
        for number, (operator, constants, attributes) in enumerate(steps):
            last = number == len(steps) - 1
            source = self._emit(
                operator,
                [source, *constants],
                output if last else self._fresh(f"{node.output}/{operator.lower()}"),
                node.name if last else None,
                **attributes,
            )

    def _write_activation(self, node: Node, source: str) -> None:
        low, high = node.activation.low, node.activation.high
        if (low, high) == (0.0, math.inf):
            self._emit("Relu", [source], node.output)
            return
        bounds = [
            self._constant(f"{node.output}/{end}", np.float32(value)) if math.isfinite(value) else ""
            for end, value in (("minimum", low), ("maximum", high))
        ]
        self._emit("Clip", [source, *bounds] if bounds[1] else [source, bounds[0]], node.output)

    def _write_weights(self, node: Convolution) -> tuple[str, str]:
        weights = self.model.weights.get(node.name)
        if weights is None:
            raise WriteError(f"{node.name} has no fixed-point weights")
        check_width(weights.bits, f"weights of {node.name}")
        _check_weights(node.name, weights)
        element_type = _INT4 if weights.bits <= 4 else _INT8 if weights.bits <= 8 else _INT16
        metadata = {} if weights.bits in (4, 8, 16) else {BITS_KEY: str(weights.bits)}
        per_channel = bool(np.any(weights.fl != weights.fl[0]))
        fl = weights.fl if per_channel else weights.fl[0]
        input_fl = self.model.formats[node.inputs[0]].fl
        names = []
        for what, values, kind, length, extra in (
            ("weight", weights.values, element_type, fl, metadata),
            ("bias", weights.bias, _INT32, fl + input_fl, {}),
        ):
            name = f"{node.name}/{what}"
            scale = self._constant(f"{name}/scale", np.ldexp(1.0, -np.asarray(length)).astype(np.float32))
            integers = self._constant(f"{name}/quantized", values, kind)
            zero = self._constant(f"{name}/zero_point", np.zeros(np.shape(length), np.int64), kind)
            names.append(
                self._emit(
                    "DequantizeLinear",
                    [integers, scale, zero],
                    self._fresh(name),
                    metadata=extra,
                    **({"axis": 0} if per_channel else {}),
                )
            )
        return names[0], names[1]

    def _shape_before_tail(self) -> tuple[int, ...]:
        return tuple(self.model.graph.shapes[self.model.graph.output])

    def _write_tail(self) -> str:
        """From the last integers to the original model's output: its shape, then the host's operators."""
        graph = self.model.graph
        last = self.dequantized[graph.output]
        shape_now, wanted = self._shape_before_tail(), tuple(graph.output_shape)
        if wanted != shape_now and len(wanted) == 1:
            last = self._emit("Flatten", [last], self._fresh(f"{graph.output}/flattened"))
        elif wanted != shape_now:
            shape = self._constant(f"{graph.output}/shape", np.array([0, *graph.output_shape], np.int64))
            last = self._emit("Reshape", [last, shape], self._fresh(f"{graph.output}/reshaped"))
        for operator in graph.host_operations:
            attributes = {"axis": -1} if operator in ("Softmax", "LogSoftmax") else {}
            last = self._emit(
                operator, [last], self._fresh(f"{graph.output}/{operator.lower()}"), **attributes
            )
        return last


def _check_weights(name: str, weights: FixedWeights) -> None:
    form = Format(weights.bits, True, 0)
    if weights.values.size and not form.low <= weights.values.min() <= weights.values.max() <= form.high:
        raise WriteError(f"weights of {name} do not fit {weights.bits} bits")
    if weights.bias.size and np.abs(weights.bias).max() >= 1 << 31:
        raise WriteError(
            f"biases of {name} do not fit 32 bits; use fewer fractional bits for its input or weights"
        )
