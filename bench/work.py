"""What the benchmark runs: single layers L1 to L4, and networks N1 to N5.

Cycles do not depend on what weights are worth, so the layers and N5 have random ones, from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from bench.accuracy_data import networks, shared_folder
from bench.few_weights import pruned, ternary
from bench.vgg import vgg16
from compiler.compile import compile_model
from hw.machine import Machine
from hw.program_file import ProgramFile
from quant.calibrate import calibrate
from quant.fixed_model import FixedModel
from quant.graph import Shape
from quant.search import Search
from quant.torch_import import import_module
from sim import reference
from sim.reference import prepare_input

__all__ = ["WORK", "CompiledWork", "UnknownWorkError", "Work", "chosen_works", "compile_work"]

_CALIBRATION_IMAGES = 16


#: A fixed-point model and one input (1, C, H, W) for it.
Source = Callable[[], tuple[FixedModel, NDArray[np.int64]]]


class UnknownWorkError(ValueError):
    """A work was asked for that does not exist."""


@dataclass(frozen=True)
class Work:
    """One row of the benchmark.

    Attributes
    ----------
    name, what : str
    source : callable
        Gives the fixed-point model and one input (1, C, H, W) for it.
    memories : tuple of str
        The memory settings that are run if nobody says which.
    store_all : bool
        As `compiler.compile.compile_model`'s.
    machine : Machine
        That runs it.
    images : int
        How often; the last time counts.
    """

    name: str
    what: str
    source: Source
    memories: tuple[str, ...] = ("ideal", "stalling", "ulx3s")
    store_all: bool = True
    machine: Machine = field(default_factory=Machine)
    images: int = 1


@dataclass(frozen=True)
class CompiledWork:
    """A work's fixed-point model, its inputs (images, C, H, W), all the same, and its program."""

    model: FixedModel
    inputs: NDArray[np.int64]
    program: ProgramFile


def _layer(module: Callable[[], torch.nn.Module], shape: Shape, weight_bits: int = 8) -> Source:
    def source() -> tuple[FixedModel, NDArray[np.int64]]:
        torch.manual_seed(1)
        images = np.random.default_rng(1).random((2, *shape), np.float32)
        model, _ = calibrate(import_module(module(), shape), [images], weight_bits, search=Search.paper())
        return model, prepare_input(model, images[:1])

    return source


def _network(name: str, weight_bits: int = 8) -> Source:
    """A network of `bench.accuracy_data`."""

    def source() -> tuple[FixedModel, NDArray[np.int64]]:
        [network] = networks(shared_folder(), only=[name])
        graph = network.graph()
        chosen = network.calibration.spread(_CALIBRATION_IMAGES)
        batches = list(network.batches(chosen, graph.input_layout))
        model, _ = calibrate(
            graph, batches, weight_bits, preparation=network.preparation, search=Search.paper()
        )
        return model, prepare_input(model, batches[0][:1])

    return source


def _vgg(*, svd: bool) -> Source:
    def source() -> tuple[FixedModel, NDArray[np.int64]]:
        model = vgg16(svd=svd)
        shape = model.graph.shapes[model.graph.input]
        return model, np.random.default_rng(1).integers(-128, 128, (1, *shape))

    return source


def _changed(source: Source, change: Callable[[FixedModel], FixedModel]) -> Source:
    """The source with other weights."""

    def changed() -> tuple[FixedModel, NDArray[np.int64]]:
        model, inputs = source()
        return change(model), inputs

    return changed


def _conv3x3() -> torch.nn.Module:
    return torch.nn.Conv2d(64, 64, 3, padding=1)


def _conv1x1() -> torch.nn.Module:
    return torch.nn.Conv2d(128, 128, 1)


def _fully_connected() -> torch.nn.Module:
    return torch.nn.Conv2d(1024, 1024, 1)


_DECODER = Machine(weight_decoder=True)
_PAIRS = Machine(weight_pairs=True)
#: As many weights kept as an LFE5U-85F has block RAMs for.
_KEPT = Machine(kept_weight_words=24576, weight_fifo_words=4096)
_L4 = _layer(_fully_connected, (1024, 1, 1))
_L3 = Work(
    "L3",
    "depthwise 3x3, 64 channels, 28x28",
    _layer(lambda: torch.nn.Conv2d(64, 64, 3, padding=1, groups=64), (64, 28, 28)),
)


def _lean(name: str, model: str, weight_bits: int = 8, machine: Machine | None = None) -> Work:
    """A network as a board runs it."""
    what = f"{name}, stores only what is read"
    source = _network(model, weight_bits)
    return Work(f"{name}-lean", what, source, ("ulx3s",), store_all=False, machine=machine or Machine())


