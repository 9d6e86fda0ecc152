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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from bench.accuracy_data import BenchDataError, shared_folder
from bench.compression_tables import page_table, summary
from bench.stored_rows import keep_row
from hw.whole_file import check_writable, write_whole
from quant.compression.labelled_data import LabelledData, labelled_data, split
from quant.compression.layer_numbers import LayerNumbers
from quant.compression.pruning import PruningPlan, prune
from quant.compression.report import CompressionReport, compression_report, compression_table, encoded_file
from quant.compression.sensitivity import scan_sensitivity
from quant.compression.sharing import SharedWeights, clusters_of
from quant.compression.teacher import taught
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train_masked
from quant.data import load_images
from quant.fixed_model import Preparation
from quant.graph import Graph
from quant.onnx_import import import_model
from quant.text_table import aligned

__all__ = [
    "ALTERNATIVES",
    "NETWORKS",
    "RESULTS",
    "Recipe",
    "compare_settings",
    "main",
    "measure",
]

RESULTS = Path(__file__).with_name("compression.json")
_TRAINING_IMAGES, _VALIDATION_SHARE, _SHARING_EPOCHS = 8000, 0.125, 4
_SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Recipe:
    """A network and its settings.

    Attributes
    ----------
    dense_stages, dense_epochs : int
        The dense network is trained in so many stages, each from the full learning rate down to 0.
    total : float or None
        Share of all weights kept, as ``prune --total``.
    rounds, retraining_epochs : int
        As ``prune --rounds --epochs``.
    weight_bits : str
        As ``compress --weight-bits``.
    l2 : float
        As ``--l2``, also of the dense network.
    keep : str or None
        Shares of the layers instead of ``total``, as ``prune --keep``.
    dropout : float
        As ``prune --dropout``.
    temperature : float or None
        As ``prune --teacher DENSE --temperature``, and as ``compress``.
    sharing_l2 : float
        As ``compress --l2``.
    shift : int
        As ``--shift``, of the dense network, of retraining and of sharing alike.
    """

    dense_stages: int
    dense_epochs: int
    total: float | None
    rounds: int
    retraining_epochs: int
    weight_bits: str
    l2: float
    keep: str | None = None
    dropout: float = 0.0
    temperature: float | None = None
    sharing_l2: float = 1e-4
    shift: int = 0

    @property
    def pruning_epochs(self) -> int:
        """All that follow on the dense network."""
        return self.rounds * self.retraining_epochs + _SHARING_EPOCHS


#: Of the first layer, the second and the last one; Han et al. 2015 keep 66, 12, 8 and 19 %.
_LENET5_KEEP = "0.07,node_conv2d=0.66,node_conv2d_1=0.2,node_linear_1=0.19"

_LENET5 = Recipe(3, 8, None, 4, 12, "conv=6,fc=5", 5e-4, _LENET5_KEEP, sharing_l2=5e-4, shift=2)
_TAUGHT = replace(_LENET5, retraining_epochs=6, temperature=4.0)
_UNSHIFTED = replace(_LENET5, retraining_epochs=6, shift=0)

NETWORKS = {"LeNet-300-100": Recipe(3, 15, 0.06, 4, 10, "5", 5e-4), "LeNet-5": _LENET5}

