"""``python -m quant chain``: steps in order, measured; taken up again; stopped where too much is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from quant.__main__ import main
from quant.compression.labelled_data import labelled_data
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train_masked
from quant.data import load_images
from quant.encoding import encode_layer
from quant.fixed_model import Preparation
from quant.float_onnx import write_float_model
from quant.onnx_import import import_model
from quant.qdq_import import read_fixed_model

TRAINING = "--epochs 2 --batch 32 --learning-rate 3e-3"
PRUNE = f"prune --total 0.3 --rounds 2 {TRAINING}"
COMPRESS = f"compress --weight-bits 3 {TRAINING}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trained network and labelled images of two kinds of stripes."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 240)
    rows, columns = np.mgrid[:6, :6]
    stripes = np.where(labels[:, None, None] == 1, rows % 2, columns % 2)
    images = (stripes * 200 + random.integers(0, 56, (240, 6, 6))).astype(np.uint8)
    np.savez("data.npz", images=images[:200], labels=labels[:200])
    np.savez("test.npz", images=images[200:], labels=labels[200:])
    np.savez("unlabelled.npz", images=images)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 2)
        network = TrainableNetwork(import_model(nn.Sequential(*layers), input_shape=(1, 6, 6)))
    data = labelled_data(network.graph, load_images("data.npz"), Preparation(255.0))
    train_masked(network, data, TrainingSettings(epochs=5, batch=32, learning_rate=5e-3))
    write_float_model(network.to_graph(), Path("net.onnx"))
    return tmp_path


def chain(*options: str) -> int:
    return main(
        ["chain", "net.onnx", "--data", "data.npz", "--test", "test.npz", "--divide", "255", "--quiet",
         "-o", "small", *options]
    )  # fmt: skip


def test_prune_then_share(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chain(PRUNE, COMPRESS, "--json", "chain.json", "--plot", "chain.svg", "--memory", "ideal") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("frontier" in line for line in lines) >= 1
    given, pruned, shared = json.loads(Path("chain.json").read_text())["stages"]
    assert [stage["step"] for stage in (given, pruned, shared)] == ["given", PRUNE, COMPRESS]
    assert given["kept"] > 0.9 > 0.35 > pruned["kept"] >= shared["kept"] > 0.2
    assert given["file_bytes"] > pruned["file_bytes"] > shared["file_bytes"]
    assert given["program_bytes"] > shared["program_bytes"]
    assert given["cycles"] > shared["cycles"] > 0
    for stage in (given, pruned, shared):
        model = read_fixed_model(stage["fixed_file"])
        values = np.concatenate([weights.values.ravel() for weights in model.weights.values()])
        assert stage["kept"] == np.count_nonzero(values) / len(values)
        # what is encoded is what is in the fixed-point model
        stream = sum(len(encode_layer(w.values.astype(np.float32)).payload) for w in model.weights.values())
        assert stream < stage["file_bytes"] < stage["float_bytes"]
        assert stage["fixed_top1"] > 0.8
    assert Path("chain.svg").read_text().startswith("<?xml")


def test_what_is_done_is_not_done_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chain(PRUNE) == 0
    first = Path("small/1-prune.onnx").stat().st_mtime_ns
    assert "done before" not in capsys.readouterr().out
    assert chain(PRUNE, COMPRESS) == 0
    assert capsys.readouterr().out.count("done before") == 1
    assert Path("small/1-prune.onnx").stat().st_mtime_ns == first
    assert chain(PRUNE.replace("0.3", "0.4"), COMPRESS) == 0
    assert "done before" not in capsys.readouterr().out


def test_a_chain_that_loses_too_much_stops(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chain("prune --keep 0.02 --epochs 0 --rounds 1", COMPRESS, "--most-lost", "1") == 1
    error = capsys.readouterr().err
    assert "points are lost, more than 1" in error
    assert error.count("\n") == 1
    assert not Path("small/2-compress.onnx").exists()


def test_bad_input(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps, message in (
        (["polish"], "'polish' is no step; the first word must be one of prune, compress"),
        (["prune 'a"], "is no step"),
        ([""], "is no step"),
        ([PRUNE, "--memory", "nobody"], "nobody"),
        ([PRUNE, "--test", "unlabelled.npz"], "it has no labels"),
    ):
        assert chain(*steps) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    with pytest.raises(SystemExit) as stopped:
        chain(PRUNE, "compress --weight-bites 3")
    assert stopped.value.code == 2
    assert "weight-bites" in capsys.readouterr().err
    assert not Path("small/1-prune.onnx").exists()
