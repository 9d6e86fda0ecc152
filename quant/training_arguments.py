"""The options that ``prune``, ``compress``, ``ternarize`` and ``lowrank`` share: labelled data, training."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quant.preparation_arguments import add_data_arguments, positive, preparation_of

if TYPE_CHECKING:
    from quant.compression.checkpoint import Checkpoint
    from quant.compression.labelled_data import LabelledData
    from quant.compression.training import TrainingSettings
    from quant.graph import Graph

__all__ = ["TrainingImages", "add_training_arguments", "number", "training_checkpoint", "training_images",
           "training_settings"]

_VALIDATION_SHARE = 0.1


def number(text: str) -> float:
    """An option's finite number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return value


def _rate(text: str) -> float:
    value = number(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 0 to below 1")
    return value


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def add_training_arguments(
    parser: argparse.ArgumentParser, *, epochs: int, rate: float, stage: str, required: bool = True
) -> None:
    """Add data, preparation and training; ``epochs`` and ``rate`` are defaults of each ``stage``.

    ``required`` says whether ``--data`` is.
    """
    add_data_arguments(parser, "use N images, evenly spread over the set (default: all)", required=required)
    parser.add_argument(
        "--validation",
        metavar="IMAGES",
        help=f"labelled images to choose by (default: {_VALIDATION_SHARE:.0%}% of --data, not trained on)",
    )
    parser.add_argument("--test", metavar="IMAGES", help="labelled images to report accuracy on, at the end")
    group = parser.add_argument_group(
        "training", "Adam; the rate falls to 0 along a cosine. On a GPU if there is one."
    )
    group.add_argument(
        "--epochs",
        type=_whole,
        default=epochs,
        metavar="N",
        help=f"passes over the images {stage} (default: {epochs})",
    )
    group.add_argument("--batch", type=positive, default=64, metavar="N", help="images a step (default: 64)")
    group.add_argument(
        "--learning-rate",
        type=number,
        default=rate,
        metavar="R",
        help=f"at the beginning (default: {rate:g})",
    )
    group.add_argument("--l1", type=number, default=0.0, metavar="R", help="L1 penalty (default: 0)")
    group.add_argument("--l2", type=number, default=1e-4, metavar="R", help="L2 penalty (default: 1e-4)")
    group.add_argument(
        "--dropout",
        type=_rate,
        default=0.0,
        metavar="R",
        help="rate of the dense network between fully connected layers; scaled by the square "
        "root of the share of weights kept (default: 0)",
    )
    group.add_argument(
        "--teacher",
        type=Path,
        metavar="MODEL",
        help="train towards the answers of this float network, as a rule the dense one, instead of labels",
    )
    group.add_argument(
        "--temperature",
        type=number,
        default=4.0,
        metavar="T",
        help="the teacher's scores are divided by T before they become probabilities (default: 4)",
    )
    group.add_argument(
        "--shift",
        type=_whole,
        default=0,
        metavar="N",
        help="move each image by up to N pixels up or down and left or right, at random each time it is "
        "trained on; its border is repeated (default: 0)",
    )
    group.add_argument("--seed", type=_whole, default=1, metavar="N", help="default: 1")


def training_settings(arguments: argparse.Namespace) -> TrainingSettings:
    """The settings that the options say."""
    from quant.compression.training import TrainingSettings

    return TrainingSettings(
        arguments.epochs,
        arguments.batch,
        arguments.learning_rate,
        arguments.l1,
        arguments.l2,
        arguments.dropout,
        arguments.seed,
        arguments.shift,
    )


def training_checkpoint(arguments: argparse.Namespace, *results: str) -> Checkpoint:
    """The checkpoint beside ``--output``; a line is printed if it holds the state of an interrupted run.

    Parameters
    ----------
    results : str
        Options that the training does not depend on, besides output, json and quiet.
    """
    from quant.compression.checkpoint import Checkpoint, fingerprint

    names = {"output", "json", "quiet", "run", *results}
    identity = fingerprint(
        **{name: value for name, value in vars(arguments).items() if name not in names},
        data_file=Path(arguments.data),
    )
    path = None
    if arguments.output is not None:
        path = arguments.output.with_name(arguments.output.name + ".checkpoint")
    checkpoint = Checkpoint(path, identity)
    if checkpoint.load() is not None:
        print(f"going on from {path}")
    return checkpoint


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """What is trained on, what is chosen by, and what is reported on; the last may be left out."""

    training: LabelledData
    validation: LabelledData
    test: LabelledData | None


def training_images(arguments: argparse.Namespace, graph: Graph) -> TrainingImages:
    """The data that the options say.

    Raises
    ------
    CompressionError, DataError
        If they cannot be read, have no labels or do not fit the network, or if the teacher does not; if its
        input cannot be shifted as far as asked for.
    """
    from quant.compression.labelled_data import labelled_data, split
    from quant.compression.training import check_shift
    from quant.data import load_images

    check_shift(arguments.shift, graph.shapes[graph.input])
    preparation = preparation_of(arguments)

    def read(path: str, count: int | None = None) -> LabelledData:
        return labelled_data(graph, load_images(path).spread(count), preparation, arguments.layout)

    data = read(arguments.data, arguments.images)
    test = None if arguments.test is None else read(arguments.test)
    if arguments.validation is not None:
        training, validation = data, read(arguments.validation)
    else:
        training, validation = split(data, _VALIDATION_SHARE, arguments.seed)
    if arguments.teacher is not None:
        training = _taught(arguments, graph, training)
    return TrainingImages(training, validation, test)


def _taught(arguments: argparse.Namespace, graph: Graph, training: LabelledData) -> LabelledData:
    """Labels by the teacher."""
    from quant.compression.error import CompressionError
    from quant.compression.teacher import taught
    from quant.compression.trainable import TrainableNetwork, best_device
    from quant.onnx_import import import_model

    teacher = import_model(arguments.teacher, input_shape=arguments.input_shape)
    for what, ours, theirs in (
        ("inputs", graph.shapes[graph.input], teacher.shapes[teacher.input]),
        ("outputs", graph.shapes[graph.output], teacher.shapes[teacher.output]),
    ):
        if ours != theirs:
            raise CompressionError(
                f"{arguments.teacher}: its {what} have the shape {theirs}, those of {graph.name} {ours}; "
                "a teacher must have the same"
            )
    return taught(training, TrainableNetwork(teacher, best_device()), arguments.temperature)