#: What was compared with the recipes, by what differs.
ALTERNATIVES: dict[str, dict[str, Recipe]] = {
    "LeNet-300-100": {},
    "LeNet-5": {
        "nothing pruned": replace(_LENET5, keep="1"),
        "6 epochs": replace(_LENET5, retraining_epochs=6),
        "6 epochs, teacher": _TAUGHT,
        "6 epochs, shift 1": replace(_LENET5, retraining_epochs=6, shift=1),
        "6 epochs, teacher, shift 1": replace(_TAUGHT, shift=1),
        "6 epochs, no shift": _UNSHIFTED,
        "6 epochs, no shift, teacher": replace(_TAUGHT, shift=0),
        "6 epochs, no shift, dropout": replace(_UNSHIFTED, dropout=0.5),
        "6 epochs, no shift, dropout, 4 times l2": replace(_UNSHIFTED, dropout=0.5, l2=2e-3),
        "6 epochs, no shift, 6.5 % by a scan": replace(_UNSHIFTED, total=0.065, keep=None),
    },
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


def _dense(
    name: str, seed: int, recipe: Recipe, training: LabelledData, advance: Callable[[int], object]
) -> TrainableNetwork:
    network = TrainableNetwork(_graph(name, seed))
    settings = TrainingSettings(epochs=recipe.dense_epochs, l2=recipe.l2, seed=seed, shift=recipe.shift)
    for stage in range(recipe.dense_stages):
        train_masked(network, training, settings, stage=100 + stage, progress=advance)
    return network


def _compress(
    network: TrainableNetwork,
    seed: int,
    recipe: Recipe,
    training: LabelledData,
    validation: LabelledData,
    judges: Mapping[str, LabelledData],
    advance: Callable[[int], object],
) -> tuple[dict[str, dict[str, float]], CompressionReport, bytes]:
    """Errors of the dense, the pruned and the compressed network by judge; what is stored; the file."""
    errors: dict[str, dict[str, float]] = {judge: {} for judge in judges}

    def judge(what: str) -> None:
        for each, data in judges.items():
            errors[each][what] = 100 * (1 - network.accuracy(data))

    judge("dense")
    if recipe.temperature is not None:
        training = taught(training, network, recipe.temperature)
    plan = PruningPlan(shares=_shares(network, recipe, validation), rounds=recipe.rounds)
    retraining = TrainingSettings(
        epochs=recipe.retraining_epochs,
        l2=recipe.l2,
        dropout=recipe.dropout,
        seed=seed,
        shift=recipe.shift,
    )
    prune(network, plan, training, validation, retraining, progress=lambda what, images: advance(images))
    judge("pruned")
    bits = LayerNumbers.parse(recipe.weight_bits, "width", 0, 8, 8).of(network.graph)
    shared = SharedWeights(network, clusters_of(network, bits))
    settings = TrainingSettings(
        epochs=_SHARING_EPOCHS, learning_rate=2e-4, l2=recipe.sharing_l2, seed=seed, shift=recipe.shift
    )
    shared.fine_tune(training, settings, progress=advance)
    judge("compressed")
    content = encoded_file(network, dict.fromkeys(network.weights, None))
    return errors, compression_report(content), content


def measure(
    name: str, seed: int, known: LabelledData, test: LabelledData, quiet: bool = False
) -> dict[str, Any]:
    """One network trained, pruned and compressed; errors in percent of the test images."""
    recipe = NETWORKS[name]
    training, validation = split(known, _VALIDATION_SHARE, seed)
    epochs = recipe.dense_stages * recipe.dense_epochs + recipe.pruning_epochs
    with tqdm(total=epochs * len(training), unit="image", desc=f"{name}, seed {seed}", disable=quiet) as bar:
        network = _dense(name, seed, recipe, training, bar.update)
        judges = {"test": test, "validation": validation}
        errors, report, content = _compress(network, seed, recipe, training, validation, judges, bar.update)
    kept = report.total.kept / report.total.weights
    return {
        "network": name,
        "seed": seed,
        "recipe": asdict(recipe),
        "errors": errors["test"],
        "validation_errors": errors["validation"],
        "kept": kept,
        "fewer_weights": 1 / kept,
        "dense_bytes": report.total.dense_bytes,
        "file_bytes": len(content),
        "smaller": report.total.ratio,
        "report": report.to_json(),
        "table": compression_table(report).splitlines(),
    }


def compare_settings(name: str, seeds: Sequence[int], known: LabelledData, quiet: bool = False) -> list[str]:
    """A recipe and the alternatives to it, from the same dense network at each shift.

    It sees validation images alone.
    """
    recipes = {"chosen": NETWORKS[name], **ALTERNATIVES[name]}
    found: dict[str, list[tuple[dict[str, float], CompressionReport]]] = {each: [] for each in recipes}
    chosen = NETWORKS[name]
    shifts = {recipe.shift for recipe in recipes.values()}
    epochs = len(shifts) * chosen.dense_stages * chosen.dense_epochs
    epochs += sum(each.pruning_epochs for each in recipes.values())
    for seed in seeds:
        training, validation = split(known, _VALIDATION_SHARE, seed)
        total = epochs * len(training)
        with tqdm(total=total, unit="image", desc=f"{name}, seed {seed}", disable=quiet) as bar:
            dense = {
                shift: _dense(name, seed, replace(chosen, shift=shift), training, bar.update).to_graph()
                for shift in sorted(shifts)
            }
            for each, recipe in recipes.items():
                network = TrainableNetwork(dense[recipe.shift])
                errors, report, _ = _compress(
                    network, seed, recipe, training, validation, {"validation": validation}, bar.update
                )
                found[each].append((errors["validation"], report))
    table = [("settings", "dense", "pruned", "fewer weights", "compressed", "smaller")]
    for each, runs in found.items():
        dense_error, pruned, compressed = (
            f"{mean(errors[what] for errors, _ in runs):.2f} % "
            + "("
            + ", ".join(format(errors[what], ".1f") for errors, _ in runs)
            + ")"
            for what in ("dense", "pruned", "compressed")
        )
        fewer = mean(report.total.weights / report.total.kept for _, report in runs)
        smaller = mean(report.total.ratio for _, report in runs)
        table.append((each, dense_error, pruned, f"{fewer:.1f}x", compressed, f"{smaller:.1f}x"))
    return aligned(table, left=1)


def _shares(network: TrainableNetwork, recipe: Recipe, validation: LabelledData) -> dict[str, float]:
    """Shares of weights kept by layer."""
    if recipe.keep is not None:
        return LayerNumbers.parse(recipe.keep, "share kept", 0, 1, 1).of(network.graph)
    assert recipe.total is not None
    return scan_sensitivity(network, validation).shares_for_total(recipe.total)


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
    parser.add_argument(
        "--settings", action="store_true", help="compare recipes by validation images, and end"
    )
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
        if parsed.settings:
            print("\n".join(compare_settings(name, parsed.seeds, known, parsed.quiet)), flush=True)
            continue
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
    if rows:
        print("\n".join(summary(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
