"""Brevitas' fixed-point quantizers on a network of ours: plain, with bias correction, with GPFQ.

Its scales are powers of two too, so that this is the nearest peer for weights of few bits.  Brevitas is
optional and known to work in version 0.13.0, in an environment with this project and torch 2.13.0.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bench.accuracy_data import AccuracyNetwork
from bench.accuracy_score import Answers, Score, score
from quant.float_run import activate, run_node
from quant.graph import Convolution, Graph, MaxPool, Select

__all__ = ["RECIPES", "Recipe", "RecipeResult", "brevitas_is_there", "measure"]


@dataclass(frozen=True)
class Recipe:
    """One way to quantize with Brevitas.

    Attributes
    ----------
    weight_bits, activation_bits : int
    per_channel : bool
        One weight scale for each output channel.
    least_error : bool
        Scales of least squared error; else from the largest magnitude (weights) or a percentile of it.
    gpfq : bool
        Round weights by greedy path following (Zhang, Zhou, Saab, 2023) instead of to the nearest.
    correct_biases : bool
        Correct biases for the mean error on the calibration images, layer by layer.
    """

    weight_bits: int
    activation_bits: int
    per_channel: bool = False
    least_error: bool = False
    gpfq: bool = False
    correct_biases: bool = False

    def __str__(self) -> str:
        parts = ["per channel" if self.per_channel else "per layer"]
        parts += ["least error"] * self.least_error + ["GPFQ"] * self.gpfq
        return ", ".join(parts + ["bias correction"] * self.correct_biases)


@dataclass(frozen=True)
class RecipeResult:
    """What a recipe reaches; ``seconds`` are those of calibration, rounding and correction."""

    recipe: Recipe
    score: Score
    seconds: float


_STEPS = (
    {},
    {"correct_biases": True},
    {"correct_biases": True, "least_error": True},
    {"correct_biases": True, "gpfq": True},
    {"correct_biases": True, "gpfq": True, "least_error": True},
    {"correct_biases": True, "gpfq": True, "per_channel": True},
    {"correct_biases": True, "gpfq": True, "least_error": True, "per_channel": True},
)

#: What is measured: for each pair of widths, more and more of Brevitas' means.
RECIPES = tuple(Recipe(*widths, **steps) for widths in ((8, 8), (4, 8), (4, 4)) for steps in _STEPS)


def brevitas_is_there() -> bool:
    """Whether Brevitas can be imported."""
    return importlib.util.find_spec("brevitas") is not None


def measure(
    network: AccuracyNetwork, graph: Graph, recipe: Recipe, float_network: Answers
) -> RecipeResult:
    """Quantize a network with a recipe on its calibration images and score it on the others.

    Parameters
    ----------
    graph : Graph
        What `AccuracyNetwork.graph` gave.
    float_network : int array (N,)
        The float network's answers.

    Raises
    ------
    ImportError
        Without Brevitas.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()):
            calibrate = importlib.import_module("brevitas.graph.calibrate")
            gpfq_mode = importlib.import_module("brevitas.graph.gpfq").gpfq_mode
        model = _quantized_module(graph, recipe).eval()
        images = [
            torch.from_numpy(batch)
            for batch in network.batches(network.calibration, graph.input_layout)
        ]
        began = time.perf_counter()
        with calibrate.calibration_mode(model):
            for batch in images:
                model(batch)
        model(images[0])  # weight scales are found in the first run after calibration
        if recipe.gpfq:
            with gpfq_mode(model) as gpfq:
                for _ in range(gpfq.num_layers):
                    for batch in images:
                        gpfq.model(batch)
                    gpfq.update()
        if recipe.correct_biases:
            with calibrate.bias_correction_mode(model):
                for batch in images:
                    model(batch)
        seconds = time.perf_counter() - began
        answers = np.concatenate(list(_answers(network, graph, model)))
    return RecipeResult(recipe, score(answers, float_network, network), seconds)


