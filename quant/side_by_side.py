"""Sums and histograms of a float network and its fixed-point model, over batches of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from quant.answers import changed_answers, is_classifier, softmax_divergence
from quant.fixed_model import FixedModel
from quant.fixed_run import FixedRun
from quant.float_run import activate, last_uses, run_float, run_node
from quant.graph import Convolution, Graph
from quant.grid_histogram import HistogramCounter, outside
from quant.layer_diagnosis import Diagnosis, LayerDiagnosis, Noise, OutputEffect, WeightDiagnosis
from quant.number_format import Format
from quant.output_effect import SuffixRun
from quant.weight_formats import real_parameters

__all__ = ["SideBySide"]


@dataclass
class _Sums:
    """Of one feature map over the images so far: sums of squares, and counts of values and images."""

    histogram: HistogramCounter
    values: int = 0
    signal: float = 0.0
    whole: float = 0.0
    injected: float = 0.0
    inherited: float = 0.0
    clipped_fixed: int = 0
    at_output: float = 0.0
    changed: int = 0
    divergence: float = 0.0


class SideBySide:
    """Walks both networks; `add` batches, then ask for the `diagnosis`.

    Parameters
    ----------
    graph, model
        The float network, and a fixed-point model with the same tensors
        (`quant.network_match.check_same_network`).
    ranges : mapping
        Smallest and largest value of each float feature map, for the histograms' bins.
    output_effects : bool
        Whether the effect of each layer alone on the network's output is measured.
    """

    def __init__(
        self,
        graph: Graph,
        model: FixedModel,
        ranges: Mapping[str, tuple[float, float]],
        output_effects: bool,
    ) -> None:
        self._graph, self._model, self._ranges = graph, model, ranges
        self._run = FixedRun(model)
        self._suffix = SuffixRun(graph) if output_effects else None
        self._twins = {node.output: node for node in model.graph.nodes}
        self._uses = last_uses(graph)
        self._is_vector = is_classifier(graph)
        self._images = self._changed = 0
        self._divergence = 0.0
        self._sums: dict[str, _Sums] = {}
        for tensor, (low, high) in ranges.items():
            form = model.formats[tensor]
            steps = math.ldexp(low, form.fl), math.ldexp(high, form.fl)
            self._sums[tensor] = _Sums(HistogramCounter(form, *steps))

    def add(self, batch: torch.Tensor) -> None:
        """Measure one batch of prepared images, float32 (N, C, H, W)."""
        graph, run = self._graph, self._run
        with torch.no_grad():
            real = run_float(graph, batch)
            fixed = {graph.input: run.quantize_input(batch)}
            self._measure(real, graph.input, fixed[graph.input], batch, batch, fixed[graph.input])
            for index, node in enumerate(graph.nodes):
                twin = self._twins[node.output]
                operands = [fixed[tensor] for tensor in node.inputs]
                before = run.before_rounding(twin, operands)
                inherited = before
                if isinstance(node, Convolution) or node.activation != twin.activation:
                    inherited = activate(run_node(node, operands), node.activation)
                alone = run.before_rounding(twin, [real[tensor] for tensor in node.inputs])
                fixed[node.output] = run.rounded(twin, before)
                self._measure(
                    real, node.output, fixed[node.output], before, inherited, run.rounded(twin, alone)
                )
                for tensor in {*node.inputs, node.output}:
                    if self._uses[tensor] <= index:
                        del fixed[tensor]
        self._images += len(batch)
        self._changed += changed_answers(real[graph.output], fixed[graph.output])
        self._divergence += softmax_divergence(real[graph.output], fixed[graph.output])

    def _measure(
        self,
        real: Mapping[str, torch.Tensor],
        tensor: str,
        fixed: torch.Tensor,
        before: torch.Tensor,
        inherited: torch.Tensor,
        alone: torch.Tensor,
    ) -> None:
        """Add one feature map of a batch.

        ``fixed`` is the fixed-point network's, ``before`` the same before rounding, ``inherited`` the float
        layer's on fixed-point inputs, ``alone`` the fixed-point layer's on float inputs.
        """
        sums, truth, form = self._sums[tensor], real[tensor], self._model.formats[tensor]
        scale = math.ldexp(1.0, form.fl)
        sums.values += truth.numel()
        sums.signal += _squares(truth)
        sums.whole += _squares(fixed - truth)
        sums.inherited += _squares(inherited - truth)
        injected = _squares(alone - truth)
        sums.injected += injected
        sums.histogram.add(truth * scale)
        sums.clipped_fixed += outside((before * scale).round_(), form)
        if self._suffix is not None and injected > 0.0:
            expected = real[self._graph.output]
            output = self._suffix.output(real, tensor, alone)
            sums.at_output += _squares(output - expected)
            sums.changed += changed_answers(expected, output)
            sums.divergence += softmax_divergence(expected, output)

    def diagnosis(self) -> Diagnosis:
        """What was measured so far; at least one batch."""
        graph = self._graph
        whole = {tensor: Noise.of(sums.signal, sums.whole) for tensor, sums in self._sums.items()}
        layers = [self._layer("input", "Input", graph.input, whole, ())]
        for node in graph.nodes:
            weights = self._weights(node) if isinstance(node, Convolution) else None
            layers.append(
                self._layer(node.name, type(node).__name__, node.output, whole, node.inputs, weights)
            )
        changed, divergence = self._changed / self._images, self._per_image(self._divergence)
        return Diagnosis(graph.name, self._images, changed, tuple(layers), divergence)

    def _per_image(self, divergence: float) -> float | None:
        return divergence / self._images if self._is_vector else None

    def _layer(
        self,
        name: str,
        kind: str,
        tensor: str,
        whole: Mapping[str, Noise],
        inputs: Sequence[str],
        weights: WeightDiagnosis | None = None,
    ) -> LayerDiagnosis:
        sums, form = self._sums[tensor], self._model.formats[tensor]
        fall = min((whole[source].db for source in inputs), default=math.inf) - whole[tensor].db
        effect = None
        if self._suffix is not None:
            signal = self._sums[self._graph.output].signal
            effect = OutputEffect(
                Noise.of(signal, sums.at_output),
                sums.changed / self._images,
                self._per_image(sums.divergence),
            )
        return LayerDiagnosis(
            name,
            kind,
            tensor,
            *self._ranges[tensor],
            form.bits,
            form.signed,
            form.fl,
            sums.histogram.histogram(),
            sums.histogram.clipped,
            sums.clipped_fixed / sums.values,
            whole[tensor],
            Noise.of(sums.signal, sums.injected),
            Noise.of(sums.signal, sums.inherited),
            fall if math.isfinite(fall) else None,
            weights,
            effect,
        )

    def _weights(self, node: Convolution) -> WeightDiagnosis:
        twin = self._twins[node.output]
        weights = self._model.weights[twin.name]
        fixed, _ = real_parameters(weights, 0)
        real = np.asarray(node.weight, np.float64)
        steps = np.ldexp(real, weights.fl.reshape(-1, 1, 1, 1))
        counter = HistogramCounter(Format(weights.bits, True, 0), float(steps.min()), float(steps.max()))
        counter.add(torch.from_numpy(steps))
        noise = Noise.of(float((real**2).sum()), float(((fixed - real) ** 2).sum()))
        return WeightDiagnosis(
            weights.bits,
            (int(weights.fl.min()), int(weights.fl.max())),
            float(real.min()),
            float(real.max()),
            counter.histogram(),
            counter.clipped,
            noise,
        )


def _squares(values: torch.Tensor) -> float:
    return float(values.square().sum(dtype=torch.float64))
