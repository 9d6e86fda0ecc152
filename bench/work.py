"""What the benchmark runs: single layers L1 to L4, and networks N1 to N4.

Cycles do not depend on what weights are worth, so the layers have random ones, from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bench.accuracy_data import networks, shared_folder
from quant.calibrate import calibrate
from quant.fixed_model import FixedModel
from quant.search import Search
from quant.torch_import import import_module
from sim.reference import prepare_input

__all__ = ["WORK", "Work", "load_work"]

_CALIBRATION_IMAGES = 16


@dataclass(frozen=True)
class Work:
    """One row of the benchmark.

    Attributes
    ----------
    name, what : str
    peer : str
        What NNgen 1.3.4 (Python to Verilog; int8, 64-bit AXI) takes for the same work on memory that
        holds data back in 4 of 19 cycles: multipliers, cycles, share of multipliers busy.
    network : str or None
        The name in `bench.accuracy_data`; None: a layer of its own.
    """

    name: str
    what: str
    peer: str
    network: str | None = None


WORK: Mapping[str, Work] = {
    work.name: work
    for work in (
        Work("L1", "convolution 3x3, 64 to 64, 28x28", "NNgen, 144: 209,665, 95.7 %"),
        Work("L2", "convolution 1x1, 128 to 128, 14x14", "NNgen, 128: 29,105, 86.2 %"),
        Work("L3", "depthwise 3x3, 64 channels, 28x28", "NNgen refuses it"),
        Work("L4", "fully connected 1024 to 1024", "NNgen, 64: 176,361 (74 % of the bus)"),
        Work("N1", "LeNet-5, 28x28", "NNgen, 100: 105,073, 21.8 %", "lenet5"),
        Work("N2", "ResNet-8, 32x32x3", "NNgen, 72: 334,113, 52.0 %", "resnet8"),
        Work("N3", "MobileNetV1 0.25, 96x96x3", "-", "vww"),
        Work("N4", "SqueezeNet v1.0, 227x227x3", "-", "squeezenet"),
    )
}

_LAYERS: Mapping[str, tuple[Callable[[], torch.nn.Module], tuple[int, int, int]]] = {
    "L1": (lambda: torch.nn.Conv2d(64, 64, 3, padding=1), (64, 28, 28)),
    "L2": (lambda: torch.nn.Conv2d(128, 128, 1), (128, 14, 14)),
    "L3": (lambda: torch.nn.Conv2d(64, 64, 3, padding=1, groups=64), (64, 28, 28)),
    "L4": (lambda: torch.nn.Conv2d(1024, 1024, 1), (1024, 1, 1)),
}


def load_work(work: Work) -> tuple[FixedModel, NDArray[np.int64]]:
    """The fixed-point model, calibrated without the longer steps, and one input (1, C, H, W) for it.

    Raises
    ------
    BenchDataError
        If the network's files are missing.
    """
    search = Search.paper()
    if work.network is None:
        make, shape = _LAYERS[work.name]
        torch.manual_seed(1)
        images = np.random.default_rng(1).random((2, *shape), np.float32)
        model, _ = calibrate(import_module(make(), shape), [images], search=search)
        return model, prepare_input(model, images[:1])
    [network] = networks(shared_folder(), only=[work.network])
    graph = network.graph()
    chosen = network.calibration.spread(_CALIBRATION_IMAGES)
    batches = list(network.batches(chosen, graph.input_layout))
    model, _ = calibrate(graph, batches, preparation=network.preparation, search=search)
    return model, prepare_input(model, batches[0][:1])
