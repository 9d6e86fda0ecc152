"""Where tensors live: which share a storage because a Concat needs no copy, which are never stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from compiler.operation import Operation, Storage, View
from hw.isa import NARROW_BYTES
from hw.machine import Machine
from quant.fixed_model import FixedModel
from quant.graph import Add, Concat, Graph, Node

__all__ = ["MEMORY_ALIGNMENT", "fusable_additions", "narrowed", "place_tensors"]

#: Feature maps and instructions start at multiples of this many bytes.
MEMORY_ALIGNMENT = 64


def fusable_additions(graph: Graph) -> dict[str, list[Node]]:
    """For each Add (by name): the nodes that could add the other operand on the way out.

    Such a node's only reader is the Add, so that it can run at the Add's place, when the other operand
    is in memory; later nodes come first.  A node that is a sum or a concatenation itself cannot.
    """
    order = {node.name: number for number, node in enumerate(graph.nodes)}
    found = {}
    for add in graph.nodes:
        if not isinstance(add, Add) or add.inputs[0] == add.inputs[1]:
            continue
        candidates = []
        for tensor in add.inputs:
            node = graph.producer(tensor)
            if (
                node is not None
                and not isinstance(node, Add | Concat)
                and tensor != graph.output
                and len(graph.consumers(tensor)) == 1
            ):
                candidates.append(node)
        found[add.name] = sorted(candidates, key=lambda node: -order[node.name])
    return found


def place_tensors(model: FixedModel, machine: Machine, hidden: set[str]) -> dict[str, View]:
    """A view for every tensor that is not ``hidden`` (fused away).

    An input of a Concat lives right in the Concat's storage where its integers are the same there:
    equal fractional length, nothing that the Concat would clip, whole planes, aligned memory.
    """
    graph, lanes = model.graph, machine.output_lanes
    views: dict[str, View] = {}

    def view(tensor: str) -> View:
        if tensor not in views:
            channels, rows, columns = graph.shapes[tensor]
            planes = -(-channels // lanes)
            views[tensor] = View(
                Storage(tensor, planes, rows, columns), 0, planes, model.formats[tensor].signed
            )
        return views[tensor]

    for node in reversed(graph.nodes):  # outer concatenations first: inner ones live in them
        if not isinstance(node, Concat):
            continue
        whole = view(node.output)
        low, high = model.bounds(node)
        plane_bytes = whole.storage.rows * whole.storage.columns * lanes
        offset = 0
        for number, tensor in enumerate(node.inputs):
            channels = graph.shapes[tensor][0]
            least, most = model.tensor_bounds(tensor)
            plane = whole.first_plane + offset // lanes
            if (
                tensor not in views
                and offset % lanes == 0
                and (channels % lanes == 0 or number == len(node.inputs) - 1)
                and model.formats[tensor].fl == model.formats[node.output].fl
                and low <= least
                and most <= high
                and plane * plane_bytes % MEMORY_ALIGNMENT == 0
            ):
                views[tensor] = View(
                    whole.storage, plane, -(-channels // lanes), model.formats[tensor].signed
                )
            offset += channels
    for tensor in graph.shapes:
        if tensor not in hidden:
            view(tensor)
    return views


def narrowed(
    image: View, channels: int, views: Collection[View], operations: Iterable[Operation], machine: Machine
) -> Storage | None:
    """The storage of the network's input with the few bytes of its ``channels`` for each pixel; None where it
    must keep whole words: because of its channels, because its rows are no whole beats, because another
    tensor lives there, or because it is written or added by an operation.

    Parameters
    ----------
    image : View
    channels : int
    views : collection of View
        Those of all tensors, ``image`` included.
    operations : iterable of Operation
    machine : Machine
    """
    storage, beat_pixels = image.storage, machine.bus_bytes // NARROW_BYTES
    if (
        channels > NARROW_BYTES
        or machine.word_bytes <= NARROW_BYTES
        or storage.columns % beat_pixels
        or sum(view.storage == storage for view in views) > 1
    ):
        return None
    for operation in operations:
        residual = operation.residual
        if operation.destination.storage == storage or (residual and residual.view.storage == storage):
            return None
    return replace(storage, beat_pixels=beat_pixels)
