"""Pruning and Deep Compression on MNIST: ``python -m bench.compression``.

Trains LeNet-300-100 and LeNet-5 on 7,000 images of `mnist10k.npz`, prunes and shares weights as
``python -m quant prune`` and ``compress`` do, and reports on the last 2,000 images, which nothing else sees.
1,000 of the first 8,000 images validate: every setting here was chosen by them.  Sizes are those of the
files.  ``--write`` puts the result into `bench/compression.json`, which `docs/compression.md` shows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from bench.accuracy_data import BenchDataError, shared_folder
from bench.stored_rows import keep_row, rows_by_network
from hw.whole_file import check_writable, write_whole
from quant.compression.labelled_data import LabelledData, labelled_data, split
from quant.compression.layer_numbers import LayerNumbers
from quant.compression.pruning import PruningPlan, prune
from quant.compression.report import compression_report, compression_table, encoded_file
from quant.compression.sensitivity import scan_sensitivity
from quant.compression.sharing import SharedWeights, clusters_of
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train_masked
from quant.data import load_images
from quant.fixed_model import Preparation
from quant.graph import Graph
from quant.onnx_import import import_model
from quant.text_table import aligned

__all__ = ["BARS", "NETWORKS", "RESULTS", "Recipe", "main", "measure", "page_table", "summary"]

RESULTS = Path(__file__).with_name("compression.json")
_TRAINING_IMAGES, _VALIDATION_SHARE = 8000, 0.125
_SEEDS = (1, 2, 3)

#: Least factor of fewer weights, least factor of fewer bytes, largest rise of the error in points.
BARS = (12.0, 38.0, 0.1)


@dataclass(frozen=True)
class Recipe:
    """A network and its settings.

    Attributes
    ----------
    dense_stages, dense_epochs : int
        The dense network is trained in so many stages, each from the full learning rate down to 0.
    total : float
        Share of all weights kept, as ``prune --total``.
    rounds, retraining_epochs : int
        As ``prune --rounds --epochs``.
    weight_bits : str
        As ``compress --weight-bits``.
    l2 : float
        As ``--l2``, also of the dense network.
    """

    dense_stages: int
    dense_epochs: int
    total: float
    rounds: int
    retraining_epochs: int
    weight_bits: str
    l2: float


NETWORKS = {
    "LeNet-300-100": Recipe(3, 15, 0.06, 4, 10, "5", 5e-4),
    "LeNet-5": Recipe(3, 8, 0.065, 4, 6, "conv=6,fc=5", 5e-4),
}


def _module(name: str) -> nn.Module:
    if name == "LeNet-300-100":
        sizes = ((784, 300), (300, 100), (100, 10))
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in sizes:
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


def _graph(name: str, seed: int) -> Graph:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return import_model(_module(name), input_shape=(1, 28, 28))


def _images() -> tuple[LabelledData, LabelledData]:
    """Those to train and validate on, and those to test on."""
    folder = shared_folder()
    file = None if folder is None else folder / "data" / "mnist10k.npz"
    if file is None or not file.exists():
        raise BenchDataError("data/mnist10k.npz is missing; POINTSHIFT_SHARED names the folder of data/")
    data = labelled_data(_graph("LeNet-5", 1), load_images(file), Preparation(255.0))
    places = torch.arange(len(data))
    return data.take(places[:_TRAINING_IMAGES]), data.take(places[_TRAINING_IMAGES:])


def measure(
    name: str, seed: int, known: LabelledData, test: LabelledData, quiet: bool = False
) -> dict[str, Any]:
    """One network trained, pruned and compressed; errors in percent of the test images."""
    recipe = NETWORKS[name]
    training, validation = split(known, _VALIDATION_SHARE, seed)
    retraining = TrainingSettings(epochs=recipe.retraining_epochs, l2=recipe.l2, seed=seed)
    epochs = recipe.dense_stages * recipe.dense_epochs + recipe.rounds * recipe.retraining_epochs + 4
    with tqdm(total=epochs * len(training), unit="image", desc=f"{name}, seed {seed}", disable=quiet) as bar:

        def advance(images: int) -> None:
            bar.update(images)

        network = TrainableNetwork(_graph(name, seed))
        dense_settings = TrainingSettings(epochs=recipe.dense_epochs, l2=recipe.l2, seed=seed)
        for stage in range(recipe.dense_stages):
            train_masked(network, training, dense_settings, stage=100 + stage, progress=advance)
        errors = {"dense": _error(network, test)}
        validated = {"dense": _error(network, validation)}

        scan = scan_sensitivity(network, validation)
        plan = PruningPlan(shares=scan.shares_for_total(recipe.total), rounds=recipe.rounds)
        pruning = prune(
            network, plan, training, validation, retraining, progress=lambda what, images: advance(images)
        )
        errors["pruned"], validated["pruned"] = _error(network, test), _error(network, validation)

        bits = LayerNumbers.parse(recipe.weight_bits, "width", 0, 8, 8).of(network.graph)
        shared = SharedWeights(network, clusters_of(network, bits))
        shared.fine_tune(
            training, TrainingSettings(epochs=4, learning_rate=2e-4, seed=seed), progress=advance
        )
        errors["compressed"], validated["compressed"] = _error(network, test), _error(network, validation)
    content = encoded_file(network, dict.fromkeys(network.weights, None))
    report = compression_report(content)
    return {
        "network": name,
        "seed": seed,
        "recipe": asdict(recipe),
        "errors": errors,
        "validation_errors": validated,
        "kept": pruning.kept,
        "fewer_weights": 1 / pruning.kept,
        "dense_bytes": report.total.dense_bytes,
        "file_bytes": len(content),
        "smaller": report.total.ratio,
        "report": report.to_json(),
        "table": compression_table(report).splitlines(),
    }


def _error(network: TrainableNetwork, data: LabelledData) -> float:
    return 100 * (1 - network.accuracy(data))


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Means over the seeds beside the bars."""
    fewer, smaller, rise = BARS
    table = [
        (
            "network",
            "seeds",
            "dense error",
            "pruned",
            "compressed",
            "fewer weights",
            "bytes",
            "smaller",
            "bars",
        )
    ]
    for name, own in rows_by_network(rows).items():
        errors = {what: mean(row["errors"][what] for row in own) for what in own[0]["errors"]}
        ratios = mean(row["fewer_weights"] for row in own), mean(row["smaller"] for row in own)
        limit = errors["dense"] + rise + 1e-9
        met = [
            ratios[0] >= fewer and errors["pruned"] <= limit,
            ratios[1] >= smaller and errors["compressed"] <= limit,
        ]
        table.append(
            (
                name,
                str(len(own)),
                *(f"{errors[what]:.2f} %" for what in ("dense", "pruned", "compressed")),
                f"{ratios[0]:.1f}x",
                f"{mean(row['file_bytes'] for row in own):,.0f}",
                f"{ratios[1]:.1f}x",
                " ".join("met" if each else "MISSED" for each in met),
            )
        )
    return aligned(table, left=1)


