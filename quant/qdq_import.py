"""Read a QDQ ONNX file as a fixed-point model: our own files and those of other tools.

The file is taken apart (`quant.qdq_strip`), the float network goes through the ordinary front end,
and formats and integers are attached to the graph that comes out.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quant.damaged_model import blame_damage
from quant.fixed_model import FixedModel, FixedWeights, Preparation
from quant.graph import Add, AveragePool, Convolution, Graph
from quant.number_format import Format
from quant.onnx_file import read_model
from quant.onnx_import import ModelError, import_verbosely
from quant.qdq import LAYOUT_KEY, PREPARATION_KEY, PRODUCER
from quant.qdq_parameters import QdqError
from quant.qdq_strip import QuantizedConstant, StrippedModel, strip_qdq

__all__ = ["QdqError", "fixed_model_from_onnx", "read_fixed_model"]

#: Operators that only rearrange a constant between its DequantizeLinear and the node that reads it.
_REARRANGING = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast")


def read_fixed_model(path: str | Path) -> FixedModel:
    """The fixed-point model in a QDQ ONNX file.

    Raises
    ------
    ModelError
        If the file cannot be read, or a node is not supported.
    QdqError
        If it is not a fixed-point model: a scale that is not a power of two, a zero point that is
        not 0, a tensor without a format, or weights or biases that are not whole units.
    """
    proto = read_model(path).proto
    if proto.producer_name != PRODUCER:
        proto.graph.name = Path(path).stem
    try:
        with blame_damage(proto, str(path)):
            return fixed_model_from_onnx(proto)
    except QdqError as error:
        raise QdqError(f"{path}: {error}") from None


def fixed_model_from_onnx(proto: onnx.ModelProto) -> FixedModel:
    """The fixed-point model in a QDQ `onnx.ModelProto`; errors as `read_fixed_model`."""
    stripped = strip_qdq(proto)
    names = frozenset(stripped.formats)
    _name_nodes(stripped.proto)
    ours = proto.producer_name == PRODUCER
    distinct = names if ours else frozenset()
    layout = next((entry.value for entry in proto.metadata_props if entry.key == LAYOUT_KEY), None)
    found = _import(stripped, names, distinct, layout)
    formats = _formats(found, stripped)
    differing = {
        alias
        for alias, tensor in found.aliases.items()
        if alias in names
        and alias not in found.shapes
        and formats.get(tensor, stripped.formats[alias]) != stripped.formats[alias]
    }
    if differing:
        found = _import(stripped, names, distinct | differing, layout)
        formats = _formats(found, stripped)
    graph = found.graph
    for tensor in graph.shapes:
        if tensor not in formats:
            raise QdqError(
                f"tensor {tensor} has no format; put a QuantizeLinear and a DequantizeLinear behind it"
            )
    constants = _Constants(stripped)
    weights, nodes = {}, []
    for node in graph.nodes:
        name = stripped.node_names.get(node.output, node.name)
        nodes.append(replace(node, name=name))
        if isinstance(node, Convolution):
            weights[name] = constants.weights_of(
                node, found.origin.get(node.name, node.name), formats[node.inputs[0]]
            )
    if len({node.name for node in nodes}) != len(nodes):
        raise QdqError("two nodes have the same name in the metadata; calibrate the model again")
    return FixedModel(replace(graph, nodes=nodes, _producers={}), formats, weights, _preparation(proto))


def _formats(found: _Imported, stripped: StrippedModel) -> dict[str, Format]:
    """Formats of the graph's tensors, as far as the file gives them."""
    graph = found.graph
    formats = {tensor: stripped.formats[tensor] for tensor in graph.shapes if tensor in stripped.formats}
    for alias, tensor in found.aliases.items():
        if alias in stripped.formats and tensor in graph.shapes and alias not in stripped.copies:
            formats.setdefault(tensor, stripped.formats[alias])
    _pass_formats_on(graph, formats)
    return formats


def _pass_formats_on(graph: Graph, formats: dict[str, Format]) -> None:
    """Give tensors without a format that of their input, if nothing but its own numbers can be in them.

    Brevitas quantizes no result of MaxPool, for example.  The network's output is left out: there
    onnxruntime's integers are asked for, and the file has none.
    """
    for node in graph.nodes:
        if node.output in formats or node.output == graph.output or isinstance(node, Add | AveragePool):
            continue
        found = {formats.get(tensor) for tensor in node.inputs}
        form = found.pop()
        if isinstance(node, Convolution) or found or form is None:
            continue
        bounds = [bound for bound in (node.activation.low, node.activation.high) if math.isfinite(bound)]
        units = [math.ldexp(bound, form.fl) for bound in bounds]
        if all(unit == round(unit) and form.low <= unit <= form.high for unit in units):
            formats[node.output] = form


