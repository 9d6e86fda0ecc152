"""``python -m quant prune``, ``compress`` and ``decompress`` as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from quant.__main__ import main
from quant.compression.labelled_data import labelled_data
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train_masked
from quant.data import load_images
from quant.encoding import decode_layer, read_weight_file
from quant.fixed_model import Preparation
from quant.float_onnx import write_float_model
from quant.graph import Convolution, Graph
from quant.onnx_import import import_model

TRAINING = ["--quiet", "--epochs", "2", "--batch", "32", "--learning-rate", "3e-3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, labelled images of two kinds of stripes, and files that do not fit."""
    folder = tmp_path_factory.mktemp("prune")
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
    np.savez(folder / "few.npz", images=images[:1], labels=labels[:1])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 2)
        )
        graph = import_model(module, input_shape=(1, 6, 6))
    network = TrainableNetwork(graph)
    data = labelled_data(graph, load_images(folder / "data.npz"), Preparation(255.0))
    train_masked(network, data, TrainingSettings(epochs=6, batch=32, learning_rate=5e-3, shift=1))
    write_float_model(network.to_graph(), folder / "net.onnx")
    return folder


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with these files, to work in."""
    for file in folder.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prune(*options: str) -> int:
    return main(["prune", "net.onnx", "--data", "data.npz", "--divide", "255", *TRAINING, *options])


def weights_of(path: str) -> dict[str, np.ndarray]:
    graph: Graph = import_model(path)
    return {node.name: node.weight for node in graph.nodes if isinstance(node, Convolution)}


def share_kept(path: str) -> float:
    weights = weights_of(path).values()
    return sum(np.count_nonzero(each) for each in weights) / sum(each.size for each in weights)


def test_from_a_network_to_a_file_and_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--total 0.3 --rounds 2 --test test.npz -o pruned.onnx --json pruned.json --plot scan.svg"
    assert prune(*options.split()) == 0
    text = capsys.readouterr().out
    assert "270 images to train on, 30 to choose by" in text
    assert "seed 1" in text
    assert "round 2: 30." in text
    assert "test images" in text
    report = json.loads(Path("pruned.json").read_text())
    assert report["pruning"]["kept"] == pytest.approx(share_kept("pruned.onnx"))
    assert share_kept("pruned.onnx") == pytest.approx(0.3, abs=0.02)
    assert report["test_accuracy"] > 0.9
    assert len(report["scan"]["layers"]) == 3
    assert Path("scan.svg").read_text().startswith("<?xml")
    assert main(["inspect", "pruned.onnx"]) == 0
    command = "compress pruned.onnx --data data.npz --divide 255 --weight-bits 4,conv=5 -o shared.onnx"
    assert main([*command.split(), "--test", "test.npz", "--json", "shared.json", *TRAINING]) == 0
    text = capsys.readouterr().out
    assert "top-1 on 50 test images" in text
    shared = weights_of("shared.onnx")
    for name, pruned in weights_of("pruned.onnx").items():
        assert ((shared[name] == 0) == (pruned == 0)).all()
        assert len(np.unique(shared[name])) <= 32
    content = Path("shared.weights").read_bytes()
    assert json.loads(Path("shared.json").read_text())["file"]["total"]["bytes"] == len(content)
    for layer in read_weight_file(content):
        assert np.array_equal(decode_layer(layer.weights), shared[layer.name])
    assert main(["decompress", "shared.weights", "--model", "pruned.onnx", "-o", "again.onnx"]) == 0
    assert all(np.array_equal(again, shared[name]) for name, again in weights_of("again.onnx").items())
    assert (
        main(
            [
                "calibrate",
                "shared.onnx",
                "--data",
                "data.npz",
                "--images",
                "8",
                "--divide",
                "255",
                "--quiet",
                "-o",
                "fixed.onnx",
            ]
        )
        == 0
    )
    assert not list(here.glob("*.checkpoint"))
    assert not list(here.glob("*.part"))


@pytest.mark.parametrize("aim", ["--keep 0.5,conv=0.9", "--quality fc=1", "--max-loss 5"])
def test_the_other_aims(here: Path, aim: str) -> None:
    assert prune(*aim.split(), "--rounds", "1", "-o", "pruned.onnx", "--validation", "test.npz") == 0
    assert 0 < share_kept("pruned.onnx") < 0.9


def test_a_teacher(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prune("--total", "0.3", "--teacher", "net.onnx", "--test", "test.npz", "-o", "taught.onnx") == 0
    assert prune("--total", "0.3", "-o", "labelled.onnx") == 0
    taught, labelled = weights_of("taught.onnx"), weights_of("labelled.onnx")
    assert any(not np.array_equal(taught[name], labelled[name]) for name in taught)
    assert share_kept("taught.onnx") == pytest.approx(0.3, abs=0.01)
    capsys.readouterr()
    assert prune("--total", "0.3", "--teacher", "net.onnx", "--temperature", "0", "-o", "x.onnx") == 1
    assert "temperature must be positive" in capsys.readouterr().err
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    write_float_model(import_model(module, input_shape=(1, 6, 6)), "three.onnx")
    assert prune("--total", "0.3", "--teacher", "three.onnx", "-o", "x.onnx") == 1
    assert "a teacher must have the same" in capsys.readouterr().err
    assert not Path("x.onnx").exists()


def test_shifted_images(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option reaches the training; an interrupted one without it is not taken up by one with it."""
    from quant.compression.checkpoint import Checkpoint

    def pruned(shift: str) -> bytes:
        assert prune("--keep", "0.5", "--rounds", "1", "--shift", shift, "-o", "p.onnx") == 0
        return Path("p.onnx").read_bytes()

    still, moved = pruned("0"), pruned("1")
    assert still != moved
    assert prune("--keep", "0.5", "--rounds", "1", "-o", "p.onnx") == 0
    assert Path("p.onnx").read_bytes() == still
    save = Checkpoint.save

    def interrupt(self: Checkpoint, state: dict) -> None:
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", interrupt)
        assert prune("--keep", "0.5", "--rounds", "1", "-o", "p.onnx") == 130
    assert Path("p.onnx.checkpoint").exists()
    assert pruned("1") == moved