def page_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The tables of `docs/compression.md`: means over the seeds, then the layers of the first seed."""
    lines = [
        "| network | dense error | pruned | fewer weights | compressed | bytes | smaller |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    named = rows_by_network(rows)
    for name, own in named.items():
        dense, pruned, compressed = (
            f"{mean(row['errors'][what] for row in own):.2f} % "
            + "("
            + ", ".join(format(row["errors"][what], ".2f") for row in own)
            + ")"
            for what in ("dense", "pruned", "compressed")
        )
        size = mean(row["file_bytes"] for row in own)
        fewer, smaller = (mean(row[what] for row in own) for what in ("fewer_weights", "smaller"))
        lines.append(
            f"| {name} | {dense} | {pruned} | {fewer:.1f}x | {compressed} | {size:,.0f} | {smaller:.1f}x |"
        )
    for name, (row, *_) in named.items():
        lines += ["", f"{name}, seed {row['seed']}:", "", "```", *row["table"], "```"]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.compression",
        description=__doc__,
        epilog="examples:\n  python -m bench.compression\n"
        "  python -m bench.compression --only LeNet-5 --seeds 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=tuple(NETWORKS), help="can be repeated")
    parser.add_argument("--seeds", type=int, nargs="+", default=_SEEDS, help="default: 1 2 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--write", action="store_true", help=f"put it into {RESULTS.name}")
    parser.add_argument("--page", action="store_true", help=f"print the tables of {RESULTS.name}, and end")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parsed = parser.parse_args(arguments)
    check_writable(parsed.json)
    if parsed.page:
        print("\n".join(page_table(json.loads(RESULTS.read_text()))))
        return 0
    torch.set_num_threads(1)
    rows = []
    try:
        known, test = _images()
    except BenchDataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name in parsed.only or NETWORKS:
        for seed in parsed.seeds:
            rows.append(measure(name, seed, known, test, parsed.quiet))
            print(
                f"{name}, seed {seed}: "
                + ", ".join(f"{what} {error:.2f} %" for what, error in rows[-1]["errors"].items()),
                flush=True,
            )
            print("\n".join(rows[-1]["table"]), flush=True)
            if parsed.json is not None:
                write_whole(parsed.json, json.dumps(rows, indent=1) + "\n")
            if parsed.write:
                keep_row(RESULTS, rows[-1], tuple(NETWORKS))
    print("\n".join(summary(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
