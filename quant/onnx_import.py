"""From an ONNX model to a `quant.graph.Graph`.

Every tensor of the model is followed as a value: a constant, which is computed here, or a view of a
(C, H, W) feature map, which remembers where each of its elements lies.  So constant subgraphs,
layouts, reshapes and paddings leave nothing behind.  Each operator that computes something appends
a node; afterwards scales and activations are folded together.
"""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.damaged_model import blame_damage
from quant.graph import Graph, Node, Shape
from quant.onnx_file import OnnxModel, read_model, take_model
from quant.passes.builder import ORDER_ADVICE, Builder
from quant.passes.element_order import LARGEST_MAP, View, is_complete
from quant.passes.fold_scale import fold_scales
from quant.passes.fuse_activation import fuse_activations, hoist_activations
from quant.passes.host_tail import host_tail
from quant.passes.interpreter import Interpreter, NodeRecord
from quant.passes.remove_unused import remove_unused
from quant.refusal import ModelError, Refusal, RefusedError

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

__all__ = ["Import", "ModelError", "import_model", "import_verbosely", "import_with_aliases"]


@dataclass(frozen=True, eq=False)
class Import:
    """What became of a model.

    Attributes
    ----------
    graph : Graph or None
        The network; None if a node was refused.
    nodes : list of Node
        The nodes of the graph, or those that could be made.
    shapes : dict
        (C, H, W) of every tensor that these nodes read or write.
    aliases : dict
        ONNX tensors that hold the elements of a graph tensor, perhaps in another order, with its name.
    records : list of NodeRecord
        What became of each ONNX node, in the model's order.
    origin : dict
        For each graph node the ONNX node that it stands for.
    input_shape : Shape
        The input as (C, H, W).
    input_layout : str
        ``"NCHW"`` or ``"NHWC"``.
    """

    name: str
    graph: Graph | None
    nodes: list[Node]
    shapes: dict[str, Shape]
    aliases: dict[str, str]
    records: list[NodeRecord]
    origin: dict[str, str]
    input_shape: Shape
    input_layout: str

    @property
    def refusals(self) -> list[Refusal]:
        """Every node that is refused."""
        return [record.refusal for record in self.records if record.refusal is not None]


def _input_shapes(model: OnnxModel, given: Shape | None,
                  channels_last: bool) -> tuple[Shape, tuple[int, ...]]:
    """The input as (C, H, W), and in the model with a batch of one."""
    dimensions = list(model.dimensions)
    rank = len(dimensions)
    if not 1 <= rank <= 4 or (channels_last and rank < 3):
        raise ModelError(f"{model.name}: its input {model.input} has {rank} dimensions; "
                         "one image [N, C, H, W] or one vector [N, K] is supported")
    if rank in (2, 4) or (rank == 3 and dimensions[0] is None):
        dimensions[0] = 1
    # where channels, rows and columns are in the model's input
    if rank == 4:
        places = (3, 1, 2) if channels_last else (1, 2, 3)
    elif rank == 3:
        places = (2, 0, 1) if channels_last else (0, 1, 2)
    else:
        places = (rank - 1,)
    if given is not None:
        wanted = given if len(places) == 3 else (math.prod(given),)
        for place, size in zip(places, wanted, strict=True):
            if dimensions[place] not in (None, size):
                raise ModelError(f"{model.name}: its input {model.input} is {_text(model.dimensions)}; "
                                 f"the input shape {','.join(map(str, given))} (C,H,W) does not fit")
            dimensions[place] = size
    if any(dimension is None for dimension in dimensions):
        raise ModelError(f"{model.name}: its input {model.input} has the unknown shape "
                         f"{_text(model.dimensions)}; give it with --input-shape C,H,W")
    sizes = tuple(int(dimension or 0) for dimension in dimensions)
    if math.prod(sizes) > LARGEST_MAP:
        raise ModelError(f"{model.name}: its input {model.input} is {_text(model.dimensions)}, more than "
                         f"{LARGEST_MAP} values; give the model a smaller input")
    if len(places) == 1:
        return (sizes[places[0]], 1, 1), sizes
    return (sizes[places[0]], sizes[places[1]], sizes[places[2]]), sizes


