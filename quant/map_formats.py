"""The data phase of dynamic precision (Qiu et al. 2016, section 4.2): formats of feature maps.

Layer by layer from the input, the fixed-point network runs beside the float one on the calibration
images; each feature map's fractional length is chosen with all earlier ones frozen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from quant.bias_correction import corrected_biases
from quant.fixed_model import FixedModel, FixedWeights
from quant.float_run import activate, last_uses, run_node
from quant.graph import Activation, Concat, Convolution, Graph, MaxPool, Node, Select
from quant.map_store import MapStore
from quant.number_format import FL_LIMIT, Format
from quant.weight_formats import ERROR_POWERS, fixed_weights, largest_fl_without_overflow, real_parameters

__all__ = ["CalibrationError", "DataPhase", "MapStatistics", "never_negative"]

#: Neighbours of the no-overflow fractional length that are tried; those above it clip the largest values.
_NEIGHBOURS = range(-1, 4)


class CalibrationError(ValueError):
    """A network cannot be calibrated with these images or options; the message says why."""


@dataclass
class MapStatistics:
    """What the calibration set says about one feature map.

    ``low`` and ``high`` are the float network's range; ``error`` the mean |float - fixed| of the
    chosen format, ``noise_db`` its signal-to-noise ratio (signal power over error power, in decibels).
    """

    low: float = math.inf
    high: float = -math.inf
    error: float = math.nan
    noise_db: float = math.nan


def never_negative(graph: Graph, input_never_negative: bool) -> dict[str, bool]:
    """For each tensor, whether its place in the network alone makes it never negative.

    That is so after an activation bounded by 0, and for whatever takes, averages or adds such tensors.
    """
    found = {graph.input: input_never_negative}
    for node in graph.nodes:
        inherited = not isinstance(node, Convolution) and all(found[tensor] for tensor in node.inputs)
        found[node.output] = node.activation.low >= 0.0 or inherited
    return found


@dataclass
class DataPhase:
    """Chooses the formats of all feature maps of one network.

    Parameters
    ----------
    graph : Graph
    weight_lengths : dict
        Fractional lengths (out,) of each convolution, from the weight phase.
    weight_bits, activation_bits : int
    method : str
        One of `quant.weight_formats.METHODS`.
    correct_biases : bool
        Whether biases make up for the mean error of their layer (`quant.bias_correction`).
    memory_limit : int
        Bytes of feature maps held in memory; more go to temporary files.
    progress : callable
        Called with a node's name after it is done.
    """

    graph: Graph
    weight_lengths: dict[str, NDArray[np.int64]]
    weight_bits: int
    activation_bits: int
    method: str = "greedy"
    correct_biases: bool = True
    memory_limit: int = 2 << 30
    progress: Callable[[str], None] = lambda name: None
    formats: dict[str, Format] = field(default_factory=dict, init=False)
    weights: dict[str, FixedWeights] = field(default_factory=dict, init=False)
    statistics: dict[str, MapStatistics] = field(default_factory=dict, init=False)

    def run(self, batches: Iterable[torch.Tensor]) -> None:
        """Fill in ``formats``, ``weights`` and ``statistics`` from prepared float batches (N, C, H, W)."""
        graph = self.graph
        uses = last_uses(graph)
        with MapStore(self.memory_limit) as self._store, torch.no_grad():
            for batch in batches:
                self._add(graph.input, batch, batch)
            nonnegative = never_negative(graph, self.statistics[graph.input].low >= 0.0)
            self._choose_and_quantize(graph.input, not nonnegative[graph.input])
            for index, node in enumerate(graph.nodes):
                self._run_both(node)
                if not self._waits_for_concat(node):
                    self._choose_and_quantize(node.output, not nonnegative[node.output])
                for tensor in {*node.inputs, node.output}:
                    if uses[tensor] <= index:
                        self._store.drop(f"float {tensor}")
                        self._store.drop(f"fixed {tensor}")
                self.progress(node.name)

    def _add(self, tensor: str, real: torch.Tensor, fixed: torch.Tensor) -> None:
        found = self.statistics.setdefault(tensor, MapStatistics())
        if not torch.isfinite(real).all():
            node = self.graph.producer(tensor)
            raise CalibrationError(
                f"{node.name if node else tensor}: its results are not finite on the calibration images; "
                "look at the model's weights and at how the images are prepared"
            )
        found.low, found.high = min(found.low, float(real.min())), max(found.high, float(real.max()))
        self._store.append(f"float {tensor}", real)
        self._store.append(f"fixed {tensor}", fixed)

    def _run_both(self, node: Node) -> None:
        """Results of the float network, and of the fixed-point network before its result is rounded."""
        parameters = None
        if isinstance(node, Convolution):
            self.weights[node.name] = weights = self._fixed_weights(node)
            weight, bias = real_parameters(weights, self.formats[node.inputs[0]].fl)
            parameters = torch.from_numpy(weight), torch.from_numpy(bias)
        real = zip(*(self._store.batches(f"float {tensor}") for tensor in node.inputs))
        fixed = zip(*(self._store.batches(f"fixed {tensor}") for tensor in node.inputs))
        for real_operands, fixed_operands in zip(real, fixed):
            self._add(
                node.output,
                activate(run_node(node, real_operands), node.activation),
                activate(run_node(node, fixed_operands, parameters), node.activation),
            )

    def _fixed_weights(self, node: Convolution) -> FixedWeights:
        source = node.inputs[0]
        input_fl = self.formats[source].fl
        input_range = FixedModel(self.graph, self.formats, {}).tensor_bounds(source)
        weights = fixed_weights(node, self.weight_bits, self.weight_lengths[node.name], input_fl, input_range)
        if not self.correct_biases:
            return weights
        pairs = zip(self._store.batches(f"float {source}"), self._store.batches(f"fixed {source}"))
        return corrected_biases(node, weights, pairs, input_fl, input_range)

    def _waits_for_concat(self, node: Node) -> bool:
        """Whether a tensor only exists to be concatenated: then it takes the format of the whole."""
        readers = self.graph.consumers(node.output)
        return (
            len(readers) == 1
            and isinstance(readers[0], Concat)
            and readers[0].activation == Activation()
            and node.output != self.graph.output
        )

    # choice

    def _choose_and_quantize(self, tensor: str, signed: bool) -> None:
        node = self.graph.producer(tensor)
        self.formats[tensor] = form = self._choose(tensor, node, signed)
        self._quantize(tensor, form)
        waiting = list(node.inputs) if isinstance(node, Concat) else []
        while waiting:
            operand = waiting.pop()
            if operand not in self.formats:
                self.formats[operand] = form
                if self._store.holds(f"fixed {operand}"):
                    self._quantize(operand, form)
                producer = self.graph.producer(operand)
                waiting += producer.inputs if isinstance(producer, Concat) else ()

    def _choose(self, tensor: str, node: Node | None, signed: bool) -> Format:
        if isinstance(node, (MaxPool, Select)) and self.formats[node.inputs[0]].signed >= signed:
            source = self.formats[node.inputs[0]]
            return Format(source.bits, signed, source.fl)  # nothing is lost
        found = self.statistics[tensor]
        start = largest_fl_without_overflow(found.low, found.high, self.activation_bits, signed)
        neighbours = range(1)
        if self.method != "max":
            # saturated outputs would tie, and the network's answer is their order
            neighbours = range(-1, 1) if tensor == self.graph.output else _NEIGHBOURS
        candidates = [
            Format(self.activation_bits, signed, start + step)
            for step in neighbours
            if abs(start + step) <= FL_LIMIT
        ]
        errors = self._errors(tensor, candidates)
        best = min(range(len(candidates)), key=lambda k: (errors[k], abs(candidates[k].fl - start)))
        return candidates[best]

    def _errors(self, tensor: str, candidates: list[Format]) -> list[float]:
        """Sum of |float - fixed| or its square over the calibration set in each format."""
        errors = [0.0] * len(candidates)
        if len(candidates) == 1:
            return errors
        power = ERROR_POWERS[self.method]
        for real, fixed in zip(
            self._store.batches(f"float {tensor}"), self._store.batches(f"fixed {tensor}")
        ):
            for position, form in enumerate(candidates):
                errors[position] += float(
                    _rounded(fixed, form).sub_(real).abs_().pow_(power).sum(dtype=torch.float64)
                )
        return errors

    def _quantize(self, tensor: str, form: Format) -> None:
        error = noise = signal = count = 0.0
        pairs = zip(self._store.batches(f"float {tensor}"), self._store.batches(f"fixed {tensor}"))
        for index, (real, fixed) in enumerate(pairs):
            rounded = _rounded(fixed, form)
            difference = rounded - real
            error += float(difference.abs().sum(dtype=torch.float64))
            noise += float(difference.square_().sum(dtype=torch.float64))
            signal += float(real.square().sum(dtype=torch.float64))
            count += real.numel()
            self._store.replace(f"fixed {tensor}", index, rounded)
        found = self.statistics[tensor]
        found.error = error / count
        found.noise_db = (
            math.inf if noise == 0.0 else -math.inf if signal == 0.0 else 10 * math.log10(signal / noise)
        )


def _rounded(values: torch.Tensor, form: Format) -> torch.Tensor:
    """The nearest values (half to even) of a format."""
    return values.mul(math.ldexp(1.0, form.fl)).round_().clamp_(form.low, form.high).mul_(form.scale)
