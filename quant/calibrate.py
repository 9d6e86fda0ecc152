"""Dynamic precision: a float graph and some images become a fixed-point model (`docs/quantization.md`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from quant.fixed_model import FixedModel, Preparation
from quant.graph import Convolution, Graph
from quant.map_formats import CalibrationError, DataPhase
from quant.number_format import check_width
from quant.weight_formats import METHODS, choose_weight_lengths, real_parameters

__all__ = ["CalibrationError", "CalibrationReport", "LayerReport", "calibrate"]


@dataclass(frozen=True)
class LayerReport:
    """One feature map and, for a convolution, its weights.

    Attributes
    ----------
    name, kind, tensor : str
        Node, kind of node, and the feature map that it computes.
    low, high : float
        The float network's range on the calibration images.
    bits, signed, fl
        Format of the feature map.
    error : float
        Mean |float - fixed| over the calibration images.
    noise_db : float
        Signal-to-noise ratio in decibels; infinite if nothing is lost.
    weight_bits, weight_fl, weight_error
        The same of the weights: width, smallest and largest fl of the channels, mean |float - fixed|;
        None without weights.
    """

    name: str
    kind: str
    tensor: str
    low: float
    high: float
    bits: int
    signed: bool
    fl: int
    error: float
    noise_db: float
    weight_bits: int | None = None
    weight_fl: tuple[int, int] | None = None
    weight_error: float | None = None


@dataclass(frozen=True)
class CalibrationReport:
    """What was chosen and what it costs, layer by layer, on ``images`` calibration images."""

    network: str
    images: int
    method: str
    layers: tuple[LayerReport, ...]

    def to_json(self) -> dict[str, object]:
        """The report as a JSON object."""
        return asdict(self)


def calibrate(
    graph: Graph,
    images: Iterable[NDArray[np.float32]],
    weight_bits: int = 8,
    activation_bits: int = 8,
    preparation: Preparation | None = None,
    *,
    method: str = "greedy",
    per_channel: bool = False,
    correct_biases: bool = True,
    memory_limit: int = 2 << 30,
    progress: Callable[[str], None] = lambda name: None,
) -> tuple[FixedModel, CalibrationReport]:
    """Choose every format of a network by Qiu's two phases.

    Parameters
    ----------
    images : iterable of float batches (N, C, H, W)
        Prepared as the network wants them (`quant.data.prepare`).
    weight_bits, activation_bits : int
        2 to 16.
    preparation : Preparation or None
        How the images were prepared; recorded in the model.
    method : str
        One of `quant.weight_formats.METHODS`.
    correct_biases : bool
        Whether biases make up for the mean error that rounding leaves in their layer; never with the
        method ``"max"``, which is there for comparison.
    per_channel : bool
        Whether every output channel's weights have a fractional length of their own.
    memory_limit : int
        Bytes of feature maps held in memory; more go to temporary files.
    progress : callable
        Called with the name of each node that is done.

    Raises
    ------
    CalibrationError
        If there are no images, they have another shape or hold NaN, or the float network overflows.
    FormatError
        If a width is not 2 to 16 bits.
    """
    check_width(weight_bits, "weights")
    check_width(activation_bits, "feature maps")
    if method not in METHODS:
        raise CalibrationError(f"formats are chosen by {' or '.join(METHODS)}, not {method}")
    convolutions = [node for node in graph.nodes if isinstance(node, Convolution)]
    for node in convolutions:
        if not (np.isfinite(node.weight).all() and np.isfinite(node.bias).all()):
            raise CalibrationError(f"{node.name}: its weights hold NaN or infinity; export the model again")
    lengths = {
        node.name: choose_weight_lengths(node.weight, weight_bits, method, per_channel)
        for node in convolutions
    }
    counter = _Counter(graph, images)
    phase = DataPhase(
        graph,
        lengths,
        weight_bits,
        activation_bits,
        method,
        correct_biases and method != "max",
        memory_limit,
        progress,
    )
    phase.run(counter)
    model = FixedModel(graph, phase.formats, phase.weights, preparation or Preparation())
    return model, CalibrationReport(graph.name, counter.count, method, _layers(model, phase))


class _Counter:
    """Checks and counts the batches that pass through."""

    def __init__(self, graph: Graph, batches: Iterable[NDArray[np.float32]]):
        self.graph, self.batches, self.count = graph, batches, 0

    def __iter__(self):
        shape = self.graph.shapes[self.graph.input]
        for batch in self.batches:
            if batch.ndim != 4 or batch.shape[1:] != shape:
                raise CalibrationError(
                    f"calibration images have the shape {batch.shape[1:]}, but the input "
                    f"{self.graph.input} is (C, H, W) = {shape}"
                )
            if not np.isfinite(batch).all():
                raise CalibrationError("calibration images hold NaN or infinity; remove or repair them")
            self.count += len(batch)
            if len(batch):
                yield torch.from_numpy(np.ascontiguousarray(batch, np.float32))
        if not self.count:
            raise CalibrationError("there are no calibration images; give at least one, better 100 or more")


def _layers(model: FixedModel, phase: DataPhase) -> tuple[LayerReport, ...]:
    def report(name: str, kind: str, tensor: str, **weights: object) -> LayerReport:
        found, form = phase.statistics[tensor], model.formats[tensor]
        return LayerReport(
            name,
            kind,
            tensor,
            found.low,
            found.high,
            form.bits,
            form.signed,
            form.fl,
            found.error,
            found.noise_db,
            **weights,
        )  # type: ignore[arg-type]

    layers = [report("input", "Input", model.graph.input)]
    for node in model.graph.nodes:
        weights = model.weights.get(node.name)
        if not isinstance(node, Convolution) or weights is None:
            layers.append(report(node.name, type(node).__name__, node.output))
            continue
        real, _ = real_parameters(weights, model.formats[node.inputs[0]].fl)
        layers.append(
            report(
                node.name,
                type(node).__name__,
                node.output,
                weight_bits=weights.bits,
                weight_fl=(int(weights.fl.min()), int(weights.fl.max())),
                weight_error=float(np.abs(real - node.weight).mean()),
            )
        )
    return tuple(layers)
