"""``python -m quant evaluate``: accuracy of a fixed-point model, next to float and to onnxruntime."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hw.whole_file import check_writable
from quant.preparation_arguments import add_data_arguments, preparation_of
from quant.text_table import aligned

if TYPE_CHECKING:

    from quant.data import ImageSet
    from quant.fixed_model import FixedModel
    from quant.graph import Graph

__all__ = ["Evaluation", "EvaluationError", "add_parser", "evaluate", "run"]

_BATCH = 50

_EXAMPLES = """\
examples:
  python -m quant evaluate fixed.onnx --data test.npz
  python -m quant evaluate fixed.onnx --data test.npz --float net.onnx --images 1000 --json accuracy.json
"""


class EvaluationError(ValueError):
    """Models and images do not belong together; the message says which and what to do."""


@dataclass(frozen=True)
class Evaluation:
    """Shares of 1 over ``images`` images; None where there are no labels or no float model.

    Attributes
    ----------
    float_top1, float_top5, fixed_top1, fixed_top5 : float or None
        Labels among the largest 1 and 5 outputs of the float model and of `sim.reference`.
    agreement : float or None
        Images on which both have the same largest output.
    onnxruntime_top1 : float or None
        Top-1 of onnxruntime on the fixed-point file.
    onnxruntime_equal : float
        Images whose output integers are the same in onnxruntime and `sim.reference`.
    not_exact_in_float : tuple of str
        Tensors whose sums can pass 2^24 units: there onnxruntime may round differently.
    """

    network: str
    images: int
    float_top1: float | None
    fixed_top1: float | None
    float_top5: float | None
    fixed_top5: float | None
    agreement: float | None
    onnxruntime_top1: float | None
    onnxruntime_equal: float
    not_exact_in_float: tuple[str, ...] = ()


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``evaluate`` subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="accuracy of a fixed-point model",
        description="Top-1 and top-5 of a fixed-point model and its agreement with the float model, beside "
        "onnxruntime's on the same file. Images are prepared as the fixed-point model records.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="FIXED.onnx", help="fixed-point model")
    parser.add_argument("--float", type=Path, dest="float_model", metavar="MODEL.onnx", help="float model")
    add_data_arguments(parser, "use the first N images (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from quant.calibrate_command import write_json
    from quant.data import load_images
    from quant.onnx_file import shape_is_open
    from quant.onnx_import import import_model
    from quant.qdq_import import read_fixed_model

    check_writable(arguments.json)
    model = read_fixed_model(arguments.model)
    model = model.prepared_as(preparation_of(arguments), arguments.model)
    graph = None
    if arguments.float_model is not None:
        shape = model.graph.shapes[model.graph.input] if shape_is_open(arguments.float_model) else None
        graph = import_model(arguments.float_model, input_shape=shape)
    images = load_images(arguments.data).first(arguments.images)
    result = evaluate(model, arguments.model, images, graph, layout=arguments.layout, quiet=arguments.quiet)
    print(_table(result))
    if arguments.json is not None:
        write_json(asdict(result), arguments.json)
    return 0


def evaluate(
    model: FixedModel,
    path: Path,
    images: ImageSet,
    graph: Graph | None = None,
    *,
    layout: str | None = None,
    quiet: bool = True,
) -> Evaluation:
    """Run images through the float graph, the reference and onnxruntime.

    Parameters
    ----------
    path : Path
        The file that ``model`` was read from, for onnxruntime.
    layout : str or None
        As in `quant.data.prepare`.

    Raises
    ------
    EvaluationError
        If the float model has another input or output, or there are no images.
    DataError
        If the images do not fit.
    """
    import numpy as np
    import torch
    from tqdm import tqdm

    from quant.data import labels_that_fit, prepare
    from quant.fixed_model import inexact_in_float32
    from quant.float_run import run_float
    from quant.input_gain import with_input_gain
    from quant.sweep import top_share
    from sim.judge import OutputJudge
    from sim.reference import prepare_input
    from sim.reference import run as run_reference

    if not len(images):
        raise EvaluationError("there are no images to evaluate on; give at least one")
    fixed_graph = model.graph
    shape = fixed_graph.shapes[fixed_graph.input]
    if graph is not None:
        for what, own, other in (
            ("input (C, H, W)", shape, graph.shapes[graph.input]),
            ("output (C, H, W)", fixed_graph.shapes[fixed_graph.output], graph.shapes[graph.output]),
        ):
            if own != other:
                raise EvaluationError(
                    f"the float model {graph.name} has the {what} {other}, the fixed-point model "
                    f"{own}; give the model that it was calibrated from"
                )
        graph = with_input_gain(graph, model.preparation.gain)
    judge = OutputJudge(path, model)
    fixed, real, judged = [], [], []
    with tqdm(total=len(images), unit="image", leave=False, disable=quiet or None) as bar:
        for batch in prepare(images, model.preparation, shape, fixed_graph.input_layout, layout, _BATCH):
            integers = prepare_input(model, batch)
            fixed.append(
                run_reference(model, integers, {fixed_graph.output})[fixed_graph.output].reshape(
                    len(batch), -1
                )
            )
            judged.append(judge(batch).reshape(len(batch), -1))
            if graph is not None:
                found = run_float(graph, torch.from_numpy(batch), {graph.output})[graph.output]
                real.append(found.flatten(1).numpy())
            bar.update(len(batch))
    ours, theirs = np.concatenate(fixed), np.concatenate(judged)
    floats = np.concatenate(real) if real else None
    labels = labels_that_fit(images, ours.shape[1]).labels
    return Evaluation(
        fixed_graph.name,
        len(images),
        None if floats is None else top_share(floats, labels, 1),
        top_share(ours, labels, 1),
        None if floats is None else top_share(floats, labels, 5),
        top_share(ours, labels, 5),
        None if floats is None else float(np.mean(ours.argmax(1) == floats.argmax(1))),
        top_share(theirs, labels, 1),
        float(np.mean((ours == theirs).all(axis=1))),
        tuple(inexact_in_float32(model)),
    )


def _table(result: Evaluation) -> str:
    def percent(share: float | None) -> str:
        return "-" if share is None else f"{100 * share:.2f} %"

    rows = [
        ("", "top-1", "top-5", "agrees with float"),
        ("float", percent(result.float_top1), percent(result.float_top5), ""),
        ("fixed point", percent(result.fixed_top1), percent(result.fixed_top5), percent(result.agreement)),
        ("onnxruntime", percent(result.onnxruntime_top1), "", ""),
    ]
    lines = [f"{result.network}: {result.images} images", *aligned(rows, left=1)]
    lines.append(f"outputs equal to onnxruntime's: {percent(result.onnxruntime_equal)}")
    if result.not_exact_in_float:
        names = ", ".join(result.not_exact_in_float[:3])
        lines.append(
            f"sums can pass 2^24 units, where onnxruntime may round, in {len(result.not_exact_in_float)} "
            f"tensors ({names}{', …' if len(result.not_exact_in_float) > 3 else ''})"
        )
    return "\n".join(lines)
