"""``python -m quant lowrank``: layers as two of low rank, which cost less (`docs/lowrank.md`)."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.whole_file import check_distinct, check_writable
from quant.inspect import input_shape
from quant.low_rank.projection import METHODS
from quant.preparation_arguments import positive
from quant.training_arguments import (
    add_training_arguments,
    number,
    training_checkpoint,
    training_images,
    training_settings,
)

if TYPE_CHECKING:
    import torch

    from quant.compression.labelled_data import LabelledData
    from quant.compression.trainable import TrainableNetwork
    from quant.graph import Graph
    from quant.low_rank.approximate import LowRankLayer, Plan
    from quant.low_rank.costs import CostModel
    from quant.training_arguments import TrainingImages, training_checkpoint

__all__ = ["add_parser", "run"]

#: Images on which responses are sampled (TPAMI 2016, section 4: 3,000 are enough).
_IMAGES = 3000

_EXAMPLES = """\
examples:
  python -m quant lowrank net.onnx --data images.npz --divide 255 --speedup 3 -o low.onnx
  python -m quant lowrank net.onnx --data images.npz --layers conv --speedup 3 --cost macs -o low.onnx
  python -m quant lowrank net.onnx --data train.npz --speedup 4 --epochs 5 --test test.npz -o low.onnx
  python -m quant lowrank net.onnx --data images.npz --ranks conv2=12,fc1=64 -o low.onnx
  python -m quant lowrank net.onnx --method svd --ranks 0.95 -o low.onnx
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``lowrank`` subcommand."""
    parser = subparsers.add_parser(
        "lowrank",
        help="replace layers by two of low rank that cost less",
        description="Replace each convolution of a float network by one with fewer filters and a 1x1 one "
        "behind it, and each fully connected layer by two, so that the network keeps its responses as well "
        "as it can within a cost. Images need labels only for --epochs, --validation and --test. An "
        "interrupted fine-tuning goes on where it was when started again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="float ONNX model")
    parser.add_argument("-o", "--output", type=Path, metavar="LOW.onnx", required=True, help="file to write")
    aim = parser.add_mutually_exclusive_group(required=True)
    aim.add_argument(
        "--speedup", type=number, metavar="X", help="layers together cost X times less; ranks follow"
    )
    aim.add_argument("--share", type=number, metavar="S", help="the same as a share of the cost, 0.33 say")
    aim.add_argument(
        "--ranks",
        metavar="RANKS",
        help="conv2=12,fc=0.95: ranks by name, pattern or kind; below 1: least with this share of energy",
    )
    parser.add_argument(
        "--layers",
        metavar="NAMES",
        help="look at these only: names, patterns, conv or fc, with commas (default: all)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="nonlinear",
        help="how factors of convolutions are found: SVD of the weights; PCA of the responses; "
        "least squares behind approximated layers, before or after the activation (default: nonlinear)",
    )
    parser.add_argument(
        "--fc-method",
        choices=METHODS,
        default="svd",
        help="the same for fully connected layers (default: svd)",
    )
    parser.add_argument(
        "--spatial",
        metavar="RANKS",
        help="first split k x k kernels into k x 1 and 1 x k, with so many filters between: conv2=24, or a "
        "share of energy such as 0.9",
    )
    parser.add_argument(
        "--positions",
        type=positive,
        default=10,
        metavar="N",
        help="places of each feature map that responses are taken from (default: 10)",
    )
    cost = parser.add_argument_group("cost")
    cost.add_argument(
        "--cost",
        choices=("cycles", "macs"),
        default="cycles",
        help="of the machine, as the compiler estimates it, or multiplications (default: cycles)",
    )
    cost.add_argument(
        "--machine",
        type=Path,
        metavar="FILE.json",
        help="the machine, as `python -m compiler fit -o` writes it (default: the default machine)",
    )
    cost.add_argument("--board", metavar="BOARD", help="whose memory it has (default: ulx3s-85f)")
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=input_shape,
        help="the input's shape, where the model leaves it open",
    )
    add_training_arguments(parser, epochs=0, rate=1e-4, stage="of fine-tuning", required=False)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Choose ranks, replace layers, fine-tune if asked, print the table, write the files."""
    from quant.calibrate_command import write_json
    from quant.compression.error import CompressionError
    from quant.compression.trainable import TrainableNetwork, best_device
    from quant.float_onnx import write_float_model
    from quant.low_rank.approximate import approximate
    from quant.low_rank.report import low_rank_table
    from quant.onnx_import import import_model

    _check_usage(arguments)
    graph = import_model(arguments.model, input_shape=arguments.input_shape)
    names = _names(arguments, graph)
    costs = _cost_model(arguments)
    images = training_images(arguments, graph) if arguments.epochs else None
    reported = _reported(arguments, graph, images)
    responses = _responses(arguments, graph, images)
    with _bar(arguments, 0 if responses is None else len(responses.inputs), "responses") as bar:
        plan = _plan(arguments, graph, names, costs, responses, bar.update)
    ranks = _ranks(arguments, graph, plan)
    if not any(ranks.values()):
        raise CompressionError(
            "no layer gets cheaper: " + "; ".join(f"{name}: {why}" for name, why in plan.left.items())
            if plan.left
            else "no layer is to be approximated; ask for more with --speedup or --ranks"
        )
    count = sum(rank is not None for rank in ranks.values())
    total = 0 if responses is None else count * len(responses.inputs)
    with _bar(arguments, total, "low rank") as bar:

        def advance(name: str, more: int) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update(more)

        approximation = approximate(graph, plan, ranks, responses, advance)
    print(f"{graph.name}: seed {arguments.seed}")
    print(low_rank_table(plan, approximation, costs.unit))
    network = TrainableNetwork(approximation.graph, best_device())
    before = TrainableNetwork(graph, network.device)
    result: dict[str, Any] = {
        "network": graph.name,
        "seed": arguments.seed,
        "unit": costs.unit,
        "layers": [asdict(layer) for layer in approximation.layers],
        "left": dict(plan.left),
        "cost": [sum(costs.costs(each).values()) for each in (graph, approximation.graph)],
    }
    was, now = result["cost"]
    print(f"the whole network: {was:,.0f} {costs.unit}, now {now:,.0f}, {was / now:.2f} times less")
    accuracy: dict[str, dict[str, float]] = {what: {} for what in reported}

    def measure(when: str, measured: TrainableNetwork) -> None:
        for what, data in reported.items():
            accuracy[what][when] = measured.accuracy(data)

    measure("before", before)
    measure("low_rank", network)
    checkpoint = None
    if images is not None:
        checkpoint = _fine_tune(arguments, network, approximation.layers, images)
        measure("fine_tuned", network)
    for what, found in accuracy.items():
        shown = ", ".join(f"{100 * value:.2f} % {when.replace('_', ' ')}" for when, value in found.items())
        print(f"top-1 on {len(reported[what]):,} {what} images: {shown}")
    result["accuracy"] = accuracy
    write_float_model(network.to_graph() if images is not None else approximation.graph, arguments.output)
    print(f"wrote {arguments.output}")
    if arguments.json is not None:
        write_json(result, arguments.json)
    if checkpoint is not None:
        checkpoint.remove()
    return 0