def _text(dimensions: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("?" if dimension is None else str(dimension) for dimension in dimensions) + "]"


def _attempt(model: OnnxModel, boundaries: AbstractSet[str], distinct: AbstractSet[str],
             given: Shape | None, channels_last: bool, formats: bool) -> Import:
    shape, onnx_shape = _input_shapes(model, given, channels_last)
    end, tail = host_tail(list(model.proto.graph.node), model.output)
    builder = Builder(protected=set(boundaries))
    batch = model.dimensions[0] if len(onnx_shape) in (2, 4) else None
    interpreter = Interpreter(model, builder, boundaries, distinct, formats, batch or 1)
    source = builder.input(model.input, shape, onnx_shape, channels_last)
    values = interpreter.run(source, end, tail)
    host = tuple(node.op_type for node in tail if node.op_type in ("Softmax", "LogSoftmax", "ArgMax"))
    result = values.get(end)
    output, output_shape = "", ()
    if not interpreter.refused:
        try:
            output, output_shape, transposed = _result(builder, result, end)
            host = (*transposed, *host)
        except RefusedError as error:
            interpreter.refuse_last(end, error)
    if output:
        builder.protected.add(output)
    nodes = fold_scales(builder.nodes, builder.protected)
    nodes = fuse_activations(nodes, builder.shapes, builder.protected)
    nodes = hoist_activations(nodes, builder.shapes, builder.protected, builder.tensor_name)
    shapes = builder.shapes
    layout = "NHWC" if channels_last else "NCHW"
    graph = None
    aliases = builder.aliases
    if not interpreter.refused:
        nodes, shapes = remove_unused(nodes, shapes, model.input, output)
        if not nodes:
            raise ModelError(f"{model.name}: nothing in it is left to compute; give a network with layers")
        if end == model.output and end not in shapes and not boundaries:
            nodes, shapes = _renamed(nodes, shapes, output, end)
            aliases = {name: end if tensor == output else tensor for name, tensor in aliases.items()
                       if name != end}
            output = end
        graph = Graph(model.name, nodes, shapes, model.input, output, output_shape, layout, host)
    aliases = {name: tensor for name, tensor in aliases.items() if tensor in shapes}
    records = interpreter.finish(nodes, shapes)
    return Import(model.name, graph, nodes, shapes, aliases, records, builder.origin, shape, layout)


def _renamed(nodes: list[Node], shapes: dict[str, Shape], old: str,
             new: str) -> tuple[list[Node], dict[str, Shape]]:
    """The nodes and shapes with one tensor called otherwise."""
    def name(tensor: str) -> str:
        return new if tensor == old else tensor
    return ([replace(node, output=name(node.output), inputs=tuple(name(tensor) for tensor in node.inputs))
             for node in nodes], {name(tensor): shape for tensor, shape in shapes.items()})


def _result(builder: Builder, value: Any, end: str) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    """The graph's output tensor, its shape in the model, and a Transpose for the host or nothing."""
    if not isinstance(value, View):
        raise RefusedError("the output does not depend on the input", "export the network again")
    view = builder.settled(value)
    index = view.index[0] if view.index.ndim > 1 and view.index.shape[0] == 1 else view.index
    transposed: tuple[str, ...] = ()
    if index.ndim == 3 and not np.array_equal(index.reshape(-1), np.arange(index.size)):
        index, transposed = index.transpose(2, 0, 1), ("Transpose",)
    if not np.array_equal(index.reshape(-1), np.arange(index.size)) and view.index.ndim == 4:
        view = builder.in_order(view)
        index, transposed = view.index[0], ()
    if not np.array_equal(index.reshape(-1), np.arange(index.size)):
        raise RefusedError(f"the elements of the output {end} are in an order that no layer can write",
                           "remove the Transpose or Reshape at the end")
    if value.name != view.tensor and is_complete(value.index, view.index.size):
        builder.aliases[value.name] = view.tensor
    return view.tensor, index.shape, transposed


def import_verbosely(source: str | Path | ModelProto, *, boundaries: AbstractSet[str] = frozenset(),
                     distinct: AbstractSet[str] = frozenset(), input_shape: Shape | None = None,
                     formats: bool = False, input_layout: str | None = None) -> Import:
    """Import a model and say what became of each node; refused nodes do not raise.

    Parameters
    ----------
    source : path or ModelProto
    boundaries : set of str
        Tensors that stay tensors of the graph: no node is fused across them.
    distinct : set of str
        Those boundaries that must be tensors of their own even if they only rearrange another one
        (because they have another format): a Select computes them.
    input_shape : Shape, optional
        (C, H, W) for a model that leaves its input's shape open.
    formats : bool
        Look through QuantizeLinear and DequantizeLinear instead of refusing them.
    input_layout : str, optional
        ``"NCHW"`` or ``"NHWC"`` if it is known; else it is found out.

    Raises
    ------
    ModelError
        If the model as a whole cannot be imported: unreadable, of unknown shape, several inputs.
    """
    model = read_model(source) if isinstance(source, str | Path) else take_model(
        source, source.graph.name or "model", source.graph.name or "model")
    with blame_damage(model.proto, model.name):
        return _best_attempt(model, boundaries, distinct, input_shape, formats, input_layout)


def _best_attempt(model: OnnxModel, boundaries: AbstractSet[str], distinct: AbstractSet[str],
                  input_shape: Shape | None, formats: bool, input_layout: str | None) -> Import:
    """The import with channels first or last, whichever refuses nothing, or less."""
    orders = [False]
    if len(model.dimensions) >= 3:
        first, last = model.dimensions[-3], model.dimensions[-1]
        orders = [True, False] if last in (1, 3, 4) and first not in (1, 3, 4) else [False, True]
    if input_layout is not None and len(model.dimensions) >= 3:
        orders = [input_layout == "NHWC"]
    attempts: list[Import] = []
    failure: ModelError | None = None
    for channels_last in orders:
        try:
            attempt = _attempt(model, boundaries, distinct, input_shape, channels_last, formats)
        except ModelError as error:
            failure = failure or error
            continue
        if attempt.graph is not None and "Transpose" not in attempt.graph.host_operations:
            return attempt
        attempts.append(attempt)
    if not attempts:
        assert failure is not None
        raise failure
    return min(attempts, key=lambda attempt: (
        len(attempt.refusals), sum(refusal.advice == ORDER_ADVICE for refusal in attempt.refusals)))


def import_with_aliases(source: str | Path | ModelProto, *, boundaries: AbstractSet[str] = frozenset(),
                        distinct: AbstractSet[str] = frozenset(),
                        input_shape: Shape | None = None) -> tuple[Graph, dict[str, str]]:
    """The graph of a model, and the ONNX tensors that only rearrange one of its tensors.

    A tensor of ``boundaries`` is afterwards a tensor of the graph or in the second result, which
    names the graph tensor whose elements it holds (perhaps in another order, perhaps with zeros
    around them).

    Raises
    ------
    ModelError
        If the model cannot be imported; every refused node is named.
    """
    result = import_verbosely(source, boundaries=boundaries, distinct=distinct, input_shape=input_shape)
    refusals = result.refusals
    if result.graph is None or refusals:
        lines = [str(refusal) for refusal in refusals]
        if len(lines) == 1:
            raise ModelError(f"{result.name}: {lines[0]}", refusals)
        raise ModelError(f"{result.name}: {len(lines)} nodes cannot be imported:\n  " + "\n  ".join(lines),
                         refusals)
    return result.graph, result.aliases


def import_model(source: str | Path | ModelProto | torch.nn.Module, *,
                 boundaries: AbstractSet[str] = frozenset(), input_shape: Shape | None = None) -> Graph:
    """The graph of an ONNX file, an ONNX model in memory or a torch module.

    Parameters
    ----------
    source : path, ModelProto or torch.nn.Module
        A module needs ``input_shape``.
    boundaries : set of str
        Tensors that stay tensors of the graph (or rearrangements of one, see `import_with_aliases`).
    input_shape : Shape, optional
        (C, H, W) for a model that leaves its input's shape open.

    Raises
    ------
    ModelError
        If the model cannot be imported; every refused node is named.
    """
    from onnx import ModelProto
    if isinstance(source, str | Path | ModelProto):
        return import_with_aliases(source, boundaries=boundaries, input_shape=input_shape)[0]
    from quant.torch_import import import_module
    if input_shape is None:
        raise ModelError(f"{type(source).__name__}: a torch module has no input shape; "
                         "give input_shape=(C, H, W)")
    return import_module(source, input_shape)
