"""``python -m quant calibrate``: a float ONNX model and images become a fixed-point ONNX model."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from hw.whole_file import check_writable, write_whole
from quant.inspect import input_shape
from quant.preparation_arguments import add_data_arguments, preparation_of

if TYPE_CHECKING:
    from quant.calibrate import CalibrationReport, LayerReport

__all__ = ["add_parser", "run", "table", "write_json"]

_DEFAULT_IMAGES = 256

_EXAMPLE = """\
example:
  python -m quant calibrate resnet.onnx --data calibration.npz -o resnet.fixed.onnx \\
      --divide 255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``calibrate`` subcommand."""
    parser = subparsers.add_parser(
        "calibrate",
        help="choose number formats and write a fixed-point model",
        description="Choose the number format of every layer's weights and feature maps on calibration "
        "images, and write the fixed-point model as QDQ ONNX.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="float ONNX model")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FIXED.onnx", help="file to write"
    )
    add_data_arguments(parser, f"use N images, evenly spread over the set (default: {_DEFAULT_IMAGES})")
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=input_shape,
        help="the input's shape, where the model leaves it open",
    )
    parser.add_argument("--weight-bits", type=int, default=8, metavar="BITS", help="2 to 16 (default: 8)")
    parser.add_argument("--activation-bits", type=int, default=8, metavar="BITS", help="2 to 16 (default: 8)")
    parser.add_argument(
        "--formats",
        choices=("greedy", "absolute", "max"),
        default="greedy",
        help="least squared error, least absolute error as in the paper, or largest magnitude",
    )
    parser.add_argument("--per-channel", action="store_true", help="a weight format for each output channel")
    parser.add_argument("--keep-biases", action="store_true", help="do not correct biases for the mean error")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, write the file, print the table."""
    from tqdm import tqdm

    from quant.calibrate import calibrate
    from quant.data import load_images, prepare
    from quant.fixed_model import Preparation
    from quant.number_format import check_width
    from quant.onnx_import import import_model
    from quant.qdq import write_fixed_model

    check_writable(arguments.output)
    check_writable(arguments.json)
    check_width(arguments.weight_bits, "weights")
    check_width(arguments.activation_bits, "feature maps")
    graph = import_model(arguments.model, input_shape=arguments.input_shape)
    preparation = preparation_of(arguments) or Preparation()
    images = load_images(arguments.data).spread(arguments.images or _DEFAULT_IMAGES)
    batches = prepare(images, preparation, graph.shapes[graph.input], graph.input_layout, arguments.layout)
    with tqdm(total=len(graph.nodes), unit="layer", leave=False, disable=arguments.quiet or None) as bar:
        model, report = calibrate(
            graph,
            batches,
            arguments.weight_bits,
            arguments.activation_bits,
            preparation,
            method=arguments.formats,
            per_channel=arguments.per_channel,
            correct_biases=not arguments.keep_biases,
            progress=lambda name: bool(bar.update()) or None,
        )
    write_fixed_model(model, arguments.output)
    print(table(report))
    print(f"wrote {arguments.output}")
    if arguments.json is not None:
        write_json(report.to_json(), arguments.json)
    return 0


def table(report: CalibrationReport) -> str:
    """The report for people: formats are sign or unsigned, width, and fractional length."""
    rows = [("layer", "kind", "range", "format", "weights", "mean error", "signal/noise dB")]
    rows += [_row(layer) for layer in report.layers]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    title = (
        f"{report.network}: {report.images} calibration images; format = s(igned) or u(nsigned), bits, "
        "fractional length"
    )
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]])


def _row(layer: LayerReport) -> tuple[str, ...]:
    weights = ""
    if layer.weight_fl is not None:
        low, high = layer.weight_fl
        weights = f"s{layer.weight_bits}.{low}" + ("" if low == high else f"…{high}")
    name = layer.name if len(layer.name) <= 40 else "…" + layer.name[-39:]
    noise = "exact" if math.isinf(layer.noise_db) and layer.noise_db > 0 else f"{layer.noise_db:.1f}"
    return (
        name,
        layer.kind,
        f"{layer.low:.4g} … {layer.high:.4g}",
        f"{'s' if layer.signed else 'u'}{layer.bits}.{layer.fl}",
        weights,
        f"{layer.error:.3g}",
        noise,
    )


def write_json(content: object, path: Path) -> None:
    """Write JSON, infinite and missing numbers as null."""
    write_whole(path, json.dumps(_finite(content), indent=1) + "\n")


def _finite(content: object) -> object:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
