"""From a model file and images to what a simulation needs: fixed-point model, integers, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from quant.calibrate import calibrate
from quant.data import ImageSet, images_per_batch, prepare
from quant.fixed_model import FixedModel, Preparation
from quant.float_run import run_float
from quant.graph import Graph, Shape
from quant.input_gain import with_input_gain
from quant.onnx_file import read_model, shape_is_open
from quant.onnx_import import import_model
from quant.qdq import write_fixed_model
from quant.qdq_import import read_fixed_model
from sim import reference

__all__ = ["Accuracy", "Network", "evaluate", "load_network", "prepared_inputs"]

_BATCH = 32


@dataclass
class Network:
    """A fixed-point model, and the float model that it was calibrated from, if there is one.

    ``path`` is the fixed-point model's file; ``layout`` is that of image arrays that could be either.
    """

    name: str
    model: FixedModel
    path: Path
    graph: Graph | None
    layout: str | None = None


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of the float and the fixed-point network on ``images`` images, and how often they agree.

    All are shares of 1; None where there are no labels, or no float model.
    """

    images: int
    float_top1: float | None
    fixed_top1: float | None
    agreement: float | None


def load_network(
    path: Path,
    folder: Path,
    calibration: ImageSet,
    preparation: Preparation | None,
    *,
    layout: str | None = None,
    input_shape: Shape | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    float_model: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    quiet: bool = False,
) -> Network:
    """Read a fixed-point model, or read a float one and calibrate it.

    Parameters
    ----------
    path : Path
        ONNX; a model with QuantizeLinear nodes is a fixed-point one.
    folder : Path
        Where a calibrated model is written, as ``NAME.fixed.onnx``; it is then read back from there.
    calibration : ImageSet
        For a float model.
    preparation : Preparation or None
        How images become the input.  A fixed-point model of ours has it in its file.
    layout : str or None
        ``"NHWC"`` or ``"NCHW"`` for arrays of images that could be either.
    input_shape : (C, H, W) or None
        For a float model that leaves it open.
    float_model : Path or None
        For a fixed-point model: the float one to compare its accuracy with.

    Raises
    ------
    ModelError, CalibrationError, DataError, WriteError
        If the model or the images cannot be used.
    PreparationError
        If a preparation is given and the fixed-point model records another.
    """
    if any(node.op_type == "QuantizeLinear" for node in read_model(path).proto.graph.node):
        model = read_fixed_model(path).prepared_as(preparation, path)
        say(f"{path.name}: fixed-point model")
        real = None
        if float_model is not None:
            shape = model.graph.shapes[model.graph.input] if shape_is_open(float_model) else None
            real = with_input_gain(import_model(float_model, input_shape=shape), model.preparation.gain)
        return Network(path.stem, model, path, real, layout)
    graph = import_model(path, input_shape=input_shape)
    preparation = preparation or Preparation()
    say(
        f"{path.name}: float model; calibrating on {len(calibration)} images of {calibration.name} "
        f"({weight_bits}-bit weights, {activation_bits}-bit feature maps)"
    )
    shape, size = graph.shapes[graph.input], images_per_batch(graph)  # as `python -m quant calibrate`
    batches = list(prepare(calibration, preparation, shape, graph.input_layout, layout, size))
    with tqdm(total=len(graph.nodes), desc="calibrate", unit="node", disable=True if quiet else None) as bar:
        model, _ = calibrate(
            graph, batches, weight_bits, activation_bits, preparation, progress=lambda name: _step(bar)
        )
    folder.mkdir(parents=True, exist_ok=True)
    fixed = folder / f"{path.stem}.fixed.onnx"
    write_fixed_model(model, fixed)
    say(f"wrote {fixed}")
    real = with_input_gain(graph, model.preparation.gain)
    return Network(path.stem, read_fixed_model(fixed), fixed, real, layout)


def _step(bar: tqdm) -> None:
    bar.update()


def prepared_inputs(network: Network, images: ImageSet) -> Iterator[NDArray[np.float32]]:
    """Prepared float batches (N, C, H, W) for the network."""
    graph = network.model.graph
    return prepare(
        images,
        network.model.preparation,
        graph.shapes[graph.input],
        graph.input_layout,
        network.layout,
        _BATCH,
    )


def evaluate(network: Network, images: ImageSet, *, quiet: bool = False) -> Accuracy:
    """Accuracy of the fixed-point network (by `sim.reference`) and of the float one.

    Without labels only the agreement is known.
    """
    fixed: list[NDArray[np.integer]] = []
    real: list[NDArray[np.integer]] = []
    output = network.model.graph.output
    with tqdm(total=len(images), desc="accuracy", unit="image", disable=True if quiet else None) as bar:
        for batch in prepared_inputs(network, images):
            integers = reference.prepare_input(network.model, batch)
            values = reference.run(network.model, integers, keep={output})[output]
            fixed.append(values.reshape(len(batch), -1).argmax(axis=1))
            if network.graph is not None:
                with torch.inference_mode():
                    floats = run_float(network.graph, torch.from_numpy(batch), {network.graph.output})
                real.append(floats[network.graph.output].reshape(len(batch), -1).argmax(dim=1).numpy())
            bar.update(len(batch))
    found = np.concatenate(fixed)
    wanted = np.concatenate(real) if real else None
    labels = images.labels

    def right(choice: NDArray[np.integer] | None) -> float | None:
        return None if labels is None or choice is None else float(np.mean(choice == labels))

    return Accuracy(
        len(images), right(wanted), right(found), None if wanted is None else float(np.mean(found == wanted))
    )
