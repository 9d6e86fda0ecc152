"""``python -m quant compare``: where a fixed-point model loses what its float model had, layer by layer."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from hw.whole_file import check_writable
from quant.preparation_arguments import add_data_arguments, preparation_of
from quant.refusal import printable
from quant.text_table import aligned

if TYPE_CHECKING:
    from quant.fixed_model import Preparation
    from quant.layer_diagnosis import Diagnosis, LayerDiagnosis, Noise

__all__ = ["add_parser", "conclusion", "run", "steepest_fall", "table"]

_DEFAULT_IMAGES = 256

_EXAMPLES = """\
examples:
  python -m quant compare net.onnx fixed.onnx --data test.npz
  python -m quant compare net.onnx fixed.onnx --data test.npz --images 100 --report errors.html
"""


_HEADS = ("layer", "kind", "format", "weights", "whole", "injected", "inherited", "clipped")
_EFFECT_HEADS = ("output", "softmax", "top-1")

_TITLE = """\
signal/noise in dB, fixed point against float
whole: the network so far; injected: by this layer; inherited: from its inputs; clipped: share of its values
with only this layer in fixed point: output: signal/noise there; softmax: its divergence from float, in nats
(log loss); top-1: images whose answer changes"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``compare`` subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="where a fixed-point model loses accuracy",
        description="Run a float model and the fixed-point model calibrated from it side by side, and say "
        "for each layer what error it adds, what it inherits, and what it costs alone at the network's "
        "output. Images are prepared as the fixed-point model records.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("float_model", type=Path, metavar="FLOAT.onnx", help="float model")
    parser.add_argument("model", type=Path, metavar="FIXED.onnx", help="fixed-point model calibrated from it")
    add_data_arguments(parser, f"use N images, evenly spread over the set (default: {_DEFAULT_IMAGES})")
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write a page with plots and histograms, too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the table and the conclusion, write the files that were asked for."""
    from tqdm import tqdm

    from quant.calibrate_command import write_json
    from quant.data import images_per_batch, load_images, prepare
    from quant.diagnosis import diagnose
    from quant.input_gain import with_input_gain
    from quant.network_match import check_same_network
    from quant.onnx_file import shape_is_open
    from quant.onnx_import import import_model
    from quant.qdq_import import read_fixed_model
    from quant.report_page import write_report

    check_writable(arguments.json)
    check_writable(arguments.report)
    model = read_fixed_model(arguments.model)
    model = model.prepared_as(preparation_of(arguments), arguments.model)
    shape = model.graph.shapes[model.graph.input]
    open_shape = shape if shape_is_open(arguments.float_model) else None
    graph = import_model(arguments.float_model, input_shape=open_shape)
    check_same_network(graph, model)
    graph = with_input_gain(graph, model.preparation.gain)
    images = load_images(arguments.data).spread(arguments.images or _DEFAULT_IMAGES)
    layout, size = model.graph.input_layout, images_per_batch(graph)
    # every image passes twice: for the ranges, and for the errors
    with tqdm(total=2 * len(images), unit="image", leave=False, disable=arguments.quiet or None) as bar:
        diagnosis = diagnose(
            graph,
            model,
            lambda: prepare(images, model.preparation, shape, layout, arguments.layout, size),
            output_effects=True,
            progress=bar.update,
        )
    print(table(diagnosis))
    if arguments.json is not None:
        worst, steepest = diagnosis.worst(), diagnosis.steepest()
        names = {"worst": worst and worst.name, "steepest": steepest and steepest.name}
        write_json({**diagnosis.to_json(), **names}, arguments.json)
    if arguments.report is not None:
        settings = {
            "float model": str(arguments.float_model),
            "fixed-point model": str(arguments.model),
            "images": f"{len(images)} of {arguments.data}",
            "preparation": _preparation_text(model.preparation),
        }
        write_report(diagnosis, arguments.report, f"{diagnosis.network}: fixed point against float", settings)
        print(f"wrote {arguments.report}")
    print(steepest_fall(diagnosis))
    print(conclusion(diagnosis))
    return 0


def _preparation_text(preparation: Preparation) -> str:
    """What is done to an image, without what is left as it is."""
    from quant.fixed_model import Preparation

    parts = []
    for name, value in dataclasses.asdict(preparation).items():
        if value != getattr(Preparation(), name):
            numbers = value if isinstance(value, tuple) else (value,)
            parts.append(f"{name.replace('_', ' ')} {', '.join(str(number) for number in numbers)}")
    return "; ".join(parts) or "none"


def table(diagnosis: Diagnosis) -> str:
    """The diagnosis for people, layer by layer; ratios in decibels, shares in percent."""
    rows = [(*_HEADS, *_EFFECT_HEADS), *(_row(layer) for layer in diagnosis.layers)]
    lines = aligned(rows, left=2)
    title = f"{printable(diagnosis.network)}: {diagnosis.images} images; {_TITLE}"
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]])


def _row(layer: LayerDiagnosis) -> tuple[str, ...]:
    name = printable(layer.name)
    weights = ""
    if layer.weights is not None:
        low, high = layer.weights.fl
        weights = f"{layer.weights.format}" + ("" if low == high else f"…{high}")
    effect = layer.output
    return (
        name if len(name) <= 40 else "…" + name[-39:],
        layer.kind,
        str(layer.format),
        weights,
        _decibels(layer.whole),
        _decibels(layer.injected),
        _decibels(layer.inherited),
        _percent(layer.clipped),
        "" if effect is None else _decibels(effect.noise),
        "" if effect is None or effect.divergence is None else _nats(effect.divergence),
        "" if effect is None else _percent(effect.changed),
    )


def _decibels(noise: Noise) -> str:
    return "exact" if noise.relative == 0.0 else f"{noise.db:.1f}"


def _percent(share: float) -> str:
    if 0.0 < share < 1e-5:
        return "<0.001 %"
    return "-" if share == 0.0 else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %"


def _nats(divergence: float) -> str:
    return "-" if divergence == 0.0 else "<0.0001" if divergence < 1e-4 else f"{divergence:.2g}"


def steepest_fall(diagnosis: Diagnosis) -> str:
    """One sentence that names the first layer at which the whole network's signal/noise falls most."""
    layer = diagnosis.steepest()
    if layer is None or layer.fall is None:
        return "signal/noise falls at no layer that has an error at its input"
    return (
        f"signal/noise falls most at {printable(layer.name)}: by {layer.fall:.1f} dB, from "
        f"{layer.whole.db + layer.fall:.1f} dB at its input to {layer.whole.db:.1f} dB"
    )


def conclusion(diagnosis: Diagnosis) -> str:
    """One sentence that names the layer that alone costs most at the network's output, with figures."""
    layer = diagnosis.worst()
    if layer is None:
        return "no layer adds an error: on these images, fixed point computes what float computes"
    effect = layer.output
    if effect is None or not math.isfinite(effect.noise.db):
        return (
            f"the largest error is injected by {printable(layer.name)}: {layer.injected.db:.1f} dB; all "
            f"layers together leave {_decibels(diagnosis.output)} dB at the output"
        )
    softmax, total = "", ""
    if effect.divergence is not None and diagnosis.divergence is not None:
        softmax = f", moves the softmax by {effect.divergence:.2g} nats"
        total = f", {diagnosis.divergence:.2g} nats"
    return (
        f"most is lost in {printable(layer.name)}: alone in fixed point, it leaves {effect.noise.db:.1f} dB "
        f"at the output{softmax} and changes {100 * effect.changed:.1f} % of the top-1 answers; all layers "
        f"together: {diagnosis.output.db:.1f} dB{total}, {100 * diagnosis.changed:.1f} %"
    )