def _answers(network: AccuracyNetwork, graph: Graph, model: nn.Module) -> Iterator[Answers]:
    for batch in network.batches(network.evaluation, graph.input_layout):
        yield model(torch.from_numpy(batch)).flatten(1).argmax(1).numpy()


def _quantized_module(graph: Graph, recipe: Recipe) -> nn.Module:
    """The graph with Brevitas' layers, every feature map quantized as this project does it."""
    layers = importlib.import_module("brevitas.nn")
    fixed_point = importlib.import_module("brevitas.quant.fixed_point")
    scaling = importlib.import_module("brevitas.inject.enum").ScalingImplType
    scope = "Channel" if recipe.per_channel else "Tensor"
    suffix = "MSE" if recipe.least_error else ""
    weight_quant = getattr(fixed_point, f"Int8WeightPer{scope}FixedPoint{suffix}")

    def convolution(node: Convolution) -> nn.Module:
        rows, columns = node.weight.shape[2:]
        layer = layers.QuantConv2d(
            node.weight.shape[1] * node.groups,
            len(node.weight),
            (rows, columns),
            stride=node.stride,
            dilation=node.dilation,
            groups=node.groups,
            bias=True,  # in float, which 32-bit integers come close to
            weight_quant=weight_quant,
            weight_bit_width=recipe.weight_bits,
            # else GPFQ would change the scale while it works, by the weights that it moves
            weight_scaling_impl_type=scaling.PARAMETER_FROM_STATS,
        )
        layer.weight.copy_(torch.from_numpy(np.array(node.weight)))
        layer.bias.copy_(torch.from_numpy(np.array(node.bias)))
        return layer

    def feature_map(signed: bool, bits: int) -> nn.Module:
        kind = getattr(fixed_point, f"{'Int' if signed else 'Uint'}8ActPerTensorFixedPoint{suffix}")
        return layers.QuantIdentity(act_quant=kind, bit_width=bits)

    return _Network(graph, recipe.activation_bits, convolution, feature_map)


class _Network(nn.Module):
    """A graph as a torch module: convolutions and quantizers are modules of their own.

    Parameters
    ----------
    bits : int
        Of feature maps; the output has 8 or more, as in this project.
    convolution : callable
        Makes the module of a convolution, without padding.
    feature_map : callable
        Makes the quantizer of a feature map, signed or not, of so many bits.
    """

    def __init__(
        self,
        graph: Graph,
        bits: int,
        convolution: Callable[[Convolution], nn.Module],
        feature_map: Callable[[bool, int], nn.Module],
    ) -> None:
        super().__init__()
        self.graph = graph
        self.layers, self.quantizers = nn.ModuleDict(), nn.ModuleDict()
        # module names must not have dots
        self.key = {tensor: f"t{number}" for number, tensor in enumerate(graph.shapes)}
        self.quantizers[self.key[graph.input]] = feature_map(True, bits)
        unsigned: set[str] = set()
        for node in graph.nodes:
            key = self.key[node.output]
            if isinstance(node, Convolution):
                self.layers[key] = convolution(node)
            passes_on = not isinstance(node, Convolution) and all(name in unsigned for name in node.inputs)
            if passes_on or node.activation.low >= 0:
                unsigned.add(node.output)
            # what only chooses among quantized numbers needs no quantizer
            if not isinstance(node, MaxPool | Select) or math.isfinite(node.activation.high):
                width = max(bits, 8) if node.output == graph.output else bits
                self.quantizers[key] = feature_map(node.output not in unsigned, width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The network's output for a batch (N, C, H, W)."""
        tensors: dict[str, Any] = {self.graph.input: self.quantizers[self.key[self.graph.input]](values)}
        for node in self.graph.nodes:
            key, operands = self.key[node.output], [tensors[name] for name in node.inputs]
            if isinstance(node, Convolution):
                top, left, bottom, right = node.pads
                result = self.layers[key](functional.pad(operands[0], (left, right, top, bottom)))
            else:
                result = run_node(node, operands)
            result = activate(result, node.activation)
            tensors[node.output] = self.quantizers[key](result) if key in self.quantizers else result
        return tensors[self.graph.output]
