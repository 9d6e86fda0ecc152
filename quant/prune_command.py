"""``python -m quant prune``: fewer weights with retraining, or fewer filters (`docs/compression.md`)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.whole_file import check_distinct, check_writable, write_whole
from quant.inspect import input_shape
from quant.preparation_arguments import positive
from quant.text_table import aligned
from quant.training_arguments import add_training_arguments, number, training_images, training_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from quant.compression.checkpoint import Checkpoint
    from quant.compression.pruning import Pruning, PruningPlan
    from quant.compression.sensitivity import Sensitivity
    from quant.compression.trainable import TrainableNetwork
    from quant.compression.training import TrainingSettings
    from quant.graph import Graph
    from quant.training_arguments import TrainingImages

__all__ = ["add_parser", "pruning_table", "run", "scan_table"]

_EXAMPLES = """\
examples:
  python -m quant prune net.onnx --data train.npz --divide 255 --scan --plot scan.svg
  python -m quant prune net.onnx --data train.npz --divide 255 --total 0.08 -o pruned.onnx
  python -m quant prune net.onnx --data train.npz --divide 255 --keep 0.1,conv=0.5 -o pruned.onnx
  python -m quant prune net.onnx --data train.npz --divide 255 --quality conv=0.8,fc=1.5 -o pruned.onnx
  python -m quant prune net.onnx --data train.npz --divide 255 --max-loss 2 --rounds 5 -o pruned.onnx
  python -m quant prune net.onnx --data train.npz --divide 255 --channels 0.5 -o narrow.onnx
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``prune`` subcommand."""
    parser = subparsers.add_parser(
        "prune",
        help="remove weights or filters and retrain",
        description="Remove the smallest weights of a float network in rounds, retraining after each; "
        "or whole filters, so that the network gets narrower. Without an aim, --scan only measures how "
        "much of each layer can go. An interrupted run goes on where it was when started again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="float ONNX model")
    parser.add_argument("-o", "--output", type=Path, metavar="PRUNED.onnx", help="file to write")
    aim = parser.add_mutually_exclusive_group()
    aim.add_argument(
        "--total",
        type=number,
        metavar="SHARE",
        help="keep this share of all weights; each layer's share follows from the scan",
    )
    aim.add_argument(
        "--keep",
        metavar="SHARES",
        help="share of weights kept: 0.1, or 0.1,conv=0.5,fc3=0.25 for exceptions by name or kind",
    )
    aim.add_argument(
        "--quality",
        metavar="FACTORS",
        help="remove weights below FACTOR times the layer's standard deviation",
    )
    aim.add_argument(
        "--max-loss",
        type=number,
        metavar="POINTS",
        help="keep as much of each layer as loses POINTS when it is pruned alone, before retraining",
    )
    parser.add_argument(
        "--channels",
        metavar="SHARES",
        help="first keep this share of each layer's filters, those of the largest norms",
    )
    parser.add_argument("--norm", choices=("l1", "l2"), default="l2", help="norm of filters (default: l2)")
    parser.add_argument("--scan", action="store_true", help="print how sensitive each layer is")
    parser.add_argument(
        "--rounds",
        type=positive,
        default=4,
        metavar="N",
        help="prune and retrain N times, each time more (default: 4)",
    )
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=input_shape,
        help="the input's shape, where the model leaves it open",
    )
    add_training_arguments(parser, epochs=8, rate=1e-3, stage="in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables as JSON, too")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the scan: .svg or .png")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Scan, prune, print the tables, write the files that were asked for."""
    from quant.calibrate_command import write_json
    from quant.compression.checkpoint import Checkpoint, fingerprint
    from quant.compression.trainable import TrainableNetwork, best_device
    from quant.float_onnx import write_float_model
    from quant.onnx_import import import_model
    from quant.sensitivity_plot import sensitivity_plot
    from quant.sweep_plot import check_plot

    _check_usage(arguments)
    check_plot(arguments.plot)
    graph = import_model(arguments.model, input_shape=arguments.input_shape)
    _plan(arguments, graph, None)  # unknown layers are refused before anything long
    filters = _filters(arguments, graph)
    images, settings = training_images(arguments, graph), training_settings(arguments)
    device = best_device()
    print(
        f"{graph.name}: {len(images.training):,} images to train on, "
        f"{len(images.validation):,} to choose by; "
        f"{device.type}, seed {settings.seed}"
    )
    network = TrainableNetwork(graph, device)
    result: dict[str, Any] = {"network": graph.name, "seed": settings.seed}
    if images.test is not None:
        result["dense_test_accuracy"] = network.accuracy(images.test)
    outputs = ("output", "json", "plot", "quiet", "run", "scan")
    identity = fingerprint(
        **{name: value for name, value in vars(arguments).items() if name not in outputs},
        data_file=Path(arguments.data),
    )
    path = (
        None
        if arguments.output is None
        else arguments.output.with_name(arguments.output.name + ".checkpoint")
    )
    checkpoint = Checkpoint(path, identity)
    going_on = checkpoint.load() is not None
    if going_on:
        print(f"going on from {path}")
    if filters:
        network = _narrowed(
            arguments, network, filters, images, settings, skip=going_on, path=path, identity=identity
        )
        result["channels"] = {name: len(kept) for name, kept in filters.items()}
    scan = None
    if arguments.scan or arguments.plot or arguments.total is not None or arguments.max_loss is not None:
        scan = _scan(arguments, network, images, checkpoint)
        print(scan_table(scan))
        result["scan"] = scan.to_json()
    plan = _plan(arguments, network.graph, scan)
    if plan is not None:
        pruning = _pruned(arguments, network, plan, images, settings, checkpoint)
        print(pruning_table(pruning))
        result["pruning"] = pruning.to_json()
    if images.test is not None:
        result["test_accuracy"] = network.accuracy(images.test)
        print(
            f"top-1 on {len(images.test):,} test images: {100 * result['dense_test_accuracy']:.2f} % before, "
            f"{100 * result['test_accuracy']:.2f} % after"
        )
    if arguments.output is not None:
        write_float_model(network.to_graph(), arguments.output)
        print(f"wrote {arguments.output}")
    if arguments.json is not None:
        write_json(result, arguments.json)
    if arguments.plot is not None and scan is not None:
        write_whole(arguments.plot, sensitivity_plot(scan, arguments.plot.suffix))
        print(f"wrote {arguments.plot}")
    checkpoint.remove()
    return 0


