"""Layers of low rank on Fashion-MNIST: ``python -m bench.low_rank``.

The convolutions of the bundled LeNet-5 and of a small network like VGG, which is trained here, get 2, 3 and 4
times fewer multiplications by each method without training, and 3 and 4 times with it.  The last 5,000 of the
60,000 training images validate: settings were chosen by them.  (The bundled LeNet-5 was trained on them,
too, so that they only tell settings of fine-tuning apart.)  The 10,000 test images are only reported on.
``--write`` puts the result into `bench/low_rank.json`, which `docs/lowrank.md` shows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from bench.stored_rows import keep_row, rows_by_network
from hw.whole_file import check_writable, write_whole
from models.train_lenet5 import read_idx
from quant.compression.checkpoint import fingerprint
from quant.compression.labelled_data import LabelledData
from quant.compression.layer_numbers import kind_of, layers_of
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train_masked
from quant.float_onnx import write_float_model
from quant.graph import Graph
from quant.low_rank.approximate import Approximation, approximate, plan_layers
from quant.low_rank.costs import MACS, mac_costs
from quant.low_rank.fine_tuning import fine_tune
from quant.low_rank.projection import METHODS
from quant.low_rank.responses import Responses
from quant.onnx_import import import_model
from quant.text_table import aligned

__all__ = ["BARS", "NETWORKS", "RESULTS", "Recipe", "main", "measure", "page_table", "summary"]

RESULTS = Path(__file__).with_name("low_rank.json")
_LENET5 = Path(__file__).parents[1] / "models" / "lenet5.onnx"
_TRAINED = Path(__file__).parents[1] / "build" / "bench"
_VALIDATION_IMAGES, _RESPONSE_IMAGES = 5_000, 3_000
_SPEEDUPS = (2.0, 3.0, 4.0)
_SEEDS = (1, 2, 3)

#: Points of accuracy that fine-tuned convolutions may lose at so many times fewer multiplications.
BARS = {3.0: 0.5, 4.0: 1.0}


@dataclass(frozen=True)
class Recipe:
    """A network and its settings.

    Attributes
    ----------
    widths : tuple of int
        Filters of the network like VGG, two convolutions each and a pooling layer; empty: LeNet-5.
    images : int
        The first ones of the training images, which are trained on, here and in fine-tuning.
    epochs : int
        In which the network is trained.
    fine_tuning : TrainingSettings
        Of the network with layers of low rank; with another seed in each run.
    """

    widths: tuple[int, ...]
    images: int
    epochs: int
    fine_tuning: TrainingSettings


NETWORKS = {
    "LeNet-5": Recipe((), 55_000, 0, TrainingSettings(3, learning_rate=1e-3, dropout=0.5)),
    "VGG": Recipe((16, 32, 64), 20_000, 8, TrainingSettings(3, learning_rate=1e-3)),
}


@dataclass(frozen=True)
class _Images:
    training: LabelledData
    validation: LabelledData
    test: LabelledData


def _images(folder: Path) -> _Images:
    """All that is not for validation or tests may be trained on."""

    def read(part: str) -> LabelledData:
        images = read_idx(folder / f"{part}-images-idx3-ubyte")
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte")
        return LabelledData(torch.tensor(images)[:, None] / 255.0, torch.tensor(labels, dtype=torch.int64))

    known = read("train")
    first, last = torch.arange(len(known)).split([len(known) - _VALIDATION_IMAGES, _VALIDATION_IMAGES])
    return _Images(known.take(first), known.take(last), read("t10k"))


def _vgg(widths: Sequence[int]) -> nn.Module:
    layers: list[nn.Module] = []
    inputs, size = 1, 28
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        inputs, size = width, size // 2
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * size * size, 10))
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network


def _dense(name: str, seed: int, recipe: Recipe, images: _Images, again: bool, quiet: bool) -> Graph:
    """The network to approximate; one that was trained here is kept in ``build/bench``."""
    if not recipe.widths:
        return import_model(_LENET5)
    settings = TrainingSettings(epochs=recipe.epochs, learning_rate=2e-3, l2=5e-4, seed=seed)
    identity = fingerprint(widths=recipe.widths, images=recipe.images, settings=asdict(settings))
    path = _TRAINED / f"low_rank_{identity[:16]}.onnx"
    if path.exists() and not again:
        return import_model(path)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = TrainableNetwork(import_model(_vgg(recipe.widths), input_shape=(1, 28, 28)))
    total = recipe.epochs * len(images.training)
    with tqdm(total=total, unit="image", desc=f"{name}, seed {seed}, training", disable=quiet) as bar:
        train_masked(network, images.training, settings, stage=100, progress=bar.update)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_float_model(network.to_graph(), path)
    return import_model(path)


def measure(
    name: str, seed: int, images: _Images, *, again: bool = False, quiet: bool = False, test: bool = True
) -> dict[str, Any]:
    """One network by every method, then fine-tuned; accuracies in percent.

    Parameters
    ----------
    seed : int
        Of the training, the places of responses and fine-tuning.
    again : bool
        Train the network even if one is kept.
    test : bool
        Whether to look at the test images, too; without, only settings are to be chosen.
    """
    recipe = NETWORKS[name]
    recipe = replace(recipe, fine_tuning=replace(recipe.fine_tuning, seed=seed))
    training = images.training.take(torch.arange(recipe.images))
    images = replace(images, training=training)
    graph = _dense(name, seed, recipe, images, again, quiet)
    convolutions = [each for each, node in layers_of(graph).items() if kind_of(node, graph) == "conv"]
    main = {"test": images.test} if test else {"validation": images.validation}

    def accuracy(network: TrainableNetwork, **more: LabelledData) -> dict[str, float]:
        return {what: 100 * network.accuracy(data) for what, data in {**main, **more}.items()}

    responses = Responses(images.training.inputs[:_RESPONSE_IMAGES], seed=seed)
    result: dict[str, Any] = {
        "network": name,
        "seed": seed,
        "recipe": asdict(recipe),
        "macs": sum(mac_costs(graph)[each] for each in convolutions),
        "dense": accuracy(TrainableNetwork(graph), validation=images.validation),
        "untrained": [],
        "fine_tuned": [],
    }
    what = f"{name}, seed {seed}"
    with tqdm(total=len(METHODS) * len(_SPEEDUPS), unit="run", desc=what, disable=quiet) as bar:
        for method in METHODS:
            methods = {"conv": method, "fc": method}
            plan = plan_layers(graph, convolutions, MACS, responses, methods)
            for speedup in _SPEEDUPS:
                found = approximate(graph, plan, plan.ranks_for(speedup), responses)
                entry = {"method": method, "speedup": speedup, "macs": _macs(found, convolutions)}
                entry["accuracy"] = accuracy(TrainableNetwork(found.graph))
                result["untrained"].append(entry)
                bar.update()
                if method == METHODS[-1] and speedup in BARS:
                    fine = _fine_tuned(found, recipe, images, f"{what}, {speedup:g}x", quiet)
                    layers = [asdict(layer) for layer in found.layers]
                    after = accuracy(fine, validation=images.validation)
                    result["fine_tuned"].append({**entry, "accuracy": after, "layers": layers})
    return result


def _macs(found: Approximation, names: Sequence[str]) -> float:
    """Multiplications of what became of the convolutions."""
    costs, parts = mac_costs(found.graph), {layer.name: layer.parts for layer in found.layers}
    return sum(costs[part] for name in names for part in parts.get(name, (name,)))


def _fine_tuned(
    found: Approximation, recipe: Recipe, images: _Images, what: str, quiet: bool
) -> TrainableNetwork:
    network, settings = TrainableNetwork(found.graph), recipe.fine_tuning
    total = settings.epochs * len(images.training)
    with tqdm(total=total, unit="image", desc=f"{what}, fine-tuning", leave=False, disable=quiet) as bar:
        advance: Callable[[int], object] = bar.update
        fine_tune(network, found.layers, images.training, settings, progress=advance)
    return network


def _lost(row: dict[str, Any], speedup: float, what: str) -> dict[str, float]:
    """Points of accuracy lost at a speedup, by method and ``"fine-tuned"``."""
    dense = row["dense"][what]
    runs = [(each["method"], each) for each in row["untrained"]]
    runs += [("fine-tuned", each) for each in row["fine_tuned"]]
    return {name: dense - each["accuracy"][what] for name, each in runs if each["speedup"] == speedup}


def _fewer(row: dict[str, Any], speedup: float) -> float:
    """How many times fewer multiplications the last method leaves at a speedup."""
    chosen = (each for each in row["untrained"] if each["speedup"] == speedup)
    return row["macs"] / next(each["macs"] for each in chosen if each["method"] == METHODS[-1])


_LOSSES = (*METHODS, "fine-tuned")


def _verdict(speedup: float, losses: Sequence[dict[str, float]]) -> str:
    """Whether the mean meets the bar, if there is one."""
    if "fine-tuned" not in losses[0]:
        return ""
    met = mean(loss["fine-tuned"] for loss in losses) <= BARS[speedup] + 1e-9
    return f"{BARS[speedup]:.1f} {'met' if met else 'MISSED'}"


def summary(rows: Sequence[dict[str, Any]], what: str = "test") -> list[str]:
    """Points of accuracy lost on the ``"test"`` or the ``"validation"`` images: each seed, then the mean."""
    table = [("network", "seed", "fewer MACs", "accuracy", *_LOSSES, "bar")]
    for name, own in rows_by_network(rows).items():
        for speedup in _SPEEDUPS:
            for some in [[row] for row in own] + ([own] if len(own) > 1 else []):
                losses = [_lost(row, speedup, what) for row in some]
                fewer = mean(_fewer(row, speedup) for row in some)
                table.append(
                    (
                        name,
                        str(some[0]["seed"]) if len(some) == 1 else "mean",
                        f"{fewer:.2f}x",
                        f"{mean(row['dense'][what] for row in some):.2f} %",
                        *(
                            f"{mean(loss[kind] for loss in losses):.2f}" if kind in losses[0] else ""
                            for kind in _LOSSES
                        ),
                        _verdict(speedup, losses),
                    )
                )
    return aligned(table, left=2)


def page_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table of `docs/lowrank.md`: means, and seeds that differ in brackets."""

    def cell(values: Sequence[float], unit: str = "") -> str:
        listed = f" ({', '.join(f'{value:.2f}' for value in values)})" if len(set(values)) > 1 else ""
        return f"{mean(values):.2f}{unit}{listed}"

    heads = ("network", "fewer MACs", "accuracy", *_LOSSES, "bar")
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join(["---"] * len(heads)) + " |"]
    for name, own in rows_by_network(rows).items():
        for speedup in _SPEEDUPS:
            losses = [_lost(row, speedup, "test") for row in own]
            dense = [row["dense"]["test"] for row in own]
            cells = (
                name,
                f"{mean(_fewer(row, speedup) for row in own):.2f}x",
                cell(dense, " %"),
                *(cell([loss[kind] for loss in losses]) if kind in losses[0] else "" for kind in _LOSSES),
                _verdict(speedup, losses),
            )
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.low_rank",
        description=__doc__,
        epilog="examples:\n  python -m bench.low_rank\n  python -m bench.low_rank --only LeNet-5 --seeds 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=tuple(NETWORKS), help="can be repeated")
    parser.add_argument("--seeds", type=int, nargs="+", default=_SEEDS, help="default: 1 2 3")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        metavar="FOLDER",
        help="Fashion-MNIST as Debian's dataset-fashion-mnist has it (default: %(default)s)",
    )
    parser.add_argument("--again", action="store_true", help="train what build/bench keeps, too")
    parser.add_argument("--settings", action="store_true", help="only validation images, to choose by")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--write", action="store_true", help=f"put it into {RESULTS.name}")
    parser.add_argument("--page", action="store_true", help=f"print the table of {RESULTS.name}, and end")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parsed = parser.parse_args(arguments)
    check_writable(parsed.json)
    if parsed.page:
        print("\n".join(page_table(json.loads(RESULTS.read_text()))))
        return 0
    torch.set_num_threads(1)
    try:
        images = _images(parsed.data)
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    what, rows = "validation" if parsed.settings else "test", []
    for name in parsed.only or NETWORKS:
        for seed in parsed.seeds:
            chosen = {"again": parsed.again, "quiet": parsed.quiet, "test": not parsed.settings}
            rows.append(measure(name, seed, images, **chosen))
            print("\n".join(summary(rows[-1:], what)), flush=True)
            if parsed.json is not None:
                write_whole(parsed.json, json.dumps(rows, indent=1) + "\n")
            if parsed.write:
                keep_row(RESULTS, rows[-1], tuple(NETWORKS))
    if len(rows) > 1:
        print("\n".join(summary(rows, what)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
