"""``python -m quant ternarize``: weights of three values by training (`docs/compression.md`)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.whole_file import check_distinct, check_writable
from quant.inspect import input_shape
from quant.text_table import aligned
from quant.training_arguments import (
    add_training_arguments,
    training_checkpoint,
    training_images,
    training_settings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quant.compression.ternary import TernaryLayer, TernaryPlan
    from quant.graph import Graph

__all__ = ["add_parser", "run", "ternary_table"]

_DEFAULT_THRESHOLD = "0.05"

_EXAMPLES = """\
examples:
  python -m quant ternarize net.onnx --data train.npz --divide 255 --test test.npz -o ternary.onnx
  python -m quant ternarize net.onnx --data train.npz --divide 255 --zeros 0.5,fc=0.8 -o ternary.onnx
  python -m quant ternarize net.onnx --data train.npz --divide 255 --layers 'block?.*' --leave fc \\
      --epochs 20 -o ternary.onnx
  python -m quant calibrate ternary.onnx --data train.npz --divide 255 -o fixed.onnx
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``ternarize`` subcommand."""
    parser = subparsers.add_parser(
        "ternarize",
        help="train weights of three values",
        description="Train a float network so that the weights of each layer are -Wn, 0 and +Wp, with a "
        "trained Wp and Wn. The first and the last layer stay float. An interrupted run goes on where it was "
        "when started again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="float ONNX model")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="TERNARY.onnx", help="file to write"
    )
    zeros = parser.add_mutually_exclusive_group()
    zeros.add_argument(
        "--threshold",
        default=_DEFAULT_THRESHOLD,
        metavar="T",
        help="weights up to T times the largest magnitude of their layer are zero: 0.05, or "
        f"0.05,conv=0.1,fc3=0.2 for exceptions by name or kind (default: {_DEFAULT_THRESHOLD})",
    )
    zeros.add_argument(
        "--zeros",
        metavar="SHARES",
        help="instead, the share of a layer's weights that are zero, written alike",
    )
    parser.add_argument(
        "--layers",
        metavar="NAMES",
        help="the layers that become ternary: names, patterns, conv or fc, with commas between "
        "(default: all but the first and the last)",
    )
    parser.add_argument("--leave", metavar="NAMES", help="layers that stay float, after --layers")
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=input_shape,
        help="the input's shape, where the model leaves it open",
    )
    add_training_arguments(parser, epochs=10, rate=2e-3, stage="to train")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, print the table, write the files."""
    from tqdm import tqdm

    from quant.calibrate_command import write_json
    from quant.compression.ternary import TernaryWeights
    from quant.compression.trainable import TrainableNetwork, best_device
    from quant.float_onnx import write_float_model
    from quant.onnx_import import import_model

    check_distinct(arguments.model, arguments.output, arguments.json)
    for path in (arguments.output, arguments.json):
        check_writable(path)
    graph = import_model(arguments.model, input_shape=arguments.input_shape)
    plan = _plan(arguments, graph)
    images, settings = training_images(arguments, graph), training_settings(arguments)
    device = best_device()
    print(
        f"{graph.name}: {len(images.training):,} images to train on, "
        f"{len(images.validation):,} to check with; "
        f"{device.type}, seed {settings.seed}"
    )
    network = TrainableNetwork(graph, device)
    measured = {"validation": images.validation, **({} if images.test is None else {"test": images.test})}
    accuracy = {name: [network.accuracy(data)] for name, data in measured.items()}
    ternary = TernaryWeights(network, plan)
    for name, data in measured.items():
        accuracy[name].append(network.accuracy(data))
    checkpoint = training_checkpoint(arguments, "test")
    total = settings.epochs * len(images.training)
    with tqdm(
        total=total, desc="ternary weights", unit="image", leave=False, disable=arguments.quiet or None
    ) as bar:
        ternary.train(images.training, settings, checkpoint=checkpoint, progress=bar.update)
    for name, data in measured.items():
        accuracy[name].append(network.accuracy(data))
    layers = ternary.layers()
    print(ternary_table(layers))
    result: dict[str, Any] = {"network": graph.name, "seed": settings.seed}
    for name, (before, without, after) in accuracy.items():
        print(
            f"top-1 on {len(measured[name]):,} {name} images: {100 * before:.2f} % before, "
            f"{100 * without:.2f} % ternary, {100 * after:.2f} % trained"
        )
        result[f"{name}_accuracy"] = {"before": before, "ternary": without, "trained": after}
    write_float_model(network.to_graph(), arguments.output)
    print(f"wrote {arguments.output}")
    if arguments.json is not None:
        write_json({**result, "layers": [layer.to_json() for layer in layers]}, arguments.json)
    checkpoint.remove()
    return 0


def _plan(arguments: argparse.Namespace, graph: Graph) -> TernaryPlan:
    """What the options ask for; unknown layers are refused before anything long."""
    from quant.compression.error import CompressionError
    from quant.compression.layer_numbers import LayerNumbers, layers_of
    from quant.compression.ternary import TernaryPlan

    names = list(layers_of(graph))
    chosen = set(names[1:-1]) if arguments.layers is None else _fitting(arguments.layers, graph)
    if arguments.leave is not None:
        chosen -= _fitting(arguments.leave, graph)
    if not chosen:
        raise CompressionError(
            f"no layer is left to become ternary; choose some of {', '.join(names)} with --layers"
        )
    if arguments.zeros is not None:
        numbers = LayerNumbers.parse(arguments.zeros, "share of zeros", 0, 1, 0.5).of(graph)
    else:
        numbers = LayerNumbers.parse(
            arguments.threshold, "threshold", 0, 1, float(_DEFAULT_THRESHOLD)
        ).of(graph)
    wanted = {name: numbers[name] for name in names if name in chosen}
    return TernaryPlan({}, wanted) if arguments.zeros is not None else TernaryPlan(wanted, {})


def _fitting(text: str, graph: Graph) -> set[str]:
    """The layers that names, patterns and kinds with commas between them fit."""
    from quant.compression.error import CompressionError
    from quant.compression.layer_numbers import KINDS, fitting_layers, layers_of

    found: set[str] = set()
    for pattern in text.split(","):
        fitting = fitting_layers(pattern.strip(), graph)
        if not fitting and pattern.strip() not in KINDS:
            raise CompressionError(
                f"{pattern.strip()!r} fits no layer with weights; there are {', '.join(layers_of(graph))}"
            )
        found.update(fitting)
    return found


def ternary_table(layers: Sequence[TernaryLayer]) -> str:
    """The layers for people."""
    rows = [("layer", "kind", "weights", "bits", "zeros %", "Wp", "Wn")]
    for layer in layers:
        values = [f"{value:.4g}" if layer.bits == 2 else "" for value in (layer.positive, layer.negative)]
        rows.append(
            (
                layer.name,
                layer.kind,
                f"{layer.weights:,}",
                str(layer.bits),
                f"{100 * layer.zeros:.1f}" if layer.bits == 2 else "",
                *values,
            )
        )
    lines = aligned(rows, left=2)
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
