"""One convolution of a graph replaced by two, or by three: the rest of the graph stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quant.graph import Activation, Convolution, Graph, Node, Shape
from quant.low_rank.projection import Projection
from quant.low_rank.spatial import SpatialSplit

__all__ = ["Chain", "factored", "replace_layer", "segment", "split_nodes"]


@dataclass(frozen=True, eq=False)
class Chain:
    """Convolutions one behind the other, and the shapes of the tensors between them.

    The last one has the name, the output and the activation of the layer that they replace.
    """

    nodes: tuple[Convolution, ...]
    shapes: Mapping[str, Shape]


def _between(graph: Graph, node: Convolution, what: str) -> str:
    """A name for a new node and its tensor, after the layer's own."""
    taken = {each.name for each in graph.nodes} | set(graph.shapes)
    name = f"{node.name}/{what}"
    while name in taken:
        name += "_"
    return name


def split_nodes(graph: Graph, node: Convolution, split: SpatialSplit | None) -> Chain:
    """The layer as k x 1 and 1 x k; as itself without a split."""
    if split is None:
        return Chain((node,), {})
    name, middle = _between(graph, node, "vertical"), len(split.vertical)
    top, left, bottom, right = node.pads
    vertical = replace(
        node,
        name=name,
        output=name,
        activation=Activation(),
        weight=split.vertical,
        bias=np.zeros(middle, np.float32),
        stride=(node.stride[0], 1),
        pads=(top, 0, bottom, 0),
        dilation=(node.dilation[0], 1),
    )
    horizontal = replace(
        node,
        inputs=(name,),
        weight=split.horizontal,
        stride=(1, node.stride[1]),
        pads=(0, left, 0, right),
        dilation=(1, node.dilation[1]),
    )
    rows, columns = graph.shapes[node.output][1], graph.shapes[node.inputs[0]][2]
    return Chain((vertical, horizontal), {name: (middle, rows, columns)})


def factored(graph: Graph, chain: Chain, projection: Projection, *, shapes_only: bool = False) -> Chain:
    """The last convolution of a chain as d' filters without bias, and a 1x1 one with bias and activation.

    With ``shapes_only`` the weights are zeros: a cost needs no more.
    """
    node = chain.nodes[-1]
    name = _between(graph, node, "low")
    if shapes_only:
        weight = np.broadcast_to(np.float32(0), (projection.rank, node.weight[0].size))
    else:
        weight = projection.reduce @ node.weight.reshape(len(node.weight), -1)
    bias = projection.expand @ (projection.reduce @ node.bias) + projection.offset
    low = replace(
        node,
        name=name,
        output=name,
        activation=Activation(),
        weight=weight.reshape(-1, *node.weight.shape[1:]).astype(np.float32, copy=False),
        bias=np.zeros(projection.rank, np.float32),
    )
    last = Convolution(
        name=node.name,
        inputs=(name,),
        output=node.output,
        activation=node.activation,
        weight=projection.expand[:, :, None, None].astype(np.float32, copy=False),
        bias=bias.astype(np.float32),
    )
    shape = (projection.rank, *graph.shapes[node.output][1:])
    return Chain((*chain.nodes[:-1], low, last), {**chain.shapes, name: shape})


def replace_layer(graph: Graph, chain: Chain) -> Graph:
    """The graph with a chain in place of the layer whose name its last convolution has."""
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes += chain.nodes if node.name == chain.nodes[-1].name else [node]
    return replace(graph, nodes=nodes, shapes={**graph.shapes, **chain.shapes}, _producers={})


def segment(graph: Graph, nodes: Sequence[Node], shapes: Mapping[str, Shape]) -> Graph:
    """Nodes one behind the other as a network of their own; ``shapes`` has those between them."""
    source, output = nodes[0].inputs[0], nodes[-1].output
    ends = {source: graph.shapes[source], output: graph.shapes[output]}
    return Graph(graph.name, list(nodes), {**shapes, **ends}, source, output, ends[output])
