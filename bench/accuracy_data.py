"""The networks that accuracy is measured on, each with its images for calibration and for evaluation.

The bundled LeNet-5 is always there.  The others and their images lie in a folder beside the project, or
where the environment variable POINTSHIFT_SHARED says: ``models/*.onnx`` and ``data/``.  The two sets of
a network have no image in common, and nothing may be chosen on the evaluation images.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quant.data import ImageSet, load_images, prepare
from quant.fixed_model import Preparation
from quant.graph import Graph, Shape
from quant.onnx_import import import_model

__all__ = [
    "NAMES",
    "AccuracyNetwork",
    "BenchDataError",
    "add_network_arguments",
    "networks",
    "networks_of",
    "shared_folder",
]

_PROJECT = Path(__file__).parents[1]
_CALIBRATION_IMAGES = 200
#: Every so many-th image of a folder calibrates, the others evaluate.
_FOLDER_STEP = 4

#: Names that `networks` takes.
NAMES = ("lenet5", "resnet20", "resnet8", "squeezenet", "vww")


class BenchDataError(ValueError):
    """Networks or images of a benchmark are missing; the message says which and what to do."""


@dataclass(frozen=True)
class AccuracyNetwork:
    """A float network and the images to measure it with.

    Attributes
    ----------
    name : str
        One of `NAMES`.
    model : Path
        The float ONNX file.
    preparation : Preparation
        How an image becomes the network's input.
    calibration, evaluation : ImageSet
        Without an image in common.
    labelled : bool
        Whether the labels of the images are classes of the network; if not, only its agreement with
        the float network can be measured.
    input_shape : (C, H, W)
    """

    name: str
    model: Path
    preparation: Preparation
    calibration: ImageSet
    evaluation: ImageSet
    labelled: bool
    input_shape: Shape

    def graph(self) -> Graph:
        """The float network, imported anew."""
        return import_model(self.model, input_shape=self.input_shape)

    def batches(
        self, images: ImageSet, input_layout: str = "NCHW", batch_size: int = 50
    ) -> Iterator[NDArray[np.float32]]:
        """Prepared images, (N, C, H, W) a batch; ``input_layout`` as in `quant.data.prepare`."""
        return prepare(images, self.preparation, self.input_shape, input_layout, batch_size=batch_size)


@dataclass(frozen=True)
class _Entry:
    """A network of the shared folder; ``evaluation`` None: the rest of ``calibration``."""

    file: str
    preparation: Preparation
    input_shape: Shape
    calibration: str
    evaluation: str | None
    labelled: bool = True


_ENTRIES = {
    "resnet20": _Entry(
        "cifar10_resnet20.onnx",
        Preparation(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (3, 32, 32),
        "cifar10_jpeg_calibration.npz",
        "cifar10_jpeg_eval.npz",
    ),
    "resnet8": _Entry(
        "mlperf_resnet8.onnx",
        Preparation(),
        (3, 32, 32),
        "cifar10_jpeg_calibration.npz",
        "cifar10_jpeg_eval.npz",
    ),
    "squeezenet": _Entry(
        "squeezenet_v1_0_imagenet.onnx",
        Preparation(1.0, (104.0, 117.0, 123.0), (1.0,), "BGR", crop=True),
        (3, 227, 227),
        "imagenet_sample",
        None,
    ),
    "vww": _Entry(
        "mlperf_vww.onnx",
        Preparation(255.0, resize=96, crop=True),
        (3, 96, 96),
        "imagenet_sample",
        None,
        labelled=False,  # its classes are "person" and "no person"
    ),
}


def shared_folder() -> Path | None:
    """The folder with ``models/`` and ``data/``: POINTSHIFT_SHARED, else ``shared`` beside the project.

    None if there is none.
    """
    folder = Path(os.environ.get("POINTSHIFT_SHARED", _PROJECT.parent / "shared"))
    return folder if (folder / "models").is_dir() else None


def networks(
    shared: Path | None,
    only: Collection[str] | None = None,
    *,
    models: Path | None = None,
    data: Path | None = None,
) -> list[AccuracyNetwork]:
    """The networks, LeNet-5 first, whose files are there.

    Parameters
    ----------
    shared : Path or None
        Folder with ``models/`` and ``data/``; None: LeNet-5 only, unless both folders are given.
    only : collection of str or None
        Names to take; these must be there.  None: all that are.
    models, data : Path or None
        Instead of the two folders in ``shared``.

    Raises
    ------
    BenchDataError
        If a name of ``only`` is unknown or its files are missing.
    """
    unknown = sorted(set(only or ()) - set(NAMES))
    if unknown:
        raise BenchDataError(f"no network is called {unknown[0]}; there are {', '.join(NAMES)}")
    models = models or (shared / "models" if shared is not None else None)
    data = data or (shared / "data" if shared is not None else None)
    found = []
    for name in NAMES:
        if only is not None and name not in only:
            continue
        if name == "lenet5":
            found.append(_lenet5())
            continue
        entry = _ENTRIES[name]
        missing = _missing(entry, models, data)
        if missing is None and models is not None and data is not None:
            found.append(_network(name, entry, models, data))
        elif only is not None:
            raise BenchDataError(
                f"{name}: {missing} is missing; say where it is with --models and --data or POINTSHIFT_SHARED"
            )
    return found


def _missing(entry: _Entry, models: Path | None, data: Path | None) -> str | None:
    """The first file of an entry that is not there; None if all are."""
    wanted = [(models, entry.file), (data, entry.calibration)]
    if entry.evaluation is not None:
        wanted.append((data, entry.evaluation))
    for folder, name in wanted:
        if folder is None or not (folder / name).exists():
            return str(folder / name) if folder is not None else name
    return None


def _network(name: str, entry: _Entry, models: Path, data: Path) -> AccuracyNetwork:
    images = load_images(data / entry.calibration)
    if entry.evaluation is not None:
        calibration, evaluation = images.spread(_CALIBRATION_IMAGES), load_images(data / entry.evaluation)
    else:
        calibration = images.take(range(0, len(images), _FOLDER_STEP))
        evaluation = images.take([index for index in range(len(images)) if index % _FOLDER_STEP])
    if not entry.labelled:
        calibration, evaluation = (replace(part, labels=None) for part in (calibration, evaluation))
    return AccuracyNetwork(
        name,
        models / entry.file,
        entry.preparation,
        calibration,
        evaluation,
        entry.labelled,
        entry.input_shape,
    )


def _lenet5() -> AccuracyNetwork:
    folder = _PROJECT / "models"
    return AccuracyNetwork(
        "lenet5",
        folder / "lenet5.onnx",
        Preparation(255.0),
        load_images(folder / "fashion_mnist_calibration.npz").spread(_CALIBRATION_IMAGES),
        load_images(folder / "fashion_mnist_test.npz"),
        True,
        (1, 28, 28),
    )


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--models``, ``--data`` and ``--only``."""
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of the float ONNX files")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the images")
    parser.add_argument(
        "--only",
        action="append",
        choices=NAMES,
        help="measure this network; can be repeated (default: all whose files are there)",
    )


def networks_of(arguments: argparse.Namespace) -> list[AccuracyNetwork]:
    """The networks that the options of `add_network_arguments` ask for; errors as `networks`."""
    return networks(shared_folder(), arguments.only, models=arguments.models, data=arguments.data)
