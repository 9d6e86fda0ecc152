"""Dynamic precision: a float graph and some images become a fixed-point model (`docs/quantization.md`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from quant.fixed_model import FixedModel, Preparation
from quant.graph import Convolution, Graph
from quant.map_formats import CalibrationError, DataPhase
from quant.number_format import check_width
from quant.search import Search
from quant.weight_formats import real_parameters
from quant.widths import Widths

__all__ = ["CalibrationError", "CalibrationReport", "LayerReport", "calibrate", "choose_formats"]


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
    """What was chosen and what it costs, layer by layer, on ``images`` calibration images.

    Attributes
    ----------
    search : str
        The steps that were taken.
    forward_passes : float
        Time of the calibration over that of the float network on the same images.
    """

    network: str
    images: int
    search: str
    layers: tuple[LayerReport, ...]
    forward_passes: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, object]:
        """The report as a JSON object; without the time, so that it is the same from run to run."""
        content = asdict(self)
        del content["forward_passes"]
        return content


def calibrate(
    graph: Graph,
    images: Iterable[NDArray[np.float32]],
    weight_bits: int | Widths | Mapping[str, int] = 8,
    activation_bits: int | Widths | Mapping[str, int] = 8,
    preparation: Preparation | None = None,
    *,
    search: Search | None = None,
    memory_limit: int = 256 << 20,
    progress: Callable[[str], None] = lambda name: None,
) -> tuple[FixedModel, CalibrationReport]:
    """Choose every format of a network by Qiu's two phases, and round its weights.

    Parameters
    ----------
    images : iterable of float batches (N, C, H, W)
        Prepared as the network wants them (`quant.data.prepare`).
    weight_bits, activation_bits : int, Widths, or mapping
        2 to 16; for all, by pattern, or for each node with weights and each tensor by its name.
    preparation : Preparation or None
        How the images were prepared; recorded in the model.
    search : Search or None
        The steps that are taken; by default all of them.
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
    WidthError
        If an exception fits no layer.
    """
    started = time.perf_counter()
    search = search or Search()
    counter = _Counter(graph, images)
    phase = choose_formats(
        graph, counter, weight_bits, activation_bits, search, memory_limit=memory_limit, progress=progress
    )
    preparation = replace(preparation or Preparation(), gain=phase.gain)
    model = FixedModel(phase.graph, phase.formats, phase.weights, preparation)
    passes = (time.perf_counter() - started) / max(phase.float_seconds, 1e-9)
    return model, CalibrationReport(graph.name, counter.count, str(search), _layers(model, phase), passes)


def choose_formats(
    graph: Graph,
    images: Iterable[NDArray[np.float32]],
    weight_bits: int | Widths | Mapping[str, int],
    activation_bits: int | Widths | Mapping[str, int],
    search: Search,
    *,
    other_bits: tuple[int, ...] = (),
    memory_limit: int = 256 << 20,
    progress: Callable[[str], None] = lambda name: None,
) -> DataPhase:
    """The data phase of a network, done: formats, weights, and those at ``other_bits``.

    Parameters and errors are those of `calibrate`.
    """
    of_weights = _widths(weight_bits, "weights")
    of_maps = _widths(activation_bits, "feature maps")
    for node in graph.nodes:
        if isinstance(node, Convolution) and not (
            np.isfinite(node.weight).all() and np.isfinite(node.bias).all()
        ):
            raise CalibrationError(f"{node.name}: its weights hold NaN or infinity; export the model again")
    phase = DataPhase(
        graph,
        of_weights.weights_of(graph) if isinstance(of_weights, Widths) else of_weights,
        of_maps.maps_of(graph) if isinstance(of_maps, Widths) else of_maps,
        search,
        other_bits,
        memory_limit,
        progress,
    )
    phase.run(images if isinstance(images, _Counter) else _Counter(graph, images))
    return phase


def _widths(bits: int | Widths | Mapping[str, int], what: str) -> Widths | Mapping[str, int]:
    if isinstance(bits, int):
        check_width(bits, what)
        return Widths(bits)
    for width in () if isinstance(bits, Widths) else bits.values():
        check_width(width, what)
    return bits


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
