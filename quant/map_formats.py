"""The data phase of dynamic precision (Qiu et al. 2016, section 4.2): formats of feature maps.

Layer by layer from the input, the fixed-point network runs beside the float one on the calibration
images; each feature map's fractional length is chosen with all earlier ones frozen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch

from quant.answers import is_classifier, softmax_divergence
from quant.fixed_model import FixedModel, FixedWeights
from quant.float_run import activate, last_uses, run_node
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Node, Select
from quant.input_gain import choose_gain, takes_gain, with_input_gain
from quant.map_store import MapStore
from quant.number_format import FL_LIMIT, Format
from quant.search import Search
from quant.weight_choice import WeightChoice
from quant.weight_formats import ERROR_POWERS, largest_fl_without_overflow, real_parameters

__all__ = ["CalibrationError", "DataPhase", "MapStatistics", "never_negative"]

#: Neighbours of the no-overflow fractional length that are tried; those above it clip the largest values.
_NEIGHBOURS = range(-1, 4)
#: Fractional bits at most that an average has more than its input: `sim.reference` shifts no further.
_AVERAGE_SHIFT = 31
#: Bits of the exact sum of an Add, without sign and carry.
_SUM_BITS = 30


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
    weight_bits : dict
        Width of each convolution's weights, by node name.
    map_bits : dict
        Width of each feature map, by tensor.
    search : Search
    other_bits : tuple of int
        Further widths for which the weights of each layer are found; the network goes on with those above.
    memory_limit : int
        Bytes of feature maps held in memory; more go to temporary files.
    progress : callable
        Called with a node's name after it is done.
    alternatives : dict
        Weights at the ``other_bits``, by node name and width.
    gain : tuple
        Factor on the input that was chosen (`quant.input_gain`); ``graph`` takes it back.
    float_seconds : float
        Time that the float network took on the same images.
    """

    graph: Graph
    weight_bits: Mapping[str, int]
    map_bits: Mapping[str, int]
    search: Search = field(default_factory=Search)
    other_bits: tuple[int, ...] = ()
    memory_limit: int = 256 << 20
    progress: Callable[[str], None] = lambda name: None
    formats: dict[str, Format] = field(default_factory=dict, init=False)
    weights: dict[str, FixedWeights] = field(default_factory=dict, init=False)
    statistics: dict[str, MapStatistics] = field(default_factory=dict, init=False)
    alternatives: dict[str, dict[int, FixedWeights]] = field(default_factory=dict, init=False)
    gain: tuple[float, ...] = field(default=(1.0,), init=False)
    float_seconds: float = field(default=0.0, init=False)
    _images: int = field(default=0, init=False)

    def run(self, batches: Iterable[torch.Tensor]) -> None:
        """Fill in ``formats``, ``weights`` and ``statistics`` from prepared float batches (N, C, H, W)."""
        graph = self.graph
        uses = last_uses(graph)
        with MapStore(self.memory_limit) as self._store, torch.no_grad():
            for batch in batches:
                self._add(graph.input, batch, batch)
                self._images += len(batch)
            nonnegative = never_negative(graph, self.statistics[graph.input].low >= 0.0)
            if self.search.input and takes_gain(graph):
                graph = self._fill_input(not nonnegative[graph.input])
            self._choose_and_quantize(graph.input, not nonnegative[graph.input])
            for index, node in enumerate(graph.nodes):
                if isinstance(node, Add):
                    self._bring_together(node)
                self._run_both(node)
                if not self._waits_for_concat(node):
                    self._choose_and_quantize(node.output, not nonnegative[node.output])
                for tensor in self.formats:  # what waits for a Concat has none yet: it is still to be rounded
                    if uses[tensor] <= index and self._store.holds(f"fixed {tensor}"):
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

    def _fill_input(self, signed: bool) -> Graph:
        """Multiply the input by a factor that lets it fill its format, unless it is exact already."""
        tensor = self.graph.input
        found, bits = self.statistics[tensor], self.map_bits[tensor]
        form = Format(bits, signed, largest_fl_without_overflow(found.low, found.high, bits, signed))
        if self._errors(tensor, [form], power=1) == [0.0]:
            return self.graph
        extremes = [
            torch.stack([batch.amin(dim=(0, 2, 3)), batch.amax(dim=(0, 2, 3))])
            for batch in self._store.batches(f"float {tensor}")
        ]
        low, high = torch.stack([low for low, _ in extremes]), torch.stack([high for _, high in extremes])
        self.gain = choose_gain(low.amin(dim=0).numpy(), high.amax(dim=0).numpy(), form)
        factors = torch.tensor(self.gain).reshape(1, -1, 1, 1)
        found.low, found.high = math.inf, -math.inf
        for index, batch in enumerate(self._store.batches(f"float {tensor}")):
            filled = batch * factors
            found.low, found.high = min(found.low, float(filled.min())), max(found.high, float(filled.max()))
            self._store.replace(f"float {tensor}", index, filled)
            self._store.replace(f"fixed {tensor}", index, filled)
        self.graph = with_input_gain(self.graph, self.gain)
        return self.graph

    def _run_both(self, node: Node) -> None:
        """Results of the float network, and of the fixed-point network before its result is rounded."""
        parameters = None
        if isinstance(node, Convolution):
            source = node.inputs[0]
            input_range = FixedModel(self.graph, self.formats, {}).tensor_bounds(source)
            choice = WeightChoice(
                node,
                self.search,
                self.formats[source].fl,
                input_range,
                lambda: zip(self._store.batches(f"float {source}"), self._store.batches(f"fixed {source}")),
                self._images,
            )
            self.weights[node.name] = weights = choice.weights(self.weight_bits[node.name])
            self.alternatives[node.name] = {bits: choice.weights(bits) for bits in self.other_bits}
            weight, bias = real_parameters(weights, self.formats[node.inputs[0]].fl)
            parameters = torch.from_numpy(weight), torch.from_numpy(bias)
            for found in (weights, *self.alternatives[node.name].values()):
                if found.fl.min() < -FL_LIMIT:
                    raise CalibrationError(
                        f"{node.name}: its weights or biases are too large for any format (past "
                        f"2^{FL_LIMIT} units of its input); look at the model's weights"
                    )
        real = zip(*(self._store.batches(f"float {tensor}") for tensor in node.inputs))
        fixed = zip(*(self._store.batches(f"fixed {tensor}") for tensor in node.inputs))
        for real_operands, fixed_operands in zip(real, fixed):
            started = time.perf_counter()
            exact = activate(run_node(node, real_operands), node.activation)
            self.float_seconds += time.perf_counter() - started
            self._add(
                node.output, exact, activate(run_node(node, fixed_operands, parameters), node.activation)
            )

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

    def _bring_together(self, node: Add) -> None:
        """Coarsen an operand so much smaller than the other that their exact sum would not fit 32 bits."""
        coarse, fine = sorted(node.inputs, key=lambda tensor: self.formats[tensor].fl)
        form = self.formats[fine]
        most = self.formats[coarse].fl + _SUM_BITS - self.formats[coarse].bits
        if form.fl <= most:
            return
        if self.graph.consumers(fine)[0] is not node:
            raise CalibrationError(
                f"{node.name}: the values of {fine} and {coarse} are too far apart to be added in 32 bits "
                f"(units of 2^{-form.fl} and 2^{-self.formats[coarse].fl}); look at the weights before them"
            )
        self.formats[fine] = replace(form, fl=most)
        self._quantize(fine, self.formats[fine])

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
        bits = self.map_bits[tensor]
        if isinstance(node, (MaxPool, Select)):
            source = self.formats[node.inputs[0]]
            if source.signed >= signed and source.bits <= bits:
                return Format(bits, signed, source.fl)  # nothing is lost
        found = self.statistics[tensor]
        start = largest_fl_without_overflow(found.low, found.high, bits, signed)
        limit = math.ldexp(Format(bits, signed, 0).high + 1, FL_LIMIT)
        if max(found.high, -found.low) > limit:
            raise CalibrationError(
                f"{node.name if node else tensor}: its values reach {max(found.high, -found.low):.3g}, more "
                f"than {bits} bits can hold (2^{math.log2(limit):.0f}); look at the model's weights and at "
                "how the images are prepared"
            )
        if isinstance(node, AveragePool):
            start = min(start, self.formats[node.inputs[0]].fl + _AVERAGE_SHIFT - _NEIGHBOURS[-1])
        neighbours = range(1)
        scores = tensor == self.graph.output and self.search.scores and is_classifier(self.graph)
        if self.search.formats != "max":
            # values must not saturate; scores may, as long as their softmax stays
            neighbours = _NEIGHBOURS if scores or tensor != self.graph.output else range(-1, 1)
        candidates = [
            Format(bits, signed, start + step) for step in neighbours if abs(start + step) <= FL_LIMIT
        ]
        if len(candidates) == 1:
            return candidates[0]
        errors = self._softmax_errors(tensor, candidates) if scores else self._errors(tensor, candidates)
        best = min(range(len(candidates)), key=lambda k: (errors[k], abs(candidates[k].fl - start)))
        return candidates[best]

    def _errors(self, tensor: str, candidates: list[Format], power: int | None = None) -> list[float]:
        """Sum of |float - fixed|^power over the calibration set in each format, in units of the first."""
        errors = [0.0] * len(candidates)
        power = power or ERROR_POWERS[self.search.formats]
        unit = math.ldexp(1.0, candidates[0].fl)  # so that squares neither overflow nor vanish
        pairs = zip(self._store.batches(f"float {tensor}"), self._store.batches(f"fixed {tensor}"))
        for real, fixed in pairs:
            for position, form in enumerate(candidates):
                errors[position] += float(
                    _rounded(fixed, form).sub_(real).mul_(unit).abs_().pow_(power).sum(dtype=torch.float64)
                )
        return errors

    def _softmax_errors(self, tensor: str, candidates: list[Format]) -> list[float]:
        """Divergence of the softmax from the float network's over the calibration set in each format."""
        errors = [0.0] * len(candidates)
        pairs = zip(self._store.batches(f"float {tensor}"), self._store.batches(f"fixed {tensor}"))
        for real, fixed in pairs:
            for position, form in enumerate(candidates):
                errors[position] += softmax_divergence(real, _rounded(fixed, form))
        return errors

    def _quantize(self, tensor: str, form: Format) -> None:
        error = noise = signal = count = 0.0
        unit = math.ldexp(1.0, form.fl)  # so that squares neither overflow nor vanish
        pairs = zip(self._store.batches(f"float {tensor}"), self._store.batches(f"fixed {tensor}"))
        for index, (real, fixed) in enumerate(pairs):
            rounded = _rounded(fixed, form)
            difference = rounded - real
            error += float(difference.abs().sum(dtype=torch.float64))
            noise += float(difference.mul_(unit).square_().sum(dtype=torch.float64))
            signal += float((real * unit).square_().sum(dtype=torch.float64))
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
