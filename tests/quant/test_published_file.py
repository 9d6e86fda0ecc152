"""The published format of Deep Compression: read, damaged, and encoded again in fewer bytes without loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.accuracy_data import shared_folder
from quant.__main__ import main
from quant.compression.layer_numbers import layers_of
from quant.decompress_command import encoded_release, with_stored_weights
from quant.encoding import EncodingError, read_published_file, read_weight_file, relative_indices
from quant.float_onnx import write_float_model
from quant.graph import Graph
from quant.onnx_import import import_model
from quant.torch_import import import_module

SHAPES = {"first": (6, 3, 3, 3), "second": (10, 6, 1, 1)}
FOLDER = shared_folder()
RELEASE = None if FOLDER is None else FOLDER / "data" / "squeezenet_v1_0_deep_compression.net"


def published(layers: dict[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    """The file of these weights, of at most 255 values besides 0, and biases."""
    counts, records = [], []
    for weights, bias in layers.values():
        flat = weights.reshape(-1)
        places = np.flatnonzero(flat)
        gaps, sources = relative_indices(places, 4)
        values = np.unique(flat[places])
        codebook = np.zeros(256, np.float32)
        codebook[1 : 1 + len(values)] = values
        indices = np.where(sources >= 0, np.searchsorted(values, flat[places])[sources] + 1, 0)
        halves = np.pad(gaps, (0, len(gaps) % 2)).reshape(-1, 2)
        counts.append(len(gaps))
        records += [
            codebook.tobytes(), bias.astype("<f4").tobytes(), indices.astype(np.uint8).tobytes(),
            (halves[:, 0] | halves[:, 1] << 4).astype(np.uint8).tobytes(),
        ]  # fmt: skip
    return np.array(counts, "<u4").tobytes() + b"".join(records)


def random_layers(density: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(2)
    values = rng.standard_normal(40).astype(np.float32)
    return {
        name: (
            (rng.choice(values, shape) * (rng.random(shape) < density)).astype(np.float32),
            rng.standard_normal(shape[0]).astype(np.float32),
        )
        for name, shape in SHAPES.items()
    }


def graph() -> Graph:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 10, 1))
    return import_module(module, (3, 8, 8))


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
def test_what_was_published_is_read(density: float) -> None:
    layers = random_layers(density)
    found = read_published_file(published(layers), SHAPES)
    for name, (weights, bias) in layers.items():
        assert np.array_equal(found[name][0], weights)
        assert np.array_equal(found[name][1], bias)


def test_damaged_files() -> None:
    content = published(random_layers(0.3))
    for length in (0, 7, 500, len(content) - 1):
        with pytest.raises(EncodingError, match="net: it ends in"):
            read_published_file(content[:length], SHAPES, "net")
    with pytest.raises(EncodingError, match="3 bytes are left over"):
        read_published_file(content + b"abc", SHAPES)
    with pytest.raises(EncodingError, match="first stores 4,294,967,295 weights and has 162"):
        read_published_file(b"\xff" * 4 + content[4:], SHAPES)
    far = bytearray(published(random_layers(1.0)))
    gaps = 8 + 4 * 256 + 4 * 6 + 162
    far[gaps : gaps + 81] = b"\xff" * 81
    with pytest.raises(EncodingError, match=r"first stores weight 2,591 of 162"):
        read_published_file(bytes(far), SHAPES)
    infinite = bytearray(content)
    infinite[8:12] = np.array([np.inf], "<f4").tobytes()
    with pytest.raises(EncodingError, match="not finite"):
        read_published_file(bytes(infinite), SHAPES)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = graph()
    layers = dict(zip(layers_of(model), random_layers(0.2).values(), strict=True))
    paths = {name: tmp_path / name for name in ("net.net", "model.onnx", "out.onnx", "net.weights")}
    paths["net.net"].write_bytes(published(layers))
    write_float_model(model, paths["model.onnx"])
    arguments = ["decompress", str(paths["net.net"]), "--published", "--model", str(paths["model.onnx"])]
    status = main([*arguments, "-o", str(paths["out.onnx"]), "--encode", str(paths["net.weights"])])
    assert status == 0
    assert "published in" in capsys.readouterr().out
    stored = {layer.name: layer for layer in read_weight_file(paths["net.weights"].read_bytes())}
    assert set(stored) == set(layers)
    found = layers_of(import_model(paths["out.onnx"]))
    for (weights, bias), node in zip(layers.values(), found.values(), strict=True):
        assert np.array_equal(node.weight, weights)
        assert np.array_equal(node.bias, bias)
    paths["net.net"].write_bytes(paths["net.net"].read_bytes()[:-1])
    assert main(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["decompress", str(paths["net.weights"]), "--encode", str(tmp_path / "more")]) == 1
    assert "--encode is for what was --published" in capsys.readouterr().err
    assert main(["decompress", str(paths["net.net"]), "--published"]) == 1
    assert "--published needs --model" in capsys.readouterr().err


@pytest.mark.skipif(RELEASE is None or not RELEASE.exists(), reason="the published SqueezeNet is not there")
def test_squeezenet_takes_fewer_bytes() -> None:
    assert FOLDER is not None
    assert RELEASE is not None
    model = import_model(FOLDER / "models" / "squeezenet_v1_0_imagenet.onnx")
    content = RELEASE.read_bytes()
    encoded = encoded_release(model, content)
    assert len(content) == 675_763
    assert len(encoded) == 544_223
    shapes = {name: node.weight.shape for name, node in layers_of(model).items()}
    again = layers_of(with_stored_weights(model, encoded))
    for name, (weights, bias) in read_published_file(content, shapes).items():
        assert np.array_equal(again[name].weight, weights)
        assert np.array_equal(again[name].bias, bias)