def _check_usage(arguments: argparse.Namespace) -> None:
    """Refuse what would be found wrong only after long work."""
    from quant.compression.error import CompressionError

    aims = (arguments.total, arguments.keep, arguments.quality, arguments.max_loss, arguments.channels)
    wanted = any(aim is not None for aim in aims)
    if wanted and arguments.output is None:
        raise CompressionError("nothing says where the pruned network goes; give -o PRUNED.onnx")
    if not wanted and not arguments.scan:
        raise CompressionError(
            "nothing says how much to prune; give --total, --keep, --quality, --max-loss or "
            "--channels, or --scan to only measure"
        )
    if arguments.total is not None and not 0 < arguments.total <= 1:
        raise CompressionError(f"--total must be above 0 and at most 1, not {arguments.total:g}")
    check_distinct(arguments.model, arguments.output, arguments.json, arguments.plot)
    for path in (arguments.output, arguments.json, arguments.plot):
        check_writable(path)


def _plan(arguments: argparse.Namespace, graph: Graph, scan: Sensitivity | None) -> PruningPlan | None:
    """What the options ask for; None if they do not, or if it depends on a scan that there is not yet."""
    from quant.compression.layer_numbers import LayerNumbers
    from quant.compression.pruning import PruningPlan

    if arguments.keep is not None:
        shares = LayerNumbers.parse(arguments.keep, "share of weights kept", 0, 1, 1.0).of(graph)
        return PruningPlan(shares=shares, rounds=arguments.rounds)
    if arguments.quality is not None:
        numbers = LayerNumbers.parse(arguments.quality, "quality factor", 0, float("inf"), 0.0)
        return PruningPlan(qualities=numbers.of(graph), rounds=arguments.rounds)
    if scan is None:
        return None
    if arguments.total is not None:
        return PruningPlan(shares=scan.shares_for_total(arguments.total), rounds=arguments.rounds)
    if arguments.max_loss is not None:
        return PruningPlan(shares=scan.shares_for_loss(arguments.max_loss / 100), rounds=arguments.rounds)
    return None


def _filters(arguments: argparse.Namespace, graph: Graph) -> dict[str, Any]:
    """The filters to keep of each layer, by index; says which layers are skipped and why.

    Raises
    ------
    CompressionError
        If a layer is named whose filters cannot be removed, or none is left of one.
    """
    from quant.compression.channels import fixed_channels, largest_filters
    from quant.compression.error import CompressionError
    from quant.compression.layer_numbers import LayerNumbers, layers_of

    if arguments.channels is None:
        return {}
    numbers = LayerNumbers.parse(arguments.channels, "share of filters kept", 0, 1, 1.0)
    shares, fixed, filters = numbers.of(graph), fixed_channels(graph), {}
    for name, node in layers_of(graph).items():
        if shares[name] == 1:
            continue
        if name in fixed and name in numbers.named(graph):
            raise CompressionError(f"{name}: its filters cannot be removed, because {fixed[name]}")
        if name in fixed:
            print(f"note: {name} keeps all filters: {fixed[name]}")
        else:
            filters[name] = largest_filters(node, shares[name], arguments.norm)
    return filters


def _bar(arguments: argparse.Namespace, total: int, what: str, unit: str = "image") -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit=unit, leave=False, disable=arguments.quiet or None)


