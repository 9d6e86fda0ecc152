"""Take a QDQ graph apart: the float network, and what its Quantize/Dequantize nodes say about it.

The stripped network computes the same without rounding and has the same tensor names, so that the
ordinary front end reads it; the formats go beside it.  Files of other tools are taken as long as
every zero point is 0 and every scale a power of two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from quant.number_format import Format
from quant.qdq import BITS_KEY, NODE_KEY
from quant.qdq_parameters import QdqError, QdqParameters, read_parameters, refuse

__all__ = ["QdqError", "QuantizedConstant", "StrippedModel", "strip_qdq"]

_HOST_OPERATORS = ("Softmax", "LogSoftmax", "Sigmoid")
#: Operators whose results are numbers of their input, or 0: what was quantized before stays so.
_VALUE_KEEPING = ("MaxPool", "Relu", "Concat", "Slice", "Pad", "Split", "Reshape", "Flatten", "Squeeze",
                  "Unsqueeze", "Transpose", "Identity", "Dropout")
#: Those of them whose result is a tensor of the network in another shape.
_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout")


@dataclass(frozen=True)
class QuantizedConstant:
    """Integer weights or biases: ``values`` in units of 2^-``fl``, one ``fl`` or one per channel."""

    values: NDArray[np.int64]
    bits: int
    fl: NDArray[np.int64]


@dataclass
class StrippedModel:
    """A float ONNX model and the formats that were around its tensors.

    Attributes
    ----------
    proto : onnx.ModelProto
        The network without quantization; constants hold the dequantized values.
    formats : dict
        Format of each quantized feature map.
    constants : dict
        Integers of each quantized constant, by the name of its float values.
    integers : dict
        For each quantized feature map, the name of its integers in the QDQ graph.
    node_names : dict
        For each feature map of a file of ours, the name of the graph's node that computes it.
    copies : set of str
        Feature maps that are another, already quantized one in a format of their own.
    """

    proto: onnx.ModelProto
    formats: dict[str, Format] = field(default_factory=dict)
    constants: dict[str, QuantizedConstant] = field(default_factory=dict)
    integers: dict[str, str] = field(default_factory=dict)
    node_names: dict[str, str] = field(default_factory=dict)
    copies: set[str] = field(default_factory=set)


def strip_qdq(proto: onnx.ModelProto) -> StrippedModel:
    """Remove every QuantizeLinear and DequantizeLinear.

    Raises
    ------
    QdqError
        If the file has none, a scale is not a power of two, a zero point is not 0, a pair disagrees,
        or a feature map is read without its quantization too.
    """
    return _Stripper(proto).strip()


class _Stripper:
    def __init__(self, proto: onnx.ModelProto):
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(proto)
        graph = self.proto.graph
        self.producers = {output: node for node in graph.node for output in node.output}
        self.read_by_layers = {
            tensor for node in graph.node if node.op_type != "QuantizeLinear" for tensor in node.input
        }
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
        self.result = StrippedModel(self.proto)
        self.aliases: dict[str, str] = {}  # output of a DequantizeLinear: tensor that it stands for
        self.sources: dict[str, str] = {}  # tensor that a QuantizeLinear reads: tensor that it stands for
        self.reshapes: dict[int, str] = {}  # node in front of a QuantizeLinear: tensor that the latter reads
        self.removed: set[int] = set()
        self.added: list[NodeProto] = []
        self.renamed_outputs: dict[str, str] = {}

    def strip(self) -> StrippedModel:
        graph = self.proto.graph
        pairs = [node for node in graph.node if node.op_type == "DequantizeLinear"]
        if not pairs:
            raise QdqError(
                "the file has no DequantizeLinear node: it is not a fixed-point model; "
                "make one with `python -m quant calibrate`"
            )
        for node in pairs:
            self._strip_pair(node)
        kept = [
            node
            for node in graph.node
            if id(node) not in self.removed and node.op_type not in ("QuantizeLinear", "DequantizeLinear")
        ]
        for node in kept:
            for tensor in node.input:
                if tensor in self.sources and self.reshapes.get(id(node)) != self.sources[tensor]:
                    refuse(
                        tensor,
                        f"{node.name or node.op_type} reads it without its quantization",
                        "let every reader take the output of the DequantizeLinear",
                    )
        outputs = {output.name for output in graph.output}
        for tensor in sorted(outputs & set(self.sources)):
            refuse(
                tensor,
                "it is an output of the network without its quantization",
                "let the output be that of the DequantizeLinear",
            )
        for node in [*kept, *self.added]:
            for position, tensor in enumerate(node.input):
                node.input[position] = self.aliases.get(tensor, tensor)
        for node in kept:
            for position, tensor in enumerate(node.output):
                node.output[position] = self.renamed_outputs.get(tensor, tensor)
        for output in graph.output:
            output.name = self.aliases.get(output.name, output.name)
        nodes = _sorted([*kept, *self.added])
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.value_info[:]
        del graph.quantization_annotation[:]
        self._drop_unused_initializers()
        return self.result

    def _drop_unused_initializers(self) -> None:
        graph = self.proto.graph
        read = {tensor for node in graph.node for tensor in node.input} | {
            output.name for output in graph.output
        }
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        inputs = [value for value in graph.input if value.name in read or value.name not in self.constants]
        del graph.input[:]
        graph.input.extend(inputs)

    # one Quantize/Dequantize pair

    def _strip_pair(self, dequantize: NodeProto) -> None:
        output = dequantize.output[0]
        integers = dequantize.input[0]
        if integers in self.constants:
            self._constant(dequantize, self._integer_constant(integers))
            return
        source = self.producers.get(integers)
        clip = None
        if source is not None and source.op_type == "Clip":
            clip, source = source, self.producers.get(source.input[0])
        if clip is not None and clip.input[0] in self.constants:
            # stored integers, and a Clip that tells how many of their type's bits are in use
            whole = read_parameters(dequantize, output, self.constants).integers
            low, high = self._integer_bounds(clip, whole.low, whole.high)
            self.removed.add(id(clip))
            values = np.clip(self._integer_constant(clip.input[0]), low, high)
            self._constant(dequantize, values, low, high)
            return
        if source is None or source.op_type != "QuantizeLinear":
            refuse(
                integers,
                "DequantizeLinear reads integers that no QuantizeLinear made",
                "start the network with a float input and a QuantizeLinear",
            )
        quantize = read_parameters(source, source.output[0], self.constants)
        low, high = quantize.integers.low, quantize.integers.high
        if clip is not None:
            low, high = self._integer_bounds(clip, low, high)
            self.removed.add(id(clip))
        if source.input[0] in self.constants:
            values = numpy_helper.to_array(self.constants[source.input[0]]).astype(np.float64)
            fl = _along(quantize.fl, quantize.axis, values.ndim)
            self._constant(
                dequantize, np.clip(np.rint(np.ldexp(values, fl)), low, high).astype(np.int64), low, high
            )
            return
        self._feature_map(source, dequantize, quantize, low, high)
        if read_parameters(dequantize, output, self.constants).fl.tolist() != quantize.fl.tolist():
            refuse(
                integers,
                "QuantizeLinear and DequantizeLinear have different scales",
                "make both scales the same",
            )

    def _feature_map(
        self, quantize: NodeProto, dequantize: NodeProto, found: QdqParameters, low: int, high: int
    ) -> None:
        tensor = source = quantize.input[0]
        width = _metadata(quantize).get(BITS_KEY)
        if found.fl.ndim:
            refuse(
                tensor,
                "a feature map has one scale for each channel",
                "give it one scale for the whole tensor",
            )
        if found.bits > 16:
            refuse(tensor, f"a feature map of {found.bits} bits", "quantize it to 16 bits or fewer")
        bits = found.narrowest_bits(low, high) if width is None else found.declared_bits(tensor, width)
        form = Format(bits, found.signed, int(found.fl))
        if width is not None:
            clip = self.producers.get(tensor)
            bounds = self._float_bounds(clip) if clip is not None and clip.op_type == "Clip" else None
            if clip is None or bounds != (form.low * form.scale, form.high * form.scale):
                refuse(
                    tensor,
                    f"its metadata says {width} bits, but no Clip to that width stands before it",
                    "write the file again",
                )
            self.removed.add(id(clip))
            tensor = clip.input[0]
        again = tensor in self.aliases or source in self.aliases
        again = again or (source in self.read_by_layers and self._is_quantized(source))
        if again:
            # quantized a second time, with another format, which the readers of the first do not see
            tensor = self._quantized_again(tensor, form)
        self.aliases[dequantize.output[0]] = tensor
        if tensor in self.producers and self.producers[tensor].op_type in _HOST_OPERATORS:
            return  # computed by the host, in float
        self._set_format(tensor, form)
        self.sources[tensor] = tensor
        if not again:
            self.sources[source] = tensor
            self._reshaped_source(source)
        name = _metadata(quantize).get(NODE_KEY)
        if name is not None:
            self.result.node_names[tensor] = name
        integers = dequantize.input[0]
        if width is None and (low, high) != (form.low, form.high):
            if tensor in self.producers:
                self._clip_before(tensor, low * form.scale, high * form.scale)
            else:
                integers = quantize.output[0]
                self._clip_behind(tensor, form, low, high, dequantize)
        self.result.integers.setdefault(tensor, integers)

    def _is_quantized(self, tensor: str) -> bool:
        """Whether a tensor holds numbers of a format, though no QuantizeLinear of its own said so."""
        producer = self.producers.get(tensor)
        if tensor in self.aliases or producer is None or producer.op_type not in _VALUE_KEEPING:
            return tensor in self.aliases
        data = producer.input if producer.op_type == "Concat" else producer.input[:1]
        return all(self._is_quantized(source) for source in data)

    def _reshaped_source(self, source: str) -> None:
        """A result that is reshaped before it is quantized must not be read unquantized either."""
        tensor = source
        while (node := self.producers.get(tensor)) is not None and node.op_type in _RESHAPING:
            self.reshapes[id(node)] = self.sources[source]
            tensor = node.input[0]
            if tensor in self.aliases:
                break
            self.sources.setdefault(tensor, self.sources[source])

    def _quantized_again(self, tensor: str, form: Format) -> str:
        """A copy of a tensor that has another format; one for each format."""
        again = f"{tensor}/again"
        while self.result.formats.get(again, form) != form:
            again += "/again"
        self.result.copies.add(again)
        if again not in self.result.formats:
            self.added.append(helper.make_node("Identity", [tensor], [again], again))
        return again

    def _set_format(self, tensor: str, form: Format) -> None:
        if self.result.formats.setdefault(tensor, form) != form:
            refuse(
                tensor,
                f"it is quantized in two formats, {self.result.formats[tensor]} and {form}",
                "quantize it once, or put an Identity in front of one of them",
            )

    def _clip_before(self, tensor: str, low: float, high: float) -> None:
        """A Clip that the tensor's producer can take over as its activation; the tensor keeps its name."""
        name = f"{tensor}/unclipped"
        if self.renamed_outputs.setdefault(tensor, name) not in {node.input[0] for node in self.added}:
            self._add_clip(name, tensor, low, high)

    def _clip_behind(self, tensor: str, form: Format, low: int, high: int, dequantize: NodeProto) -> None:
        """A Clip to integer bounds as a step of its own, for a tensor that no layer computes."""
        name = f"{tensor}/narrow_{low}_{high}"
        if name not in self.result.formats:
            self._add_clip(tensor, name, low * form.scale, high * form.scale)
        self.result.formats[name] = form
        self.result.integers.setdefault(name, dequantize.input[0])
        self.aliases[dequantize.output[0]] = name

    def _add_clip(self, source: str, output: str, low: float, high: float) -> None:
        bounds = []
        for end, value in (("low", low), ("high", high)):
            self.proto.graph.initializer.append(
                numpy_helper.from_array(np.float32(value), f"{output}/narrow_{end}")
            )
            bounds.append(f"{output}/narrow_{end}")
        self.added.append(helper.make_node("Clip", [source, *bounds], [output], f"{output}/narrow"))

    # constants

    def _constant(
        self,
        dequantize: NodeProto,
        values: NDArray[np.int64],
        low: int | None = None,
        high: int | None = None,
    ) -> None:
        output = dequantize.output[0]
        found = read_parameters(dequantize, output, self.constants)
        width = _metadata(dequantize).get(BITS_KEY)
        if width is not None:
            bits = found.declared_bits(output, width)
        elif low is not None and high is not None:
            bits = found.narrowest_bits(low, high)
        else:
            bits = found.bits
        if not found.signed and values.max(initial=0) >= 1 << (bits - 1):
            bits += 1  # weights are signed
        real = np.ldexp(values.astype(np.float64), -_along(found.fl, found.axis, values.ndim))
        self.proto.graph.initializer.append(numpy_helper.from_array(real.astype(np.float32), output))
        self.result.constants[output] = QuantizedConstant(values, bits, found.fl)

    def _integer_constant(self, name: str) -> NDArray[np.int64]:
        return numpy_helper.to_array(self.constants[name]).astype(np.int64)

    # parameters of nodes

    def _integer_bounds(self, clip: NodeProto, low: int, high: int) -> tuple[int, int]:
        bounds = [low, high]
        for position in (1, 2):
            if len(clip.input) > position and clip.input[position]:
                if clip.input[position] not in self.constants:
                    refuse(clip.output[0], "bounds of its Clip are not constant")
                value = int(numpy_helper.to_array(self.constants[clip.input[position]]))
                bounds[position - 1] = max(low, min(high, value))
        return bounds[0], bounds[1]

    def _float_bounds(self, clip: NodeProto) -> tuple[float, float] | None:
        if len(clip.input) < 3 or any(name not in self.constants for name in clip.input[1:3]):
            return None
        low, high = (float(numpy_helper.to_array(self.constants[name])) for name in clip.input[1:3])
        return low, high


def _along(fl: NDArray[np.int64], axis: int, dimensions: int) -> NDArray[np.int64]:
    """One fractional length, or one per index of an axis, shaped to broadcast."""
    if not fl.ndim:
        return fl
    shape = [1] * dimensions
    shape[axis] = -1
    return fl.reshape(shape)


def _metadata(node: NodeProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in node.metadata_props}


def _sorted(nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes in their order, except that each comes after those whose results it reads."""
    makers = {output: position for position, node in enumerate(nodes) for output in node.output}
    ordered: list[NodeProto] = []
    placed, waiting = set[int](), set[int]()
    stack = list(range(len(nodes) - 1, -1, -1))
    while stack:
        position = stack[-1]
        needed = [makers[name] for name in nodes[position].input if name in makers]
        needed = [other for other in needed if other not in placed]
        if position in placed or not needed:
            stack.pop()
            if position not in placed:
                placed.add(position)
                ordered.append(nodes[position])
            continue
        if position in waiting:
            raise QdqError("the graph has a cycle; the file is damaged")
        waiting.add(position)
        stack += reversed(needed)
    return ordered
