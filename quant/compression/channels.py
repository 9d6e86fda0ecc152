"""Structured pruning: whole filters go, and with them the input channels of every reader.

What is kept of each tensor's channels is followed from the input to the output.  Fully connected layers
have kernels over the whole map, so that flattening needs no care of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant.compression.error import CompressionError
from quant.compression.layer_numbers import layers_of
from quant.graph import AveragePool, Concat, Convolution, Graph, MaxPool, Node, Select

__all__ = ["NORMS", "fixed_channels", "largest_filters", "shrink"]

#: Norms of a filter's weights to order filters by.
NORMS = ("l1", "l2")


def fixed_channels(graph: Graph) -> dict[str, str]:
    """Layers whose filters cannot be removed, each with the reason."""
    found = {}
    for name, node in layers_of(graph).items():
        if _is_depthwise(node):
            found[name] = "it is depthwise: its channels are those of the layer before it"
        elif (reason := _obstacle(node.output, graph)) is not None:
            found[name] = reason
    return found


def _is_depthwise(node: Convolution) -> bool:
    return node.groups > 1 and node.weight.shape[1] == 1


def _obstacle(tensor: str, graph: Graph) -> str | None:
    """Why the channels of a tensor must stay; None if they need not."""
    if tensor == graph.output:
        return "it computes the network's output"
    for node in graph.consumers(tensor):
        if isinstance(node, Convolution) and node.groups == 1:
            continue
        if (
            isinstance(node, (MaxPool, AveragePool, Concat))
            or (isinstance(node, Convolution) and _is_depthwise(node))
            or (isinstance(node, Select) and _keeps_channels(node, graph))
        ):
            reason = _obstacle(node.output, graph)
            if reason is not None:
                return reason
        elif isinstance(node, Convolution):
            return f"{node.name} reads its channels in groups"
        elif isinstance(node, Select):
            return f"{node.name} selects or adds channels"
        else:
            return f"its channels are tied to others by the sum {node.name}"
    return None


def _keeps_channels(node: Select, graph: Graph) -> bool:
    channels = graph.shapes[node.inputs[0]][0]
    return (node.start[0], node.step[0], node.size[0]) == (0, 1, channels) and not any(node.pad_channels)


def largest_filters(node: Convolution, share: float, norm: str = "l2") -> NDArray[np.int64]:
    """The share of filters with the largest norms, by index in ascending order; at least one.

    Raises
    ------
    CompressionError
        If the share leaves none, or there is no such norm.
    """
    flat = node.weight.reshape(len(node.weight), -1)
    if norm not in NORMS:
        raise CompressionError(f"{norm!r} is no norm; there are {', '.join(NORMS)}")
    sizes = np.abs(flat).sum(1) if norm == "l1" else np.sqrt(np.square(flat.astype(np.float64)).sum(1))
    count = round(share * len(flat))
    if not count:
        raise CompressionError(
            f"{node.name}: a share of {share:g} of its {len(flat)} filters leaves none; keep more of it"
        )
    return np.sort(np.argsort(-sizes, kind="stable")[:count])


def shrink(graph: Graph, filters: Mapping[str, NDArray[np.int64]]) -> Graph:
    """The graph with only these filters of the layers named; the others keep all of theirs.

    Raises
    ------
    CompressionError
        If a layer's filters cannot be removed, see `fixed_channels`.
    """
    fixed = fixed_channels(graph)
    for name in filters:
        if name in fixed:
            raise CompressionError(f"{name}: its filters cannot be removed, because {fixed[name]}")
    kept = {graph.input: np.arange(graph.shapes[graph.input][0])}
    nodes: list[Node] = []
    for node in graph.nodes:
        before = [kept[name] for name in node.inputs]
        after = before[0]
        if isinstance(node, Convolution):
            node, after = _shrunk(node, before[0], filters.get(node.name))
        elif isinstance(node, Concat):
            offsets = np.cumsum([0, *(graph.shapes[name][0] for name in node.inputs)])
            after = np.concatenate([own + offset for own, offset in zip(before, offsets)])
        elif isinstance(node, Select):
            if _keeps_channels(node, graph):
                node = replace(node, size=(len(after), *node.size[1:]))
            else:  # nothing of its input is removed
                after = np.arange(graph.shapes[node.output][0])
        kept[node.output] = after
        nodes.append(node)
    shapes = {name: (len(kept[name]), *shape[1:]) for name, shape in graph.shapes.items()}
    return replace(graph, nodes=nodes, shapes=shapes, _producers={})


def _shrunk(
    node: Convolution, inputs: NDArray[np.int64], filters: NDArray[np.int64] | None
) -> tuple[Convolution, NDArray[np.int64]]:
    """A layer with the input channels and filters that are kept, and its output's channels kept."""
    outputs = np.arange(len(node.weight)) if filters is None else filters
    weight, groups = node.weight, node.groups
    if groups == 1:
        weight = weight[:, inputs]
    elif _is_depthwise(node):
        each = len(node.weight) // groups
        outputs = (inputs[:, None] * each + np.arange(each)).reshape(-1)
        groups = len(inputs)
    shrunk = replace(
        node, weight=np.ascontiguousarray(weight[outputs]), bias=node.bias[outputs], groups=groups
    )
    return shrunk, outputs
