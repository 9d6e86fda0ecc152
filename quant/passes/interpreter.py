"""Follows the values of an ONNX graph node by node and lets each operator append to the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper, shape_inference

from quant.graph import Activation, Add, Convolution, Node, Shape
from quant.onnx_file import OnnxModel
from quant.passes import lower_convolution as convolution
from quant.passes import lower_elementwise as elementwise
from quant.passes import lower_movement as movement
from quant.passes import lower_pooling as pooling
from quant.passes.builder import Builder, Constant, OnnxNode, Value
from quant.passes.element_order import LARGEST_MAP, View, is_complete, order_of
from quant.passes.host_tail import HOST_OPERATORS
from quant.passes.node_evaluation import evaluate_node
from quant.refusal import ModelError, Refusal, RefusedError

__all__ = ["FORMAT_OPERATORS", "LOWERINGS", "Interpreter", "NodeRecord"]

Lowering = Callable[[Builder, OnnxNode, Sequence[Value | None]], list[Value]]

#: What appends each operator to the graph.
LOWERINGS: dict[str, Lowering] = {
    "Conv": convolution.lower_conv,
    "Gemm": convolution.lower_gemm,
    "MatMul": convolution.lower_matmul,
    "Relu": elementwise.lower_relu,
    "Clip": elementwise.lower_clip,
    "Min": elementwise.lower_min,
    "Max": elementwise.lower_max,
    "Add": elementwise.lower_add,
    "Sum": elementwise.lower_sum,
    "Sub": elementwise.lower_sub,
    "Mul": elementwise.lower_mul,
    "Div": elementwise.lower_div,
    "Neg": elementwise.lower_neg,
    "BatchNormalization": elementwise.lower_batch_normalization,
    "MaxPool": pooling.lower_max_pool,
    "AveragePool": pooling.lower_average_pool,
    "GlobalAveragePool": pooling.lower_global_average_pool,
    "GlobalMaxPool": pooling.lower_global_max_pool,
    "ReduceMean": pooling.lower_reduce_mean,
    "ReduceMax": pooling.lower_reduce_max,
    "Concat": movement.lower_concat,
    "Pad": movement.lower_pad,
    "Identity": movement.lower_identity,
    "Dropout": movement.lower_identity,
    "Cast": movement.lower_cast,
    "CastLike": movement.lower_cast,
    "Shape": movement.lower_shape,
    "Size": movement.lower_shape,
    **{name: movement.lower_movement for name in (
        "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "Expand",
        "Tile", "DepthToSpace", "SpaceToDepth")},
}

FORMAT_OPERATORS = ("QuantizeLinear", "DequantizeLinear")

_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial",
           "Bernoulli")


@dataclass(frozen=True)
class NodeRecord:
    """What became of one ONNX node.

    Attributes
    ----------
    name, operator : str
    shape : tuple or None
        Shape of its first output with a batch of one; None if unknown.
    place : str
        ``array``, ``FC engine``, ``post-processing``, ``host``, ``folded``, ``format``, ``refused`` or
        ``unknown`` (it depends on a refused node).
    refusal : Refusal or None
        Why it is refused.
    """

    name: str
    operator: str
    shape: tuple[int, ...] | None = None
    place: str = "folded"
    refusal: Refusal | None = None


@dataclass
class Interpreter:
    """One walk through a model.

    ``formats`` looks through QuantizeLinear and DequantizeLinear; ``batch`` is the batch size that the
    model was exported with.
    """

    model: OnnxModel
    builder: Builder
    boundaries: AbstractSet[str]
    distinct: AbstractSet[str]
    formats: bool = False
    batch: int = 1
    values: dict[str, Value] = field(default_factory=dict)
    records: list[NodeRecord] = field(default_factory=list)
    refused: bool = False
    _names: set[str] = field(default_factory=set)
    _lost: set[str] = field(default_factory=set)  # results that are unknown because of a refusal
    _inferred: dict[str, tuple[int, ...]] | None = None
    _input_shape: tuple[int, ...] = ()

    def run(self, source: View, end: str, tail: Sequence[NodeProto]) -> dict[str, Value]:
        """Follow every node that the tensor ``end`` depends on; ``tail`` is left to the host."""
        graph = self.model.proto.graph
        self._input_shape = source.index.shape
        self.builder.reserved.update(name for node in graph.node for name in node.output)
        self._load(graph)
        self.values[self.model.input] = source
        self._follow(graph, self._needed(graph, {end}), {id(node) for node in tail})
        return self.values

    def _load(self, graph: GraphProto) -> None:
        for tensor in graph.initializer:
            self.values[tensor.name] = Constant(tensor.name, self._array(tensor))

    def _array(self, tensor: TensorProto) -> Any:
        try:
            return numpy_helper.to_array(tensor)
        except Exception as error:  # whatever numpy and protobuf raise for missing bytes
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"{self.model.name}: the tensor {tensor.name} cannot be read ({reason}); "
                             "export or copy the model again") from None

    @staticmethod
    def _needed(graph: GraphProto, wanted: set[str]) -> set[int]:
        """Positions of the nodes that some tensors depend on."""
        needed: set[int] = set()
        for position in range(len(graph.node) - 1, -1, -1):
            node = graph.node[position]
            if not wanted.isdisjoint(node.output):
                needed.add(position)
                wanted.update(node.input)
                for attribute in node.attribute:
                    if attribute.HasField("g"):
                        wanted.update(name for inner in attribute.g.node for name in inner.input)
        return needed

    def _follow(self, graph: GraphProto, needed: set[int], tail: set[int]) -> None:
        for position, proto in enumerate(graph.node):
            name = self._unique(proto)
            operator = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
            if id(proto) in tail:
                self.records.append(NodeRecord(name, operator, place="host"))
            elif position not in needed:
                self.records.append(NodeRecord(name, operator, place="folded"))
            else:
                self._step(OnnxNode.of(proto, name, self.model.opsets))

    def _unique(self, proto: NodeProto) -> str:
        wanted = proto.name or f"{proto.op_type}_{next((name for name in proto.output if name), 'node')}"
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def _step(self, node: OnnxNode) -> None:
        missing = [name for name in node.proto.input if name and name not in self.values]
        if missing:
            absent = [name for name in missing if name not in self._lost]
            if absent:
                self._refuse(node, RefusedError(f"nothing computes its input {absent[0]}",
                                                "export the model again"))
            elif node.proto.op_type not in LOWERINGS:
                self._refuse(node, self._unsupported(node))
            else:
                self._lost.update(node.proto.output)
                self.records.append(NodeRecord(node.name, node.operator, place="unknown"))
            return
        self.builder.current = node.name
        self.builder.makers.update((name, node.name) for name in node.proto.output)
        count = len(self.builder.nodes)
        try:
            results = [self._marked(name, value) if name else value for name, value in zip(
                node.proto.output, self._results(node), strict=False)]
        except RefusedError as error:
            del self.builder.nodes[count:]
            self._refuse(node, error)
            return
        for name, value in zip(node.proto.output, results, strict=False):
            if name:
                self.values[name] = value
        if node.proto.op_type == "If":
            return
        first = self.values.get(node.output)
        shape = first.index.shape if isinstance(first, View) else first.array.shape if first else None
        place = "format" if node.proto.op_type in FORMAT_OPERATORS else ""
        self.records.append(NodeRecord(node.name, node.operator, shape, place))

    def _results(self, node: OnnxNode) -> list[Value]:
        inputs = [self.values[name] if name else None for name in node.proto.input]
        operator = node.proto.op_type
        if operator == "If":
            return self._branch(node, inputs)
        if operator not in _RANDOM and not any(isinstance(value, View) for value in inputs):
            return self._folded(node)
        if operator in FORMAT_OPERATORS:
            if not self.formats:
                raise ModelError(f"{self.model.name}: it is a fixed-point model already ({node.name} is a "
                                 f"{operator}); evaluate or compile it, or give the float model")
            if operator == "QuantizeLinear" and isinstance(inputs[0], View):
                self.builder.protected.add(inputs[0].tensor)
            return movement.lower_identity(self.builder, node, inputs)
        if node.proto.domain not in ("", "ai.onnx") or operator not in LOWERINGS:
            raise self._unsupported(node)
        if operator == "Reshape":
            self._one_image(node, inputs)
        return LOWERINGS[operator](self.builder, node, inputs)

    def _one_image(self, node: OnnxNode, inputs: list[Value | None]) -> None:
        """A Reshape to the batch size of the export becomes one to a single image."""
        view, target = inputs[0], inputs[1] if len(inputs) > 1 else None
        if self.batch == 1 or not isinstance(view, View) or not isinstance(target, Constant):
            return
        if target.array.size and target.array[0] == self.batch and -1 not in target.array:
            inputs[1] = Constant(target.name, np.array([1, *target.array[1:]], np.int64))

    @staticmethod
    def _unsupported(node: OnnxNode) -> RefusedError:
        if node.proto.op_type in HOST_OPERATORS:
            return RefusedError("it is not at the end of the network", "cut the network in front of it")
        return RefusedError("the operator is not supported",
                            "replace it by one of docs/operators.md, or cut the network in front of it")

    def _folded(self, node: OnnxNode) -> list[Value]:
        arrays = {name: value.array for name in node.proto.input
                  if name and isinstance(value := self.values[name], Constant)}
        try:
            results = evaluate_node(node.proto, arrays, node.opsets)
        except ValueError as error:
            raise RefusedError(f"its constant inputs cannot be computed ({error})",
                               "fold constants when exporting the model") from None
        # a message about a value should name the tensor that is stored in the file
        sources = [name for name in node.proto.input if name]
        name = self.values[sources[0]].name if len(sources) == 1 else node.output
        return [Constant(name, result) for result in results]

    def _branch(self, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
        condition = inputs[0]
        if not isinstance(condition, Constant):
            raise RefusedError("its condition depends on the image", "export the branch that is taken")
        branch: GraphProto = node.attributes["then_branch" if condition.array.item() else "else_branch"]
        self._load(branch)
        wanted = {output.name for output in branch.output}
        self.builder.reserved.update(name for inner in branch.node for name in inner.output)
        self.records.append(NodeRecord(node.name, node.operator, place="folded"))
        self._follow(branch, self._needed(branch, wanted), set())
        if any(output.name not in self.values for output in branch.output):
            raise RefusedError("a node of its branch is refused", "see there")
        return [replace(self.values[output.name], name=name)
                for output, name in zip(branch.output, node.proto.output, strict=True)]

    def _marked(self, name: str, value: Value) -> Value:
        """A new value; a boundary becomes a tensor of the graph or an alias of one."""
        if not isinstance(value, View) or name == value.tensor:
            return value
        value = View(name, value.tensor, value.index)
        if name in self.boundaries:
            value = self.builder.without_pads(value)
            if name in self.distinct and value.tensor != name:
                self.builder.select(value.tensor, name, self.builder.current, Activation())
                value = View(name, name, value.index)
            self.builder.protected.add(value.tensor)
            if value.tensor != name:
                self.builder.aliases[name] = value.tensor
        elif is_complete(value.index, math.prod(self.builder.shapes[value.tensor])):
            self.builder.aliases[name] = value.tensor
        return value

    def _refuse(self, node: OnnxNode, error: RefusedError) -> None:
        self.refused = True
        refusal = Refusal(node.name, node.operator, error.reason, error.advice)
        shape = None
        self._lost.update(node.proto.output)
        for name in node.proto.output:
            stand_in = self._stand_in(node, name) if name else None
            if stand_in is not None:
                self.values[name] = stand_in
                shape = shape or stand_in.index.shape
        self.records.append(NodeRecord(node.name, node.operator, shape, "refused", refusal))

    def refuse_last(self, end: str, error: RefusedError) -> None:
        """Refuse the node that computes the output."""
        self.refused = True
        for position in range(len(self.records) - 1, -1, -1):
            record = self.records[position]
            if record.place != "host":
                self.records[position] = replace(record, place="refused", refusal=Refusal(
                    record.name, record.operator, error.reason, error.advice))
                return

    def _stand_in(self, node: OnnxNode, name: str) -> View | None:
        """A tensor in place of a refused result, so that the nodes behind it can be checked as well."""
        shape = self._shapes().get(name)
        if not shape or math.prod(shape) > LARGEST_MAP:
            return None
        source = self.values.get(node.proto.input[0]) if node.proto.input else None
        if isinstance(source, View) and source.index.shape == shape and is_complete(
                source.index, math.prod(self.builder.shapes[source.tensor])):
            inner, index = self.builder.shapes[source.tensor], source.index
        else:
            inner: Shape = (shape[1], shape[2], shape[3]) if len(shape) == 4 and shape[0] == 1 else (
                math.prod(shape), 1, 1)
            index = order_of(math.prod(shape)).reshape(shape)
        self.builder.shapes[name] = inner
        return View(name, name, index)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes that ONNX infers for a batch of one."""
        if self._inferred is None:
            copy = ModelProto()
            copy.CopyFrom(self.model.proto)
            for value in copy.graph.input:
                if value.name == self.model.input:
                    del value.type.tensor_type.shape.dim[:]
                    for size in self._input_shape:
                        value.type.tensor_type.shape.dim.add(dim_value=size)
            for value in copy.graph.output:
                value.type.tensor_type.ClearField("shape")
            del copy.graph.value_info[:]
            self._inferred = {}
            try:
                copy = shape_inference.infer_shapes(copy, data_prop=True)
            except Exception:  # a model that ONNX itself cannot follow: no shapes, fewer checks
                return self._inferred
            for value in [*copy.graph.value_info, *copy.graph.output]:
                dimensions = value.type.tensor_type.shape.dim
                if value.type.tensor_type.HasField("shape") and all(dim.dim_value > 0 for dim in dimensions):
                    self._inferred[value.name] = tuple(dim.dim_value for dim in dimensions)
        return self._inferred

    def finish(self, nodes: Sequence[Node], shapes: dict[str, Shape]) -> list[NodeRecord]:
        """The records, with the place of each node now that everything is folded together."""
        origin = self.builder.origin
        alive: dict[str, list[Node]] = {}
        for node in nodes:
            alive.setdefault(origin[node.name], []).append(node)
        made: dict[str, list[Node]] = {}
        for node in self.builder.nodes:
            made.setdefault(origin[node.name], []).append(node)
        places = {record.name: _place(alive.get(record.name, []), made.get(record.name, []), shapes)
                  for record in self.records}
        return [replace(record, place=record.place or places[record.name]) for record in self.records]


def _place(alive: Sequence[Node], made: Sequence[Node], shapes: dict[str, Shape]) -> str:
    """Where an ONNX node runs, from the graph nodes it made and those that are left of them."""
    if not made:
        return "folded"
    if not alive:
        return "folded" if isinstance(made[-1], Convolution) else "post-processing"
    last = alive[-1]
    if isinstance(last, Add):
        return "post-processing"
    if isinstance(last, Convolution) and shapes[last.output][1:] == (1, 1) and last.groups == 1:
        return "FC engine"
    return "array"