def test_filters(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prune("--channels", "0.5", "--keep", "0.6", "--rounds", "1", "-o", "narrow.onnx") == 0
    text = capsys.readouterr().out
    assert "keeps all filters: it computes the network's output" in text
    shapes = [weight.shape for weight in weights_of("narrow.onnx").values()]
    assert shapes == [(4, 1, 3, 3), (8, 4, 4, 4), (2, 8, 1, 1)]
    assert onnx.load("narrow.onnx").graph.node[-1].op_type == "Gemm"


def test_a_scan_alone_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.iterdir())
    assert prune("--scan") == 0
    assert "with one layer pruned to a share of its weights" in capsys.readouterr().out
    assert sorted(here.iterdir()) == before


def test_an_interrupted_run_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--channels", "0.75", "--total", "0.3", "--rounds", "2", "--shift", "1"]
    assert prune(*options, "-o", "straight.onnx") == 0
    from quant.compression.checkpoint import Checkpoint

    save, saved = Checkpoint.save, []

    for stop in (1, 2, 5):  # in the stage of the filters, in both rounds

        def interrupt(self: Checkpoint, state: dict, stop: int = stop) -> None:
            save(self, state)
            saved.append(state)
            if len(saved) == stop:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "save", interrupt)
        assert prune(*options, "-o", "resumed.onnx") == 130
        assert Path("resumed.onnx.checkpoint").exists()
        assert not Path("resumed.onnx").exists()
    assert capsys.readouterr().err.count("error: interrupted") == 3
    assert prune(*options, "-o", "resumed.onnx") == 0
    assert "going on from resumed.onnx.checkpoint" in capsys.readouterr().out
    assert not Path("resumed.onnx.checkpoint").exists()
    assert Path("resumed.onnx").read_bytes() == Path("straight.onnx").read_bytes()