def _check_usage(arguments: argparse.Namespace) -> None:
    """Refuse what would be found wrong only after long work."""
    from quant.compression.error import CompressionError

    if arguments.speedup is not None and arguments.speedup <= 1:
        raise CompressionError(f"--speedup must be above 1, not {arguments.speedup:g}")
    if arguments.share is not None and not 0 < arguments.share < 1:
        raise CompressionError(f"--share must be above 0 and below 1, not {arguments.share:g}")
    if arguments.data is None and (arguments.epochs or arguments.validation or arguments.test):
        raise CompressionError("fine-tuning and accuracy need images; give --data")
    if arguments.cost == "macs" and (arguments.machine or arguments.board):
        raise CompressionError("--machine and --board say nothing of --cost macs; leave them out")
    check_distinct(arguments.model, arguments.output, arguments.json)
    for path in (arguments.output, arguments.json):
        check_writable(path)


def _names(arguments: argparse.Namespace, graph: Graph) -> list[str]:
    """The layers to look at."""
    from quant.compression.error import CompressionError
    from quant.compression.layer_numbers import fitting_layers, layers_of

    layers = layers_of(graph)
    if arguments.layers is None:
        return list(layers)
    wanted: set[str] = set()
    for pattern in arguments.layers.split(","):
        fitting = fitting_layers(pattern.strip(), graph)
        if not fitting:
            raise CompressionError(
                f"--layers: {pattern.strip()} fits no layer with weights; there are {', '.join(layers)}"
            )
        wanted.update(fitting)
    return [name for name in layers if name in wanted]


def _cost_model(arguments: argparse.Namespace) -> CostModel:
    from quant.low_rank.costs import MACS, CostModel

    if arguments.cost == "macs":
        return MACS
    # the compiler comes after this package and is only asked for the cost of a graph
    import json

    from quant.compression.error import CompressionError

    try:
        from boards.registry import find_board
        from compiler.graph_cycles import GraphCycles
        from hw.machine import Machine, MachineError
        from sim.memory_settings import board_settings
    except ImportError as error:
        raise CompressionError(
            f"{error.name} is not installed, and cycles need it: pip install pointshift[all], or give "
            "--cost macs"
        ) from None
    machine = Machine()
    if arguments.machine is not None:
        try:
            machine = Machine.from_json(json.loads(arguments.machine.read_text()))
        except (OSError, ValueError) as error:
            raise MachineError(f"{arguments.machine}: not a machine's description ({error})") from None
    board = find_board(arguments.board or "ulx3s-85f")
    memory = board_settings(board.external.kind, board.external.data_bits, board.clock_mhz)
    return CostModel("cycles", GraphCycles(machine, memory), step=4, most=24)


