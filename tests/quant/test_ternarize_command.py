"""``python -m quant ternarize`` as a user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from quant.__main__ import main
from quant.compression.checkpoint import Checkpoint
from quant.compression.labelled_data import labelled_data
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train_masked
from quant.data import load_images
from quant.fixed_model import Preparation
from quant.float_onnx import write_float_model
from quant.graph import Convolution
from quant.onnx_import import import_model
from quant.qdq_import import read_fixed_model
from quant.weight_choice import is_ternary

TRAINING = ["--quiet", "--epochs", "2", "--batch", "32", "--learning-rate", "3e-3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, labelled images of two kinds of stripes, and files that do not fit."""
    folder = tmp_path_factory.mktemp("ternarize")
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 300)
    rows, columns = np.mgrid[:6, :6]
    images = np.where(labels[:, None, None] == 1, rows % 2, columns % 2) * 200 + random.integers(
        0, 56, (300, 6, 6)
    )
    images = images.astype(np.uint8)
    np.savez(folder / "data.npz", images=images, labels=labels)
    np.savez(folder / "test.npz", images=images[:50], labels=labels[:50])
    np.savez(folder / "unlabelled.npz", images=images)
    np.savez(folder / "words.npz", images=images, labels=labels + 5)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 2),
        )  # fmt: skip
        graph = import_model(module, input_shape=(1, 6, 6))
    network = TrainableNetwork(graph)
    data = labelled_data(graph, load_images(folder / "data.npz"), Preparation(255.0))
    train_masked(network, data, TrainingSettings(epochs=6, batch=32, learning_rate=5e-3))
    write_float_model(network.to_graph(), folder / "net.onnx")
    return folder


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with these files, to work in."""
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ternarize(*options: str) -> int:
    return main(["ternarize", "net.onnx", "--data", "data.npz", "--divide", "255", *TRAINING, *options])


def weights_of(path: str) -> list[np.ndarray]:
    return [node.weight for node in import_model(path).nodes if isinstance(node, Convolution)]


def ternary_layers(path: str) -> list[int]:
    """The positions of the layers that are ternary."""
    return [place for place, weight in enumerate(weights_of(path)) if is_ternary(weight)]


def test_from_a_network_to_fixed_point(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ternarize("-o", "ternary.onnx", "--test", "test.npz", "--json", "ternary.json") == 0
    text = capsys.readouterr().out
    assert "270 images to train on, 30 to check with" in text
    assert "seed 1" in text
    assert "zeros %" in text
    assert "top-1 on 50 test images" in text
    assert ternary_layers("ternary.onnx") == [1, 2]
    report = json.loads(Path("ternary.json").read_text())
    assert [layer["bits"] for layer in report["layers"]] == [32, 2, 2, 32]
    for layer, weight in zip(report["layers"], weights_of("ternary.onnx")):
        if layer["bits"] == 2:
            assert layer["positive"] == weight.max()
            assert layer["negative"] == -weight.min()
            assert layer["zeros"] == pytest.approx((weight == 0).mean())
    assert report["test_accuracy"]["trained"] > 0.9
    assert main(["inspect", "ternary.onnx"]) == 0
    command = "calibrate ternary.onnx --data data.npz --images 32 --divide 255 --quiet -o fixed.onnx"
    assert main(command.split()) == 0
    model = read_fixed_model("fixed.onnx")
    for name, weight in list(model.weights.items())[1:-1]:
        assert is_ternary(weight.values), name
    assert not list(here.glob("*.checkpoint"))
    assert not list(here.glob("*.part"))


def test_zeros_and_layers(here: Path) -> None:
    assert ternarize("-o", "t.onnx", "--zeros", "0.25,fc=0.5", "--layers", "conv,fc", "--epochs", "1") == 0
    weights = weights_of("t.onnx")
    assert ternary_layers("t.onnx") == [0, 1, 2, 3]
    assert [(weight == 0).mean() for weight in weights] == pytest.approx([0.25, 0.25, 0.5, 0.5], abs=0.01)
    assert ternarize("-o", "t.onnx", "--threshold", "0.1", "--leave", "conv", "--epochs", "0") == 0
    assert ternary_layers("t.onnx") == [2]


def test_an_interrupted_run_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ternarize("-o", "straight.onnx") == 0
    save = Checkpoint.save

    def interrupt(self: Checkpoint, state: dict) -> None:
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", interrupt)
        assert ternarize("-o", "resumed.onnx") == 130
    assert Path("resumed.onnx.checkpoint").exists()
    assert not Path("resumed.onnx").exists()
    assert ternarize("-o", "resumed.onnx") == 0
    assert "going on from resumed.onnx.checkpoint" in capsys.readouterr().out
    assert not Path("resumed.onnx.checkpoint").exists()
    assert Path("resumed.onnx").read_bytes() == Path("straight.onnx").read_bytes()


FAILURES = {
    "within the threshold": ("--threshold 1", "weights are within the threshold and would be zero"),
    "nothing but zeros": ("--zeros 1", "weights are within the threshold and would be zero"),
    "threshold too high": ("--threshold 1.5", "a threshold must be above 0 and at most 1, not 1.5"),
    "no share": ("--zeros many", "'many' is no share of zeros"),
    "unknown layer": ("--layers fc9", "'fc9' fits no layer with weights; there are "),
    "unknown exception": ("--threshold fc9=0.1", "fc9=0.1 fits no layer with weights; there are "),
    "no layer": ("--leave conv,fc", "no layer is left to become ternary"),
    "no labels": ("--data unlabelled.npz", "it has no labels"),
    "other labels": ("--data words.npz", "labels go from 5 to 6"),
    "diverging": ("--learning-rate 1e6", "smaller learning rate"),
    "shift": ("--shift 6", "images of 6x6 pixels cannot be shifted by 6; shift them by at most 5"),
    "same file": ("--json t.onnx", "is given twice"),
    "folder": ("--json none/t.json", "the folder none does not exist"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_errors_are_one_line_and_leave_nothing(
    here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options, message = FAILURES[name]
    before = sorted(here.iterdir())
    assert ternarize("-o", "t.onnx", *options.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("options", ["--zeros 0.5 --threshold 0.1", "--epochs -1"])
def test_wrong_usage(here: Path, options: str) -> None:
    with pytest.raises(SystemExit) as caught:
        ternarize("-o", "t.onnx", *options.split())
    assert caught.value.code == 2