FAILURES = {
    "no aim": ("-o p.onnx", "nothing says how much to prune"),
    "no output": ("--keep 0.5", "give -o PRUNED.onnx"),
    "unknown layer": ("--keep fc9=0.5 -o p.onnx", "fc9=0.5 fits no layer with weights; there are "),
    "pruned to nothing": ("--keep 0.00001 -o p.onnx", "leaves none; keep more of it"),
    "quality too high": ("--quality 99 -o p.onnx", "none of its 72 weights is left; prune it less"),
    "no share": ("--keep many -o p.onnx", "'many' is no share of weights kept"),
    "bad total": ("--total 2 -o p.onnx", "--total must be above 0"),
    "no labels": ("--data unlabelled.npz --keep 0.5 -o p.onnx", "it has no labels"),
    "other labels": ("--data words.npz --keep 0.5 -o p.onnx", "labels go from 5 to 6"),
    "few images": ("--data few.npz --keep 0.5 -o p.onnx", "cannot be split into training and validation"),
    "diverging": ("--keep 0.9 --learning-rate 1e6 -o p.onnx", "smaller learning rate"),
    "shift": ("--keep 0.5 --shift 6 -o p.onnx", "images of 6x6 pixels cannot be shifted by 6"),
    "output's filters": ("--channels {last}=0.5 -o p.onnx", "cannot be removed, because it computes the"),
    "no filters": ("--channels 0.01 -o p.onnx", "leaves none"),
    "same file": ("--keep 0.5 -o net.onnx", "is given twice"),
    "plot": ("--scan --plot scan.txt", "a plot is written as .svg or .png"),
    "folder": ("--keep 0.5 -o none/p.onnx", "the folder none does not exist"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_errors_are_one_line_and_leave_nothing(
    here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options, message = FAILURES[name]
    before = sorted(here.iterdir())
    assert prune(*options.format(last=list(weights_of("net.onnx"))[-1]).split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    "options", ["--keep 0.5 --total 0.5", "--epochs -1", "--shift -1", "--dropout 1", "--l2 nan"]
)
def test_wrong_usage(here: Path, options: str) -> None:
    with pytest.raises(SystemExit) as caught:
        prune("-o", "p.onnx", *options.split())
    assert caught.value.code == 2


def test_compressing_what_was_not_pruned(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "compress net.onnx --data data.npz --divide 255 -o s.onnx --epochs 0 --quiet --weights w.bin"
    for start in ("linear", "density", "random"):
        assert (
            main([*command.split(), "--start", start, "--weight-bits", "3", "--index-bits", "conv=8,fc=5"])
            == 0
        )
    assert len(np.unique(next(iter(weights_of("s.onnx").values())))) <= 8
    capsys.readouterr()
    for options, message in {
        "--weight-bits 9": "a width of weights must be above 0 and at most 8, not 9",
        "--weight-bits 2.5": "must be a whole number of bits",
        "--index-bits x=3": "x=3 fits no layer",
        "--weights s.onnx": "is given twice",
    }.items():
        assert main([*command.split(), *options.split()]) == 1
        assert message in capsys.readouterr().err


def test_damaged_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "compress net.onnx --data data.npz --divide 255 -o s.onnx --epochs 0 --quiet"
    assert main(command.split()) == 0
    content = Path("s.weights").read_bytes()
    shutil.copy("net.onnx", "other.onnx")
    Path("cut.weights").write_bytes(content[:-9])
    Path("bad.weights").write_bytes(content[:50] + bytes([content[50] ^ 4]) + content[51:])
    capsys.readouterr()
    for file, message in {
        "cut.weights": "cut.weights: truncated or damaged (CRC-32",
        "bad.weights": "bad.weights: truncated or damaged (CRC-32",
        "other.onnx": "other.onnx: not a file of compressed weights",
        "none.weights": "No such file",
    }.items():
        assert main(["decompress", file, "--model", "net.onnx", "-o", "again.onnx"]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not Path("again.onnx").exists()
    assert main(["decompress", "s.weights", "--model", "net.onnx"]) == 1
    assert "give --model and -o" in capsys.readouterr().err
    assert prune("--channels", "0.5", "--epochs", "0", "-o", "narrow.onnx") == 0
    assert main(["decompress", "s.weights", "--model", "narrow.onnx", "-o", "again.onnx"]) == 1
    assert "give the model that was compressed" in capsys.readouterr().err