def _narrowed(
    arguments: argparse.Namespace,
    network: TrainableNetwork,
    filters: dict[str, Any],
    images: TrainingImages,
    settings: TrainingSettings,
    *,
    skip: bool,
    path: Path | None,
    identity: str,
) -> TrainableNetwork:
    """The network with only these filters, retrained unless a later stage's checkpoint has its weights."""
    from quant.compression.channels import shrink
    from quant.compression.checkpoint import Checkpoint
    from quant.compression.trainable import TrainableNetwork
    from quant.compression.training import train_masked

    before = network.accuracy(images.validation)
    narrow = TrainableNetwork(shrink(network.graph, filters), network.device)
    if skip:
        return narrow
    checkpoint = Checkpoint(path, identity + "/channels")
    removed = narrow.accuracy(images.validation)
    state = checkpoint.load()
    if state is not None:
        narrow.load(state["network"])

    def save(trained: object) -> None:
        checkpoint.save({"network": narrow.state(), "training": trained})

    with _bar(arguments, settings.epochs * len(images.training), "channels") as bar:
        if state is not None:
            bar.update(len(images.training) * state["training"]["epoch"])
        train_masked(
            narrow,
            images.training,
            settings,
            stage=999,
            after_epoch=save,
            resumed=None if state is None else state["training"],
            progress=bar.update,
        )
    after = narrow.accuracy(images.validation)
    print(
        f"filters removed: {narrow.size():,} of {network.size():,} weights left; validation top-1 "
        f"{100 * before:.2f} %, {100 * removed:.2f} % without them, {100 * after:.2f} % retrained"
    )
    return narrow


def _scan(
    arguments: argparse.Namespace, network: TrainableNetwork, images: TrainingImages, checkpoint: Checkpoint
) -> Sensitivity:
    """The scan, from the checkpoint if it has one: the network has changed since."""
    from quant.compression.sensitivity import SHARES, Sensitivity, scan_sensitivity

    if "scan" in checkpoint.notes:
        return Sensitivity.from_json(checkpoint.notes["scan"])
    with _bar(arguments, len(SHARES) * len(network.weights), "scan", "run") as bar:

        def advance(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        scan = scan_sensitivity(network, images.validation, progress=advance)
    checkpoint.notes["scan"] = scan.to_json()
    return scan


def _pruned(
    arguments: argparse.Namespace,
    network: TrainableNetwork,
    plan: PruningPlan,
    images: TrainingImages,
    settings: TrainingSettings,
    checkpoint: Checkpoint,
) -> Pruning:
    from quant.compression.pruning import prune

    with _bar(arguments, plan.rounds * settings.epochs * len(images.training), "pruning") as bar:
        advance: Callable[[str, int], None] = lambda what, count: (  # noqa: E731
            bar.set_description(what, refresh=False),
            bar.update(count),
        )[1]
        return prune(
            network,
            plan,
            images.training,
            images.validation,
            settings,
            checkpoint=checkpoint,
            progress=advance,
        )


def scan_table(scan: Sensitivity) -> str:
    """The scan for people: top-1 in percent for each layer and share kept."""
    shares = scan.shares[::2]
    rows = [("layer", "kind", "weights", "all", *(f"{100 * share:g} %" for share in shares))]
    for layer in scan.layers:
        found = [f"{100 * accuracy:.1f}" for accuracy in layer.accuracy[::2]]
        rows.append((layer.name, layer.kind, f"{layer.size:,}", f"{100 * scan.accuracy:.1f}", *found))
    lines = aligned(rows, left=2)
    title = f"top-1 on {scan.images:,} validation images with one layer pruned to a share of its weights"
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]])


def pruning_table(pruning: Pruning) -> str:
    """The result for people."""
    rows = [("layer", "kind", "weights", "kept", "kept %", "threshold")]
    for layer in pruning.layers:
        rows.append(
            (
                layer.name,
                layer.kind,
                f"{layer.weights:,}",
                f"{layer.kept:,}",
                f"{100 * layer.kept / layer.weights:.1f}",
                f"{layer.threshold:.3g}",
            )
        )
    weights = sum(layer.weights for layer in pruning.layers)
    kept = sum(layer.kept for layer in pruning.layers)
    rows.append(
        ("total", "", f"{weights:,}", f"{kept:,}", f"{100 * pruning.kept:.1f}", f"{weights / kept:.1f}x")
    )
    lines = aligned(rows, left=2)
    rounds = [
        f"round {index}: {100 * each.kept:.1f} % kept, validation top-1 "
        f"{100 * each.pruned_accuracy:.2f} % pruned, {100 * each.retrained_accuracy:.2f} % retrained"
        for index, each in enumerate(pruning.rounds, 1)
    ]
    return "\n".join(
        [
            f"validation top-1 before: {100 * pruning.dense_accuracy:.2f} %",
            *rounds,
            lines[0],
            "-" * len(lines[0]),
            *lines[1:],
        ]
    )
