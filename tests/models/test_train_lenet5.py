"""The bundled network and the script that trains it."""

import gzip
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models.train_lenet5 import read_idx, train

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize("packed", [False, True])
def test_read_idx(tmp_path, packed):
    values = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    content = bytes([0, 0, 8, 3]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    path = tmp_path / "images-ubyte"
    if packed:
        path.with_name("images-ubyte.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)
    assert (read_idx(path) == values).all()


def test_read_idx_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        read_idx(tmp_path / "none")


def test_training_learns_and_repeats():
    random = np.random.default_rng(1)
    labels = random.integers(0, 10, 640).astype(np.uint8)
    images = random.integers(0, 60, (640, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels):
        image[2 * label:2 * label + 4] = 255
    first, second = (train(images, labels, epochs=5, seed=3, quiet=True) for _ in range(2))
    inputs = first[0].weight.new_tensor(images.astype(np.float32) / 255)[:, None]
    scores = first(inputs).detach()
    assert (scores.argmax(1).numpy() == labels).mean() > 0.95
    assert (scores == second(inputs).detach()).all()


def test_bundled_files():
    with np.load(MODELS / "fashion_mnist_test.npz") as archive:
        images, labels = archive["images"], archive["labels"]
    assert images.shape == (1000, 28, 28)
    assert images.dtype == np.uint8
    session = onnxruntime.InferenceSession(MODELS / "lenet5.onnx")
    scores = np.concatenate([session.run(None, {"image": image[None, None].astype(np.float32) / 255})[0]
                             for image in images])
    assert (scores.argmax(1) == labels).mean() > 0.92
    with np.load(MODELS / "fashion_mnist_calibration.npz") as archive:
        calibration = archive["images"]
    assert calibration.shape == (200, 28, 28)
    assert not {image.tobytes() for image in calibration} & {image.tobytes() for image in images}
