"""Mixed widths found automatically: how much each layer's weights matter, then the best widths in a budget.

Each layer's weights are rounded to every width while one network of 8-bit weights is calibrated.  Then
the float network runs with one layer at a time replaced, and what that does to the output is measured:
the divergence of the softmax, or the squared error of values.  These costs are taken to add up
(`quant.budget`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from quant.answers import changed_answers, expected_loss, is_classifier, softmax_divergence
from quant.budget import WIDTHS, Budget, BudgetError, TradeOffPoint, cheapest_within, trade_off
from quant.calibrate import calibrate, choose_formats
from quant.data import Batches
from quant.fixed_model import FixedModel
from quant.fixed_output import float32_output
from quant.fixed_run import FixedRun
from quant.float_run import activate, run_float, run_node
from quant.graph import Convolution, Graph
from quant.map_formats import DataPhase
from quant.output_effect import SuffixRun
from quant.search import Search
from quant.text_table import aligned
from quant.weight_formats import real_parameters
from quant.widths import Widths

__all__ = ["MeasuredPoint", "MixedWidths", "find_widths", "trade_off_table"]

#: Images on which single layers are measured.
_SENSITIVITY_IMAGES = 48


@dataclass(frozen=True)
class MeasuredPoint:
    """A point of the trade-off whose network was calibrated and run on the calibration images.

    Attributes
    ----------
    changed : float
        Share of images with another answer than float.
    lost : float
        Accuracy that is expected to be lost, in points (`quant.answers.expected_loss`).
    """

    point: TradeOffPoint
    changed: float
    lost: float


@dataclass(frozen=True)
class MixedWidths:
    """What was found.

    Attributes
    ----------
    chosen : TradeOffPoint
    curve : tuple of TradeOffPoint
        From the widest to the narrowest weights.
    measured : tuple of MeasuredPoint
        Points that were tried for a budget in points of accuracy, in the order of their size.
    weights : dict
        Number of weights of each layer.
    costs : dict
        Cost of each layer alone at each width, a mean over the images.
    """

    chosen: TradeOffPoint
    curve: tuple[TradeOffPoint, ...]
    measured: tuple[MeasuredPoint, ...]
    weights: Mapping[str, int]
    costs: Mapping[str, Mapping[int, float]]

    def bits_per_weight(self, point: TradeOffPoint) -> float:
        """Mean width of a point's weights."""
        return sum(count * point.bits[name] for name, count in self.weights.items()) / max(
            sum(self.weights.values()), 1
        )


    def to_json(self) -> dict[str, object]:
        """The curve, what was measured on it, and the choice, as a JSON object."""
        measured = {found.point.weight_bytes: found for found in self.measured}

        def entry(point: TradeOffPoint) -> dict[str, object]:
            found = measured.get(point.weight_bytes)
            return {
                "weight_bytes": point.weight_bytes,
                "bits_per_weight": self.bits_per_weight(point),
                "cost": point.cost,
                "changed": found and found.changed,
                "lost_points": found and found.lost,
            }

        return {
            "chosen": {**entry(self.chosen), "bits": dict(self.chosen.bits)},
            "curve": [entry(point) for point in self.curve],
            "costs": {name: {str(width): cost for width, cost in row.items()}
                      for name, row in self.costs.items()},
        }


