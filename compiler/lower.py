"""Fixed-point model → operations: what each node becomes on the machine, and where tensors live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compiler.arithmetic import sum_settings
from compiler.error import CompileError
from compiler.lower_convolution import lower_convolution
from compiler.lower_copies import lower_concat, lower_select
from compiler.lower_pooling import averages, lower_average, lower_maximum
from compiler.lowering import Lowering
from compiler.operation import BLOCK_LIMIT, Operation, Residual, View
from compiler.placement import fusable_additions, narrowed, place_tensors
from hw.machine import Machine
from quant.fixed_model import FixedModel, accumulator_bound
from quant.graph import Add, AveragePool, Concat, Convolution, MaxPool, Node, Select

__all__ = ["Lowered", "LoweredLayer", "lower"]

_INT32 = 1 << 31


@dataclass(frozen=True)
class LoweredLayer:
    """One numbered layer: its operations and the tensor that is in memory after them."""

    name: str
    kind: str
    tensor: str
    operations: tuple[Operation, ...]

    @property
    def macs(self) -> int:
        """Multiplications that the network asks for."""
        return sum(operation.macs for operation in self.operations)


@dataclass(frozen=True)
class Lowered:
    """The whole network: layers in execution order and each tensor's place (fused ones have none)."""

    layers: list[LoweredLayer]
    views: dict[str, View]


def lower(model: FixedModel, machine: Machine) -> Lowered:
    """Translate a model for a machine.

    Raises
    ------
    CompileError
        Lists everything that the machine cannot do: formats, sums past 32 bits, sizes past a field.
    """
    graph = model.graph
    problems = list(_format_problems(model))
    if not graph.nodes:
        problems.append(f"{graph.name}: the network has no nodes; there is nothing to compile")
    if problems:
        raise CompileError.from_problems(problems)
    lowering = Lowering(model, machine)
    fused: dict[str, Node] = {}
    for add, candidates in fusable_additions(graph).items():
        for node in candidates:
            if not isinstance(node, AveragePool) or all(
                part.average is None for part in averages(lowering, node)
            ):
                fused[add] = node
                break
    deferred = {node.name for node in fused.values()}
    hidden = {node.output for node in fused.values()}
    views = place_tensors(model, machine, hidden)
    layers = []
    for node in graph.nodes:
        if node.name in deferred:
            continue
        try:
            layer = _layer(lowering, node, views, fused.get(node.name))
        except CompileError as error:
            problems.append(str(error))
            continue
        problems += _too_many_taps(layer.operations, machine)
        if layer.operations:
            layers.append(layer)
    if problems:
        raise CompileError.from_problems(problems)
    return _with_narrow_input(Lowered(layers, views), model, machine)


def _with_narrow_input(lowered: Lowered, model: FixedModel, machine: Machine) -> Lowered:
    """The same, with the input's few channels in as few bytes where the machine can read them so."""
    name, views = model.graph.input, lowered.views
    operations = [operation for layer in lowered.layers for operation in layer.operations]
    image, channels = views[name], model.graph.shapes[name][0]
    storage = narrowed(image, channels, views.values(), operations, machine)
    if storage is None:
        return lowered

    def changed(operation: Operation) -> Operation:
        source = operation.source
        if source.storage != image.storage:
            return operation
        return replace(operation, source=replace(source, storage=storage))

    layers = [replace(layer, operations=tuple(map(changed, layer.operations))) for layer in lowered.layers]
    return Lowered(layers, {**views, name: replace(image, storage=storage)})


def _too_many_taps(operations: tuple[Operation, ...], machine: Machine) -> Iterator[str]:
    for operation in operations:
        (rows, columns), most = operation.kernel, machine.input_lanes - 1
        if operation.mode.reads_taps and operation.passes(machine, 0, columns + most) > BLOCK_LIMIT:
            yield (
                f"{operation.name}: a kernel of {rows}x{columns} taps is too large for {machine.input_lanes} "
                "input lanes; pool in two steps"
            )


def _format_problems(model: FixedModel) -> Iterator[str]:
    for tensor in model.graph.shapes:
        form = model.formats[tensor]
        if form.bits > 8:
            yield f"{tensor}: activations of {form.bits} bits, the machine has 8; calibrate with fewer"
    for node in model.graph.nodes:
        if not isinstance(node, Convolution):
            continue
        weights = model.weights[node.name]
        if weights.bits > 8 or weights.values.min(initial=0) < -128 or weights.values.max(initial=0) > 127:
            yield f"{node.name}: weights of {weights.bits} bits, the machine has 8; calibrate with fewer"
        if (bound := accumulator_bound(model, node)) >= _INT32:
            yield (
                f"{node.name}: sums can reach {bound}, past the 32-bit accumulator; use fewer bits for "
                "its weights or its input"
            )


def _layer(
    lowering: Lowering, node: Node, views: dict[str, View], producer: Node | None
) -> LoweredLayer:
    """A node's layer; ``producer`` is the node of an operand that an Add takes along."""
    if not isinstance(node, Add):
        kind, operations = _operations(lowering, node, views, views[node.output])
        return LoweredLayer(node.name, kind, node.output, tuple(operations))
    if producer is None:
        own, other = node.inputs
        view = views[own]
        operations = [lowering.channelwise(node, "add", view, views[node.output], -128, 255)]
        name, kind = node.name, "add"
    else:
        own = producer.output
        other = next(tensor for tensor in node.inputs if tensor != own)
        kind, operations = _operations(lowering, producer, views, views[node.output])
        name, kind = producer.name, f"{kind} + add"
    fl_own, fl_other, fl_out = (lowering.model.formats[tensor].fl for tensor in (own, other, node.output))
    settings = sum_settings(fl_own, fl_other, fl_out)
    if settings is None:
        raise CompileError(
            f"{node.name}: its operands' fractional lengths {fl_own} and {fl_other} are "
            "more than 15 apart; choose closer ones"
        )
    residual = Residual(views[other], *settings, *lowering.bounds(node))
    return LoweredLayer(
        name, kind, node.output, tuple(replace(operation, residual=residual) for operation in operations)
    )


def _operations(
    lowering: Lowering, node: Node, views: dict[str, View], destination: View
) -> tuple[str, list[Operation]]:
    match node:
        case Convolution():
            return lower_convolution(lowering, node, views[node.inputs[0]], destination)
        case MaxPool():
            return "maximum pooling", [lower_maximum(lowering, node, views[node.inputs[0]], destination)]
        case AveragePool():
            return "average pooling", list(lower_average(lowering, node, views[node.inputs[0]], destination))
        case Concat():
            return "concatenation", list(lower_concat(lowering, node, views, destination))
        case Select():
            return "selection", [lower_select(lowering, node, views[node.inputs[0]], destination)]
    raise CompileError(f"{node.name}: unknown node {type(node).__name__}")