def _reported(
    arguments: argparse.Namespace, graph: Graph, images: TrainingImages | None
) -> dict[str, LabelledData]:
    """The images that accuracy is printed for."""
    from quant.compression.labelled_data import labelled_data
    from quant.data import load_images
    from quant.preparation_arguments import preparation_of

    if images is not None:
        test = {} if images.test is None else {"test": images.test}
        return {"validation": images.validation, **test}
    preparation = preparation_of(arguments)
    return {
        what: labelled_data(graph, load_images(path), preparation, arguments.layout)
        for what, path in (("validation", arguments.validation), ("test", arguments.test))
        if path is not None
    }


def _responses(arguments: argparse.Namespace, graph: Graph, images: TrainingImages | None) -> Any:
    """Where responses come from: images to train on if there are labels, else all of ``--data``."""
    from quant.low_rank.responses import Responses

    if arguments.data is None or arguments.method == arguments.fc_method == "svd":
        return None
    inputs = _inputs(arguments, graph) if images is None else images.training.inputs
    chosen = range(len(inputs)) if len(inputs) <= _IMAGES else _spread(len(inputs), _IMAGES)
    return Responses(inputs[list(chosen)], arguments.positions, arguments.seed)


def _spread(count: int, wanted: int) -> list[int]:
    return [index * count // wanted for index in range(wanted)]


def _inputs(arguments: argparse.Namespace, graph: Graph) -> torch.Tensor:
    import numpy as np
    import torch

    from quant.compression.error import CompressionError
    from quant.data import load_images, prepare
    from quant.fixed_model import Preparation
    from quant.preparation_arguments import preparation_of

    images = load_images(arguments.data).spread(min(arguments.images or _IMAGES, _IMAGES))
    if not len(images):
        raise CompressionError(f"{images.name}: it holds no images; give some")
    preparation = preparation_of(arguments) or Preparation()
    shape = graph.shapes[graph.input]
    batches = prepare(images, preparation, shape, graph.input_layout, arguments.layout, 256)
    return torch.from_numpy(np.concatenate(list(batches)))


def _plan(
    arguments: argparse.Namespace,
    graph: Graph,
    names: list[str],
    costs: CostModel,
    responses: Any,
    progress: Any,
) -> Plan:
    from quant.low_rank.approximate import plan_layers
    from quant.low_rank.rank_numbers import given_ranks
    from quant.low_rank.spatial import spatial_energies

    middle = {}
    if arguments.spatial is not None:
        energies = spatial_energies(graph, names)
        middle = given_ranks(
            arguments.spatial, graph, energies, "spatial rank", "its kernel cannot be split, or is left out"
        )
    methods = {"conv": arguments.method, "fc": arguments.fc_method}
    return plan_layers(graph, names, costs, responses, methods, middle, progress)


def _ranks(arguments: argparse.Namespace, graph: Graph, plan: Plan) -> dict[str, int | None]:
    from quant.low_rank.rank_numbers import given_ranks

    if arguments.ranks is None:
        return plan.ranks_for(arguments.speedup or 1 / arguments.share)
    energies = {name: choices.energy for name, choices in plan.choices.items()}
    ranks: dict[str, int | None] = {}
    for name, rank in given_ranks(arguments.ranks, graph, energies).items():
        choices = plan.choices[name]
        if choices.costs[rank] < choices.whole:
            ranks[name] = rank
        else:
            print(f"note: {name} stays as it is: at rank {rank} it costs no less")
    return ranks


def _bar(arguments: argparse.Namespace, total: int, what: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="image", leave=False, disable=arguments.quiet or None)


def _fine_tune(
    arguments: argparse.Namespace,
    network: TrainableNetwork,
    layers: tuple[LowRankLayer, ...],
    images: TrainingImages,
) -> Any:
    """Train; the checkpoint is to be removed when the result is written."""
    from quant.low_rank.fine_tuning import fine_tune

    checkpoint, settings = training_checkpoint(arguments), training_settings(arguments)
    state = checkpoint.load()
    if state is not None:
        network.load(state["network"])

    def save(trained: object) -> None:
        checkpoint.save({"network": network.state(), "training": trained})

    with _bar(arguments, settings.epochs * len(images.training), "fine-tuning") as bar:
        if state is not None:
            bar.update(len(images.training) * state["training"]["epoch"])
        fine_tune(
            network,
            layers,
            images.training,
            settings,
            after_epoch=save,
            resumed=None if state is None else state["training"],
            progress=bar.update,
        )
    return checkpoint