def trade_off_table(found: MixedWidths, most: int = 16) -> str:
    """The curve for people: at most so many points, evenly spread, and all that were measured or chosen."""
    measured = {entry.point.weight_bytes: entry for entry in found.measured}
    points = {point.weight_bytes: point for point in (*found.curve, found.chosen)}
    shown = {found.curve[index * (len(found.curve) - 1) // max(most - 1, 1)].weight_bytes
             for index in range(most)}
    shown |= {*measured, found.chosen.weight_bytes}
    rows = [("weight bytes", "bits a weight", "cost at output", "answers changed", "points lost", "")]
    for size in sorted(shown, reverse=True):
        point, entry = points[size], measured.get(size)
        rows.append(
            (
                f"{size:,}",
                f"{found.bits_per_weight(point):.2f}",
                f"{point.cost:.3g}",
                f"{100 * entry.changed:.1f} %" if entry else "",
                f"{entry.lost:.2f}" if entry else "",
                "<- chosen" if size == found.chosen.weight_bytes else "",
            )
        )
    title = "trade-off of weight widths (cost: what the layers do to the output, added up)"
    return "\n".join([title, *aligned(rows, left=0)])


def find_widths(
    graph: Graph,
    batches: Batches,
    budget: Budget,
    activation_bits: int | Widths | Mapping[str, int] = 8,
    *,
    search: Search | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> MixedWidths:
    """Choose the width of every layer's weights, 8, 4 or 2 bits.

    Parameters
    ----------
    batches : callable
        Gives the calibration batches, each time it is called.
    progress : callable
        Called with the name of each layer that is done; several times for each.

    Raises
    ------
    BudgetError
        If nothing meets the budget.
    CalibrationError, FormatError, WidthError
        As `quant.calibrate.calibrate`.
    """
    search = search or Search()
    weights = {node.name: node.weight.size for node in graph.nodes if isinstance(node, Convolution)}
    if not weights:
        raise BudgetError(f"{graph.name} has no weights; leave the budget out")
    if budget.kind == "points" and not is_classifier(graph):
        raise BudgetError(f"{graph.name} gives no scores of classes; give the budget in bytes or bits")
    if budget.kind != "points":
        # refused before long work
        narrowest = {name: {WIDTHS[-1]: 0.0} for name in weights}
        limit = budget.bytes_of(sum(weights.values()))
        cheapest_within(trade_off(weights, narrowest), limit, weights, narrowest)
    phase = choose_formats(
        graph, batches(), WIDTHS[0], activation_bits, search, other_bits=WIDTHS[1:], progress=progress
    )
    costs = _costs(phase, batches, progress)
    curve = trade_off(weights, costs)
    if budget.kind != "points":
        limit = budget.bytes_of(sum(weights.values()))
        chosen = cheapest_within(curve, limit, weights, costs)
        return MixedWidths(chosen, tuple(curve), (), weights, costs)

    def measure(point: TradeOffPoint) -> MeasuredPoint:
        model, _ = calibrate(
            graph, batches(), point.bits, activation_bits, search=search, progress=progress
        )
        return MeasuredPoint(point, *_lost(model, batches))

    measured = _search(curve, budget.amount, measure)
    within = [found for found in measured if found.lost <= budget.amount]
    chosen = min(within, key=lambda found: found.point.weight_bytes).point
    ordered = sorted(measured, key=lambda found: -found.point.weight_bytes)
    return MixedWidths(chosen, tuple(curve), tuple(ordered), weights, costs)


def _search(
    curve: list[TradeOffPoint], points: float, measure: Callable[[TradeOffPoint], MeasuredPoint]
) -> list[MeasuredPoint]:
    """Halve the curve until the last point within the budget is known."""
    measured = [measure(curve[0])]
    if measured[0].lost > points:
        raise BudgetError(
            f"nothing loses less than {points:g} points of accuracy: with {WIDTHS[0]} bits everywhere, "
            f"{measured[0].lost:.2g} are expected to be lost; give a larger budget or wider feature maps"
        )
    low, high = 0, len(curve)
    while high - low > 1:
        middle = (low + high) // 2
        measured.append(measure(curve[middle]))
        if measured[-1].lost <= points:
            low = middle
        else:
            high = middle
    return measured


def _costs(
    phase: DataPhase, batches: Batches, progress: Callable[[str], None]
) -> dict[str, dict[int, float]]:
    """What each layer alone does to the output at each width, a mean over some images."""
    graph, suffix, images = phase.graph, SuffixRun(phase.graph), 0
    error = softmax_divergence if is_classifier(graph) else _squared_error
    costs = {name: dict.fromkeys(WIDTHS, 0.0) for name in phase.weights}
    factors = torch.tensor(phase.gain).reshape(1, -1, 1, 1)
    for batch in batches():
        values = torch.from_numpy(batch[: _SENSITIVITY_IMAGES - images]) * factors
        with torch.no_grad():
            real = run_float(graph, values)
            for node in graph.nodes:
                if not isinstance(node, Convolution):
                    continue
                choices = {WIDTHS[0]: phase.weights[node.name], **phase.alternatives[node.name]}
                for width, weights in choices.items():
                    parameters = real_parameters(weights, phase.formats[node.inputs[0]].fl)
                    changed = run_node(
                        node, [real[node.inputs[0]]], tuple(map(torch.from_numpy, parameters))
                    )
                    output = suffix.output(real, node.output, activate(changed, node.activation))
                    costs[node.name][width] += error(real[graph.output], output)
                progress(node.name)
        images += len(values)
        if images >= _SENSITIVITY_IMAGES:
            break
    return {name: {width: cost / images for width, cost in row.items()} for name, row in costs.items()}


def _squared_error(real: torch.Tensor, fixed: torch.Tensor) -> float:
    return float((real.double() - fixed.double()).square().flatten(1).mean(1).sum())


def _lost(model: FixedModel, batches: Batches) -> tuple[float, float]:
    """Share of answers that change, and points of accuracy that are expected to be lost."""
    graph, run = model.graph, FixedRun(model)
    factors = torch.tensor(model.preparation.gain).reshape(1, -1, 1, 1)
    images, changed, lost = 0, 0, 0.0
    for batch in batches():
        values = torch.from_numpy(batch) * factors
        real = run_float(graph, values, {graph.output})[graph.output]
        fixed = float32_output(run, values)
        images += len(batch)
        changed += changed_answers(real, fixed)
        lost += expected_loss(real, fixed)
    return changed / images, 100 * lost / images