_N2_LEAN, _N3_LEAN = _lean("N2", "resnet8"), _lean("N3", "vww")
_N2_INT4_LEAN = _lean("N2-int4", "resnet8", 4, _PAIRS)


def _kept(work: Work, machine: Machine) -> Work:
    """The second inference on a machine that keeps weights."""
    name = f"{work.name.removesuffix('-lean')}-kept"
    what = f"{work.name}, weights on the chip as far as they fit"
    return replace(work, name=name, what=what, machine=machine, images=2)


WORK: Mapping[str, Work] = {
    work.name: work
    for work in (
        Work("L1", "convolution 3x3, 64 to 64, 28x28", _layer(_conv3x3, (64, 28, 28))),
        Work("L1-int4", "L1, weights of 4 bits", _layer(_conv3x3, (64, 28, 28), 4), machine=_PAIRS),
        Work("L2", "convolution 1x1, 128 to 128, 14x14", _layer(_conv1x1, (128, 14, 14))),
        Work("L2-int4", "L2, weights of 4 bits", _layer(_conv1x1, (128, 14, 14), 4), machine=_PAIRS),
        _L3,
        Work(
            "L4",
            "fully connected 1024 to 1024",
            _L4,
        ),
        Work("L4-sparse", "L4, 8 % of its weights, of 15 values", _changed(_L4, pruned), machine=_DECODER),
        Work(
            "L4-huffman",
            "L4-sparse, and Huffman codes",
            _changed(_L4, pruned),
            machine=replace(_DECODER, huffman_decoder=True),
        ),
        Work("L4-ternary", "L4, weights of 3 values", _changed(_L4, ternary), machine=_DECODER),
        Work(
            "L4-int4",
            "L4, weights of 4 bits",
            _layer(_fully_connected, (1024, 1, 1), 4),
            machine=_PAIRS,
        ),
        Work("N1", "LeNet-5, 28x28", _network("lenet5")),
        Work(
            "N1-sparse",
            "N1, 8 % of its fully connected weights, of 15 values",
            _changed(_network("lenet5"), pruned),
            machine=_DECODER,
        ),
        Work("N2", "ResNet-8, 32x32x3", _network("resnet8")),
        Work("N2-int4", "N2, weights of 4 bits", _network("resnet8", 4), machine=_PAIRS),
        Work("N3", "MobileNetV1 0.25, 96x96x3", _network("vww")),
        _N2_LEAN,
        _N3_LEAN,
        _N2_INT4_LEAN,
        _kept(_L3, _KEPT),
        _kept(_N2_LEAN, _KEPT),
        _kept(_N3_LEAN, _KEPT),
        _kept(_N2_INT4_LEAN, replace(_PAIRS, kept_weight_words=8192)),
        Work("N4", "SqueezeNet v1.0, 227x227x3", _network("squeezenet")),
        Work(
            "N4-sparse",
            "N4, without its zeros over the bus",
            _network("squeezenet"),
            ("ideal", "ulx3s"),
            machine=_DECODER,
        ),
        Work(
            "N4-huffman",
            "N4-sparse, and Huffman codes",
            _network("squeezenet"),
            ("ideal", "ulx3s"),
            machine=replace(_DECODER, huffman_decoder=True),
        ),
        Work("N5", "VGG-16, 224x224x3", _vgg(svd=False), ("ideal",)),
        Work("N5-SVD", "VGG-16-SVD, 224x224x3", _vgg(svd=True), ("ideal",)),
    )
}


def chosen_works(names: str | None) -> list[Work]:
    """The works of a list with commas; ``N5`` stands for ``N5-SVD``, too, and so on.  None: all.

    Raises
    ------
    UnknownWorkError
        If there is no work of a name.
    """
    if names is None:
        return list(WORK.values())
    found: dict[str, Work] = {}
    for name in names.split(","):
        matching = {key: work for key, work in WORK.items() if name in (key, key.split("-")[0])}
        if not matching:
            raise UnknownWorkError(f"no work is called {name!r}; there are {', '.join(WORK)}")
        found |= matching
    return list(found.values())


@lru_cache(maxsize=1)
def compile_work(work: Work, machine: Machine) -> CompiledWork:
    """A work, calibrated without the longer steps and compiled; the newest one is kept.

    Raises
    ------
    BenchDataError
        If the network's files are missing.
    CompileError
        If the machine cannot run it.
    """
    model, inputs = work.source()
    program = compile_model(
        model, machine, inputs[0], lambda: reference.run(model, inputs), store_all=work.store_all
    )
    return CompiledWork(model, inputs.repeat(work.images, axis=0), program)
