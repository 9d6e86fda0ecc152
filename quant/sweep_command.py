"""``python -m quant sweep``: static against dynamic precision at several widths (`docs/precision.md`)."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from hw.whole_file import check_writable, write_whole
from quant.inspect import input_shape
from quant.preparation_arguments import add_data_arguments, positive, preparation_of
from quant.refusal import printable
from quant.text_table import aligned

if TYPE_CHECKING:
    from quant.data import ImageSet
    from quant.sweep import Sweep, SweepRow

__all__ = ["add_parser", "conclusion", "images_of", "run", "table"]

_DEFAULT_IMAGES = 200

_EXAMPLES = """\
examples:
  python -m quant sweep net.onnx --data calibration.npz --test test.npz --divide 255
  python -m quant sweep net.onnx --data images/ --images 50 --crop --plot precision.svg
  python -m quant sweep net.onnx --data calibration.npz --test test.npz \\
      --settings 8/8,8/8:fc=4,8:input=12/6
"""

_HEADS = ("data/weights", "scheme", "data step", "weight step", "top-1", "top-5", "agrees", "model", "moved")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``sweep`` subcommand."""
    parser = subparsers.add_parser(
        "sweep",
        help="accuracy and size at several widths, static against dynamic precision",
        description="Quantize a network at several widths with one format for the whole network (static), "
        "with one for each layer as in the paper, and with all steps of the search (dynamic); say what "
        "each keeps of the float network's accuracy, and how many bytes it has and moves.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="float ONNX model")
    add_data_arguments(
        parser, f"calibrate on N images, evenly spread over the set (default: {_DEFAULT_IMAGES})"
    )
    parser.add_argument(
        "--test",
        metavar="IMAGES",
        help="images to evaluate on (default: those of --data that were not calibrated on)",
    )
    parser.add_argument(
        "--test-images", type=positive, metavar="N", help="evaluate on the first N images (default: all)"
    )
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=input_shape,
        help="the input's shape, where the model leaves it open",
    )
    parser.add_argument(
        "--settings",
        metavar="DATA/WEIGHTS,…",
        help="bits of feature maps and of weights; exceptions by name, as calibrate takes them, follow a "
        "colon: 8/8:fc=4, 8:input=12/6. For a comma, slash or colon in a name write ? "
        "(default: those of the paper's Table 3 and narrower ones)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON, too")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw a plot, too: .svg or .png")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the sweep, print the table and the conclusion, write the files that were asked for."""
    from tqdm import tqdm

    from quant.calibrate_command import write_json
    from quant.data import labels_that_fit
    from quant.onnx_import import import_model
    from quant.sweep import SCHEMES, default_settings, parse_settings, sweep
    from quant.sweep_plot import check_plot, sweep_plot

    check_writable(arguments.json)
    check_writable(arguments.plot)
    check_plot(arguments.plot)
    settings = None if arguments.settings is None else parse_settings(arguments.settings)
    graph = import_model(arguments.model, input_shape=arguments.input_shape)
    if settings is None:
        settings = default_settings(graph)
    calibration, evaluation, apart = images_of(
        arguments.data, arguments.images or _DEFAULT_IMAGES, arguments.test, arguments.test_images
    )
    evaluation = labels_that_fit(evaluation, math.prod(graph.shapes[graph.output]))
    rows = 1 + len(SCHEMES) * len(settings)
    with tqdm(
        total=rows * len(evaluation), unit="image", leave=False, disable=arguments.quiet or None
    ) as bar:

        def show(what: str, images: int) -> None:
            bar.set_description(what, refresh=not images)
            bar.update(images)

        result = sweep(
            graph,
            calibration,
            evaluation,
            settings,
            preparation_of(arguments),
            apart=apart,
            layout=arguments.layout,
            progress=show,
        )
    print(table(result))
    print(conclusion(result))
    if arguments.json is not None:
        write_json(result.to_json(), arguments.json)
    if arguments.plot is not None:
        write_whole(arguments.plot, sweep_plot(result, arguments.plot.suffix))
        print(f"wrote {arguments.plot}")
    return 0


def images_of(
    data: str, count: int, test: str | None, test_count: int | None
) -> tuple[ImageSet, ImageSet, bool]:
    """Images for calibration and for evaluation, and whether they are apart.

    Parameters
    ----------
    data, test : str
        Where they are; without ``test``, evaluation takes those of ``data`` that calibration leaves, and
        all if it leaves none.
    count, test_count : int
        How many: spread over the set for calibration, the first for evaluation (None: all).

    Raises
    ------
    DataError
        If they cannot be read.
    """
    import numpy as np

    from quant.data import load_images

    images = load_images(data)
    calibration = images.spread(count)
    if test is not None:
        apart = Path(test).resolve() != Path(data).resolve()
        return calibration, load_images(test).first(test_count), apart
    taken = np.arange(len(calibration)) * len(images) // len(calibration)
    left = np.setdiff1d(np.arange(len(images)), taken)
    evaluation = images.take(left) if len(left) else images
    return calibration, evaluation.first(test_count), bool(len(left))


def table(result: Sweep) -> str:
    """The sweep for people: shares in percent, sizes in bytes, steps as powers of two."""
    rows = [_HEADS, *(_row(row) for row in result.rows)]
    lines = aligned(rows, left=2)
    where = "others" if result.apart else "images that calibration may have seen"
    title = (
        f"{printable(result.network)}: {result.calibration_images} calibration images, evaluated on "
        f"{result.evaluation_images} {where}"
    )
    units = "agrees: with float's top-1; model, moved: bytes of its weights, and moved for one image"
    return "\n".join([title, units, lines[0], "-" * len(lines[0]), *lines[1:]])


def _row(row: SweepRow) -> tuple[str, ...]:
    return (
        "" if row.scheme == "float" else row.setting,
        row.scheme,
        _step(row.map_fl),
        _step(row.weight_fl),
        _percent(row.top1),
        _percent(row.top5),
        _percent(row.agreement),
        f"{row.model_bytes:,}",
        f"{row.moved_bytes:,}",
    )


def _step(lengths: tuple[int, int] | None) -> str:
    if lengths is None:
        return ""
    low, high = lengths
    return f"2^{-low}" if low == high else f"2^{-low}…{-high}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def conclusion(result: Sweep) -> str:
    """One sentence: where dynamic precision is furthest ahead of static precision, and by how much."""
    labelled = result.rows[0].top1 is not None

    def share(setting: str, scheme: str) -> float:
        row = result.row(setting, scheme)
        return row.agreement if row.top1 is None else row.top1

    setting = max(result.settings(), key=lambda name: share(name, "dynamic") - share(name, "static"))
    static, dynamic = share(setting, "static"), share(setting, "dynamic")
    what = "top-1" if labelled else "agreement with float"
    if dynamic <= static:
        return f"dynamic precision is ahead of static precision at none of these widths ({what})"
    return (
        f"dynamic precision is furthest ahead at {setting}: {what} {100 * dynamic:.2f} % against "
        f"{100 * static:.2f} % with static precision"
    )