@dataclass(frozen=True)
class _Imported:
    graph: Graph
    aliases: dict[str, str]
    origin: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        return self.graph.shapes


def _import(
    stripped: StrippedModel, boundaries: frozenset[str], distinct: frozenset[str], layout: str | None
) -> _Imported:
    result = import_verbosely(stripped.proto, boundaries=boundaries, distinct=distinct, input_layout=layout)
    if result.graph is None or result.refusals:
        raise ModelError(
            f"{result.name}: " + "; ".join(str(refusal) for refusal in result.refusals), result.refusals
        )
    return _Imported(result.graph, result.aliases, result.origin)


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a name of its own, so that its weights can be found again."""
    taken: set[str] = set()
    for number, node in enumerate(proto.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}_{number}"
        taken.add(node.name)


def _preparation(proto: onnx.ModelProto) -> Preparation:
    text = next((entry.value for entry in proto.metadata_props if entry.key == PREPARATION_KEY), None)
    if text is None:
        return Preparation()
    try:
        values = json.loads(text)
        known = {field.name for field in fields(Preparation)}
        if set(values) != known:
            raise ValueError("other fields")
        return Preparation(**{**values, **{name: tuple(values[name]) for name in ("mean", "std", "gain")}})
    except (ValueError, TypeError, KeyError) as error:
        raise QdqError(
            f"its metadata {PREPARATION_KEY} is damaged ({error}); calibrate the model again"
        ) from None


class _Constants:
    """Integer weights and biases by the ONNX node that reads them."""

    def __init__(self, stripped: StrippedModel):
        self.constants = stripped.constants
        self.nodes = {node.name: node for node in stripped.proto.graph.node}
        self.producers = {output: node for node in stripped.proto.graph.node for output in node.output}

    def weights_of(self, node: Convolution, origin: str, input_format: Format) -> FixedWeights:
        source = self.nodes.get(origin)
        weight = self._behind(source, (1, 0))
        if weight is None:
            raise QdqError(
                f"{node.name}: its weights are not quantized; put a QuantizeLinear and a "
                "DequantizeLinear behind them"
            )
        outputs = len(node.weight)
        if weight.fl.ndim and weight.fl.shape != (outputs,):
            raise QdqError(
                f"{node.name}: {weight.fl.size} scales for {outputs} output channels; "
                "use one for all or one for each"
            )
        fl = np.broadcast_to(weight.fl, outputs).astype(np.int64)
        values = np.ldexp(node.weight.astype(np.float64), fl.reshape(-1, 1, 1, 1))
        form = Format(weight.bits, True, 0)
        if np.any(values != np.rint(values)) or np.any((values < form.low) | (values > form.high)):
            raise QdqError(
                f"{node.name}: its weights are changed after they were quantized; fold scales and "
                "batch norm into the float model first"
            )
        return FixedWeights(
            values.astype(np.int64), weight.bits, fl, self._bias(node, source, fl + input_format.fl)
        )

    def _bias(
        self, node: Convolution, source: onnx.NodeProto | None, lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        stored = self._behind(source, (2,))
        if stored is not None and stored.values.shape == lengths.shape and np.all(stored.fl == lengths):
            # int32 integers that float32 cannot hold are still known exactly
            real = np.ldexp(stored.values.astype(np.float64), -lengths).astype(np.float32)
            if np.array_equal(real, node.bias):
                return stored.values
        units = np.ldexp(node.bias.astype(np.float64), lengths)
        if np.any(units != np.rint(units)):
            channel = int(np.argmax(units != np.rint(units)))
            raise QdqError(
                f"{node.name}: the bias of channel {channel} is no multiple of 2^-{int(lengths[channel])} "
                "(scale of the input times scale of the weights); quantize biases to that scale"
            )
        if np.any(np.abs(units) >= 2.0**31):
            raise QdqError(
                f"{node.name}: its biases do not fit 32 bits; use larger scales for its input or weights"
            )
        return units.astype(np.int64)

    def _behind(self, node: onnx.NodeProto | None, positions: tuple[int, ...]) -> QuantizedConstant | None:
        """The integers behind one of a node's inputs."""
        for position in positions:
            if node is None or len(node.input) <= position:
                continue
            name = node.input[position]
            while name not in self.constants and name in self.producers:
                producer = self.producers[name]
                if producer.op_type not in _REARRANGING:
                    break
                name = producer.input[0]
            if name in self.constants:
                return self.constants[name]
        return None
