"""Ternary weights on Fashion-MNIST: ``python -m bench.ternary``.

Trains ResNet-8 (the network of MLPerf Tiny, for one channel of 28x28) in float, makes all layers but the
first and the last ternary as ``python -m quant ternarize`` does, and calibrates both to 8 bits.  The last
5,000 of the 60,000 training images validate: every setting here was chosen by them.  The 10,000 test images
are only reported on.  ``--write`` puts the result into `bench/ternary.json`, which `docs/compression.md`
shows.
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

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from bench.stored_rows import keep_row
from hw.whole_file import check_writable, write_whole
from models.train_lenet5 import read_idx
from quant.calibrate import calibrate
from quant.compression.labelled_data import LabelledData
from quant.compression.layer_numbers import layers_of
from quant.compression.ternary import TernaryPlan, TernaryWeights
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings
from quant.fixed_model import FixedModel
from quant.fixed_output import ExactOutput
from quant.graph import Graph
from quant.onnx_import import import_model
from quant.text_table import aligned
from quant.weight_choice import is_ternary

__all__ = ["BAR", "RECIPE", "RESULTS", "Recipe", "ResNet8", "main", "measure", "page_table", "summary"]

RESULTS = Path(__file__).with_name("ternary.json")
_DATA = Path("/usr/share/datasets/fashion-mnist")
_VALIDATION_IMAGES, _CALIBRATION_IMAGES = 5000, 256
_NETWORK, _SEEDS = "ResNet-8", (1, 2, 3)

#: Largest loss of test accuracy in points, ternary against float, before quantization.
BAR = 1.0


@dataclass(frozen=True)
class Recipe:
    """The settings.

    Attributes
    ----------
    images : int
        Those trained on, float and ternary.
    float_epochs, float_rate : int, float
        AdamW with a one-cycle schedule, in batches of 128.
    epochs, learning_rate, batch, threshold : int, float, int, float
        As ``ternarize --epochs --learning-rate --batch --threshold``.
    """

    images: int = 20000
    float_epochs: int = 8
    float_rate: float = 5e-3
    epochs: int = 10
    learning_rate: float = 2e-3
    batch: int = 64
    threshold: float = 0.05


RECIPE = Recipe()


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.inner(values) + self.shortcut(values))


class ResNet8(nn.Sequential):
    """(1, 28, 28) images to 10 scores."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, 1, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            _Block(16, 16, 1),
            _Block(16, 32, 2),
            _Block(32, 64, 2),
            nn.AvgPool2d(7),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


def _images(folder: Path) -> tuple[LabelledData, LabelledData, LabelledData]:
    """Those to train on, to validate on and to test on."""

    def read(part: str) -> LabelledData:
        images = read_idx(folder / f"{part}-images-idx3-ubyte")
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte")
        return LabelledData(
            torch.from_numpy(images.astype(np.float32) / 255)[:, None],
            torch.from_numpy(labels.astype(np.int64)),
        )

    known, places = read("train"), torch.arange(60000)
    return known.take(places[:-_VALIDATION_IMAGES]), known.take(places[-_VALIDATION_IMAGES:]), read("t10k")


def _float_graph(training: LabelledData, recipe: Recipe, seed: int, bar: tqdm) -> Graph:
    torch.manual_seed(seed)
    network, batch = ResNet8().to(memory_format=torch.channels_last), 128
    steps = recipe.float_epochs * (len(training) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.float_rate, total_steps=steps)
    for _ in range(recipe.float_epochs):
        order = torch.randperm(len(training))
        for first in range(0, len(order) - batch + 1, batch):
            chosen = order[first : first + batch]
            scores = network(training.inputs[chosen])
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores, training.labels[chosen]).backward()
            optimizer.step()
            schedule.step()
            bar.update(batch)
    return import_model(network.eval(), input_shape=(1, 28, 28))


def _fixed(graph: Graph, training: LabelledData) -> FixedModel:
    return calibrate(graph, [training.inputs[:_CALIBRATION_IMAGES].numpy()])[0]


def _fixed_accuracy(model: FixedModel, data: LabelledData) -> float:
    output, right = ExactOutput(model), 0
    gain = np.array(model.preparation.gain, np.float32)[:, None, None]
    for start in range(0, len(data), 250):
        batch = data.inputs[start : start + 250].numpy() * gain
        labels = data.labels[start : start + 250].numpy()
        right += int((output(batch).argmax(1) == labels).sum())
    return right / len(data)


