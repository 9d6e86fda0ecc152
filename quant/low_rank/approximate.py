"""A network with layers of low rank in place of those that get cheaper by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.compression.error import CompressionError
from quant.compression.layer_numbers import kind_of, layers_of
from quant.graph import Convolution, Graph
from quant.low_rank.costs import CostModel, RankCosts, full_rank
from quant.low_rank.projection import Matrix, Projection
from quant.low_rank.rank_selection import RankChoices, select_ranks
from quant.low_rank.reconstruction import ReducedRankRegression, non_linear, residual, response_spectrum
from quant.low_rank.responses import Responses
from quant.low_rank.rewrite import Chain, factored, replace_layer, split_nodes
from quant.low_rank.spatial import spatial_split
from quant.low_rank.svd import weight_projection, weight_spectrum

__all__ = ["Approximation", "LowRankLayer", "Plan", "approximate", "plan_layers"]

@dataclass(frozen=True, eq=False)
class Plan:
    """What the layers of a network can be.

    Attributes
    ----------
    choices : dict
        By layer; only of those that can get cheaper.
    left : dict
        The other layers, and why they are left alone.
    costs : dict
        What all of these layers cost as they are.
    middle : dict
        Filters between the two kernels of the layers that get the 3-d form.
    samples : dict
        Responses float32 (samples, filters) of the original network, of layers that need them.
    methods : dict
        Of each layer, one of `quant.low_rank.projection.METHODS`.
    """

    choices: Mapping[str, RankChoices]
    left: Mapping[str, str]
    costs: Mapping[str, float]
    middle: Mapping[str, int]
    samples: Mapping[str, NDArray[np.float32]]
    methods: Mapping[str, str]

    def ranks_for(self, speedup: float) -> dict[str, int | None]:
        """Ranks with which the layers together cost so many times less; errors as `select_ranks`."""
        fixed = sum(self.costs[name] for name in self.left)
        return select_ranks(self.choices, sum(self.costs.values()) / speedup, fixed)


def plan_layers(
    graph: Graph,
    names: Iterable[str],
    costs: CostModel,
    responses: Responses | None,
    methods: Mapping[str, str],
    middle: Mapping[str, int] | None = None,
    progress: Callable[[int], object] = lambda images: None,
) -> Plan:
    """Find energies and costs of layers at all ranks.

    Parameters
    ----------
    names : iterable of str
        The layers to look at.
    costs : CostModel
    responses : Responses or None
        None is enough if all methods are ``"svd"``.
    methods : mapping
        By ``"conv"`` and ``"fc"``: one of `quant.low_rank.projection.METHODS`.
    middle : mapping or None
        As in `Plan`.

    Raises
    ------
    CompressionError
        If there are fewer responses than filters.
    """
    layers, by_rank, middle = layers_of(graph), RankCosts(costs), dict(middle or {})
    left, found, whole = {}, {}, {}
    for name in names:
        node = layers[name]
        whole[name] = by_rank.whole(graph, node)
        reason = _reason(node, graph, by_rank, middle.get(name))
        if reason:
            left[name] = reason
        else:
            found[name] = methods[kind_of(node, graph)]
    wanted = {name: Chain((layers[name],), {}) for name, method in found.items() if method != "svd"}
    samples: dict[str, NDArray[np.float32]] = {}
    if wanted:
        if responses is None:
            raise CompressionError("these methods need images to see responses of layers; give --data")
        samples = responses.sample(graph, wanted, progress)
    choices = {}
    for name in found:
        node, values = layers[name], samples.get(name)
        if values is not None and len(values) <= len(node.weight):
            raise CompressionError(
                f"{name}: {len(values)} responses are too few for {len(node.weight)} filters; give "
                "more images or --positions"
            )
        spectrum = weight_spectrum(node) if values is None else response_spectrum(_exact(values))
        ranks = by_rank.by_rank(graph, node, middle.get(name))
        choices[name] = RankChoices.of(spectrum, ranks, whole[name])
    middle = {name: count for name, count in middle.items() if name in found}
    return Plan(choices, left, whole, middle, samples, found)


def _reason(node: Convolution, graph: Graph, costs: RankCosts, middle: int | None) -> str:
    """Why a layer cannot be approximated; empty if it can."""
    if node.groups != 1:
        return "it is depthwise" if node.weight.shape[1] == 1 else f"its filters are in {node.groups} groups"
    if full_rank(node, middle) < 2:
        return "its rank is 1 already"
    if costs.by_rank(graph, node, middle).min() >= costs.whole(graph, node):
        return f"two layers in its place cost more {costs.model.unit} at every rank"
    return ""


@dataclass(frozen=True)
class LowRankLayer:
    """One layer that was approximated.

    Attributes
    ----------
    name, kind, method : str
    kernel : tuple
        Filters, inputs, rows, columns of the layer as it was.
    rank, full : int
    middle : int or None
        Filters between the two kernels of the 3-d form.
    energy : float
        Share of the responses' variance, or of the squared weights with ``"svd"``, that the rank holds.
    error : float or None
        sum |r(y) - r(M y^ + b)|^2 over sum |r(y)|^2, y^ from the approximated layers before; None for
        layers without responses.
    cost : (float, float)
        Of the layer as it was, and now.
    parts : tuple of str
        Names of the nodes in its place; only the last one has a bias.
    """

    name: str
    kind: str
    method: str
    kernel: tuple[int, ...]
    rank: int
    full: int
    middle: int | None
    energy: float
    error: float | None
    cost: tuple[float, float]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Approximation:
    """The graph, and its layers that are of low rank, in execution order."""

    graph: Graph
    layers: tuple[LowRankLayer, ...]


def approximate(
    graph: Graph,
    plan: Plan,
    ranks: Mapping[str, int | None],
    responses: Responses | None,
    progress: Callable[[str, int], object] = lambda name, images: None,
) -> Approximation:
    """Replace layers by those of low rank, one after the other from the input on.

    The asymmetric methods see what the layers before have become (TPAMI 2016, section 3.3).

    Parameters
    ----------
    ranks : mapping
        None, or no entry: the layer stays.
    responses : Responses or None
        Those that ``plan`` was made with.
    progress : callable
        Called with the name of a layer and how many more images have been run for it.
    """
    result, done = graph, []
    for name, node in layers_of(graph).items():
        rank = ranks.get(name)
        if rank is None:
            continue
        choices, method, middle = plan.choices[name], plan.methods[name], plan.middle.get(name)
        split = None if middle is None else spatial_split(node, middle)
        chain = split_nodes(result, node, split)
        target = given = None
        if name in plan.samples and responses is not None:
            target = _exact(plan.samples[name])
            sampled = responses.sample(
                result, {name: chain}, lambda images, name=name: progress(name, images)
            )
            given = _exact(sampled[name])
        projection = _projection(chain.nodes[-1], method, rank, target, given)
        error = None
        if target is not None and given is not None:
            error = residual(target, projection.apply(given), node.activation)
        chain = factored(result, chain, projection)
        result = replace_layer(result, chain)
        done.append(
            LowRankLayer(
                name,
                kind_of(node, graph),
                method,
                tuple(node.weight.shape),
                projection.rank,
                len(choices.costs) - 1,
                middle,
                float(choices.energy[projection.rank]),
                error,
                (choices.whole, float(choices.costs[projection.rank])),
                tuple(node.name for node in chain.nodes),
            )
        )
    return Approximation(result, tuple(done))


def _exact(responses: NDArray[np.float32]) -> Matrix:
    """In double precision: products of many are summed."""
    return responses.astype(np.float64)


def _projection(
    node: Convolution, method: str, rank: int, target: Matrix | None, given: Matrix | None
) -> Projection:
    if method == "svd" or target is None or given is None:
        return weight_projection(node, rank)
    if method == "symmetric":
        return ReducedRankRegression(target).fit(target, rank)
    if method == "linear":
        return ReducedRankRegression(given).fit(target, rank)
    return non_linear(target, given, rank, node.activation)
