"""What a layer costs at each rank, by any model of the cost of a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.graph import Convolution, Graph
from quant.low_rank.projection import Matrix, Projection
from quant.low_rank.rewrite import factored, segment, split_nodes
from quant.low_rank.spatial import SpatialSplit

__all__ = ["MACS", "CostModel", "RankCosts", "full_rank", "mac_costs"]


@dataclass(frozen=True)
class CostModel:
    """How the cost of a network is found.

    Attributes
    ----------
    unit : str
        ``"MACs"`` or ``"cycles"``.
    costs : callable
        The cost of each node of a graph by name; only shapes matter, and weights are not looked at.
    step : int
        Ranks at whose multiples the cost is found; between two of them it is taken to be that of the higher,
        as on an array that computes so many filters at once.
    most : int
        Ranks of a layer for which it is found at most: the step grows for layers with many filters.
    """

    unit: str
    costs: Callable[[Graph], Mapping[str, float]]
    step: int = 1
    most: int = 1 << 30


def mac_costs(graph: Graph) -> dict[str, float]:
    """Multiplications of each layer with weights, for one image."""
    return {
        node.name: float(node.weight.size * math.prod(graph.shapes[node.output][1:]))
        for node in graph.nodes
        if isinstance(node, Convolution)
    }


MACS = CostModel("MACs", mac_costs)


def full_rank(node: Convolution, middle: int | None = None) -> int:
    """The rank at which nothing is lost; ``middle``: filters between the two kernels of the 3-d form."""
    filters, inputs, rows, columns = node.weight.shape
    return min(filters, inputs * rows * columns if middle is None else middle * columns)


def _zeros(*shape: int) -> Matrix:
    """Zeros that take no memory."""
    return np.broadcast_to(np.zeros((), np.float64), shape)


def _split_of(node: Convolution, middle: int | None) -> SpatialSplit | None:
    if middle is None:
        return None
    filters, inputs, rows, columns = node.weight.shape
    zeros = np.broadcast_to(np.zeros((), np.float32), (middle, inputs, rows, 1))
    return SpatialSplit(zeros, np.broadcast_to(zeros[0, 0, 0, 0], (filters, middle, 1, columns)))


class RankCosts:
    """Costs of layers as a function of their rank; layers of the same shapes are computed once."""

    def __init__(self, model: CostModel) -> None:
        self.model = model
        self._known: dict[tuple[object, ...], float] = {}

    def _cost(self, graph: Graph, node: Convolution, rank: int | None, middle: int | None) -> float:
        key = (
            *(node.weight.shape, node.stride, node.pads, node.dilation, node.groups, node.activation),
            *(graph.shapes[node.inputs[0]], rank, middle),
        )
        if key not in self._known:
            nodes, shapes = (node,), {}
            if rank is not None:
                chain = split_nodes(graph, node, _split_of(node, middle))
                filters = len(node.weight)
                # the product with these zeros would be as much work as with real numbers
                empty = Projection(_zeros(filters, rank), _zeros(rank, filters), _zeros(filters))
                chain = factored(graph, chain, empty, shapes_only=True)
                nodes, shapes = chain.nodes, dict(chain.shapes)
            self._known[key] = sum(self.model.costs(segment(graph, nodes, shapes)).values())
        return self._known[key]

    def whole(self, graph: Graph, node: Convolution) -> float:
        """The cost of a layer as it is."""
        return self._cost(graph, node, None, None)

    def by_rank(self, graph: Graph, node: Convolution, middle: int | None = None) -> NDArray[np.float64]:
        """The cost (full rank + 1,) of a layer at each rank; the first entry, rank 0, is infinite."""
        full = full_rank(node, middle)
        step = self.model.step * max(1, math.ceil(full / (self.model.step * self.model.most)))
        costs = np.full(full + 1, np.inf)
        for low in range(0, full, step):
            high = min(low + step, full)
            costs[low + 1 : high + 1] = self._cost(graph, node, high, middle)
        return costs