def measure(
    seed: int,
    images: tuple[LabelledData, LabelledData, LabelledData],
    recipe: Recipe = RECIPE,
    *,
    with_test: bool = True,
    quiet: bool = False,
) -> dict[str, Any]:
    """One network trained, made ternary and calibrated; accuracies in percent.

    Parameters
    ----------
    with_test : bool
        False while settings are chosen.
    """
    training, validation, test = images
    training = training.take(torch.arange(recipe.images))
    measured = {"validation": validation, **({"test": test} if with_test else {})}
    total = (recipe.float_epochs + recipe.epochs) * len(training)
    with tqdm(total=total, unit="image", desc=f"{_NETWORK}, seed {seed}", disable=quiet) as bar:
        graph = _float_graph(training, recipe, seed, bar)
        network = TrainableNetwork(graph)
        rows = {what: {"float": 100 * network.accuracy(data)} for what, data in measured.items()}
        inner = list(layers_of(graph))[1:-1]
        ternary = TernaryWeights(network, TernaryPlan(dict.fromkeys(inner, recipe.threshold), {}))
        settings = TrainingSettings(
            epochs=recipe.epochs, batch=recipe.batch, learning_rate=recipe.learning_rate, seed=seed
        )
        ternary.train(training, settings, progress=bar.update)
    models = {
        "float, 8 bits": _fixed(graph, training),
        "ternary, 8 bits": _fixed(network.to_graph(), training),
    }
    for what, data in measured.items():
        rows[what]["ternary"] = 100 * network.accuracy(data)
        rows[what].update({name: 100 * _fixed_accuracy(model, data) for name, model in models.items()})
    for name in inner:
        if not is_ternary(models["ternary, 8 bits"].weights[name].values):
            raise AssertionError(f"{name}: its integers are not -a, 0 and b")
    return {
        "network": _NETWORK,
        "seed": seed,
        "recipe": asdict(recipe),
        "accuracy": rows,
        "layers": [layer.to_json() for layer in ternary.layers()],
    }


_HEADS = ("float", "ternary", "float, 8 bits", "ternary, 8 bits")


def _accuracies(rows: Sequence[dict[str, Any]], what: str) -> list[float]:
    """On the test images; ``what`` is one of the heads, or ``"loss"`` by ternary weights, in points."""
    found = [row["accuracy"]["test"] for row in rows]
    return [each["float"] - each["ternary"] if what == "loss" else each[what] for each in found]


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Accuracy on the test images and the bar: each seed, then the mean."""
    table = [("network", "seed", *_HEADS, "loss", "bar")]
    for some in [[row] for row in rows] + ([list(rows)] if len(rows) > 1 else []):
        loss = mean(_accuracies(some, "loss"))
        table.append(
            (
                some[0]["network"],
                str(some[0]["seed"]) if len(some) == 1 else "mean",
                *(f"{mean(_accuracies(some, what)):.2f} %" for what in _HEADS),
                f"{loss:.2f}",
                "met" if loss <= BAR + 1e-9 else "MISSED",
            )
        )
    return aligned(table, left=2)


def page_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table of `docs/compression.md`: means over the seeds, and each of them in brackets."""

    def cell(what: str, unit: str) -> str:
        values = _accuracies(rows, what)
        listed = "" if len(values) == 1 else f" ({', '.join(f'{value:.2f}' for value in values)})"
        return f"{mean(values):.2f}{unit}{listed}"

    return [
        f"| network | {' | '.join(_HEADS)} | points lost by ternary weights |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| {rows[0]['network']} | {' | '.join(cell(what, ' %') for what in _HEADS)} | {cell('loss', '')} |",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ternary",
        description=__doc__,
        epilog="examples:\n  python -m bench.ternary --data fashion-mnist/ --seeds 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=_DATA, metavar="FOLDER", help=f"default: {_DATA}")
    parser.add_argument("--seeds", type=int, nargs="+", default=_SEEDS, help="default: 1 2 3")
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
    rows = []
    for seed in parsed.seeds:
        rows.append(measure(seed, images, quiet=parsed.quiet))
        print("\n".join(summary(rows[-1:])), flush=True)
        if parsed.json is not None:
            write_whole(parsed.json, json.dumps(rows, indent=1) + "\n")
        if parsed.write:
            keep_row(RESULTS, rows[-1], (_NETWORK,))
    if len(rows) > 1:
        print("\n".join(summary(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
