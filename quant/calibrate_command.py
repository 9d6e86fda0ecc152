"""``python -m quant calibrate``: a float ONNX model and images become a fixed-point ONNX model."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hw.whole_file import check_distinct, check_writable, write_whole
from quant.inspect import input_shape
from quant.preparation_arguments import add_data_arguments, preparation_of
from quant.search import FORMATS, STEPS, Search, SearchError
from quant.text_table import aligned
from quant.width_arguments import add_width_arguments, budget_of, widths_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quant.calibrate import CalibrationReport, LayerReport
    from quant.data import ImageSet
    from quant.fixed_model import FixedModel
    from quant.graph import Graph

__all__ = ["add_parser", "run", "table", "write_json"]

_DEFAULT_IMAGES = 256

_EXAMPLE = """\
examples:
  python -m quant calibrate resnet.onnx --data calibration.npz -o resnet.fixed.onnx \\
      --divide 255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  python -m quant calibrate net.onnx --data images/ -o net.fixed.onnx \\
      --weight-bits 8,fc=4 --report net.html
  python -m quant calibrate net.onnx --data images/ -o small.onnx --budget 5bits
  python -m quant calibrate net.onnx --data images/ -o paper.onnx --formats absolute --without all
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
    add_width_arguments(parser)
    parser.add_argument(
        "--formats",
        choices=FORMATS,
        default="greedy",
        help="least squared error, least absolute error as in the paper, or largest magnitude",
    )
    parser.add_argument(
        "--without",
        type=_steps,
        default=(),
        metavar="STEP,…",
        help=f"leave out steps of the search: {', '.join(STEPS)}; or all",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write a page with plots and histograms, too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, write the file, print the table."""
    from tqdm import tqdm

    from quant.calibrate import calibrate
    from quant.data import images_per_batch, load_images, prepare
    from quant.fixed_model import Preparation
    from quant.mixed_widths import find_widths, trade_off_table
    from quant.onnx_import import import_model
    from quant.qdq import write_fixed_model

    check_distinct(arguments.model, arguments.output, arguments.json, arguments.report)
    for path in (arguments.output, arguments.json, arguments.report):
        check_writable(path)
    weight_bits, activation_bits = widths_of(arguments)
    budget = budget_of(arguments)
    graph = import_model(arguments.model, input_shape=arguments.input_shape)
    of_weights, of_maps = weight_bits.weights_of(graph), activation_bits.maps_of(graph)
    preparation = preparation_of(arguments) or Preparation()
    images = load_images(arguments.data).spread(arguments.images or _DEFAULT_IMAGES)
    search = Search.without(*arguments.without, formats=arguments.formats)

    def batches() -> Iterator[NDArray[np.float32]]:
        shape, layout = graph.shapes[graph.input], graph.input_layout
        return prepare(images, preparation, shape, layout, arguments.layout, images_per_batch(graph))

    mixed = None
    with tqdm(total=len(graph.nodes), unit="layer", leave=False, disable=arguments.quiet or None) as bar:

        def advance(name: str) -> None:
            bar.update()

        if budget is not None:
            bar.total = None  # how many points of the curve are tried is not known beforehand
            mixed = find_widths(graph, batches, budget, of_maps, search=search, progress=advance)
            of_weights = mixed.chosen.bits
        model, report = calibrate(
            graph,
            batches(),
            of_weights,
            of_maps,
            preparation,
            search=search,
            progress=advance,
        )
    write_fixed_model(model, arguments.output)
    print(table(report))
    if mixed is not None:
        print(trade_off_table(mixed))
    print(f"wrote {arguments.output}")
    if arguments.json is not None:
        curve = {} if mixed is None else {"trade_off": mixed.to_json()}
        write_json({**report.to_json(), **curve}, arguments.json)
    if arguments.report is not None:
        _write_page(arguments, graph, model, images, report)
        print(f"wrote {arguments.report}")
    return 0


def _write_page(
    arguments: argparse.Namespace,
    graph: Graph,
    model: FixedModel,
    images: ImageSet,
    report: CalibrationReport,
) -> None:
    """The diagnosis of the new model on the images that it was calibrated on."""
    from tqdm import tqdm

    from quant.data import images_per_batch, prepare
    from quant.diagnosis import diagnose
    from quant.report_page import write_report

    shape, size = graph.shapes[graph.input], images_per_batch(graph)
    with tqdm(
        total=2 * len(images), desc="report", unit="image", leave=False, disable=arguments.quiet or None
    ) as bar:
        diagnosis = diagnose(
            model.graph,
            model,
            lambda: prepare(
                images, model.preparation, shape, graph.input_layout, arguments.layout, size
            ),
            output_effects=True,
            progress=bar.update,
        )
    settings = {
        "float model": str(arguments.model),
        "fixed-point model": str(arguments.output),
        "calibration": f"{len(images)} images of {arguments.data}",
        "search": report.search,
        "time": f"{report.forward_passes:.1f} times the float network's on the same images",
    }
    write_report(diagnosis, arguments.report, f"{report.network}: calibration", settings)


def _steps(text: str) -> tuple[str, ...]:
    steps = STEPS if text == "all" else tuple(text.split(","))
    try:
        Search.without(*steps)
    except SearchError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return steps


def table(report: CalibrationReport) -> str:
    """The report for people: formats are sign or unsigned, width, and fractional length."""
    rows = [("layer", "kind", "range", "format", "weights", "mean error", "signal/noise dB")]
    rows += [_row(layer) for layer in report.layers]
    lines = aligned(rows, left=2)
    title = (
        f"{report.network}: {report.images} calibration images; format = s(igned) or u(nsigned), bits, "
        "fractional length"
    )
    cost = f"search: {report.search}; took {report.forward_passes:.1f} times the float network's time"
    return "\n".join([title, cost, lines[0], "-" * len(lines[0]), *lines[1:]])


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
