"""Train the bundled LeNet-5 on Fashion-MNIST and write the files that ship with the project.

    python -m models.train_lenet5 [--data /usr/share/datasets/fashion-mnist] [--epochs 12]

The network is Caffe's LeNet-5 (20 and 50 5x5 filters, 500, 10) with a ReLU after each convolution.
Its input is the raw image divided by 255.  The data set is Debian's ``dataset-fashion-mnist`` (MIT
licence).  With the same version of torch and one thread the result is the same file.

Writes ``lenet5.onnx``, ``fashion_mnist_calibration.npz`` (200 training images) and
``fashion_mnist_test.npz`` (the first 1,000 test images) into this folder.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from hw.whole_file import write_whole

__all__ = ["LeNet5", "main", "read_idx", "save", "train"]

HERE = Path(__file__).parent


class LeNet5(nn.Sequential):
    """Caffe's LeNet-5: (1, 28, 28) images to 10 scores."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Dropout(0.5), nn.Linear(500, 10))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file of bytes, gzipped or not.

    Raises
    ------
    FileNotFoundError
        If neither the file nor its ``.gz`` is there; says how to install the data set.
    """
    for candidate, opener in ((path.with_name(path.name + ".gz"), gzip.open), (path, open)):
        if candidate.exists():
            with opener(candidate, "rb") as stream:
                content = stream.read()
            dimensions = content[3]
            shape = np.frombuffer(content, ">u4", dimensions, 4)
            return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    raise FileNotFoundError(f"{path}: not found; install Debian's dataset-fashion-mnist or give --data")


def train(images: NDArray[np.uint8], labels: NDArray[np.uint8], *, epochs: int, seed: int,
          quiet: bool = False) -> LeNet5:
    """A network trained on (N, 28, 28) images, 0 … 255, with Adam and a cosine schedule."""
    torch.manual_seed(seed)
    inputs = torch.from_numpy(images.astype(np.float32) / 255)[:, None]
    targets = torch.from_numpy(labels.astype(np.int64))
    network, batch = LeNet5(), 128
    steps = epochs * (len(inputs) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    with tqdm(total=steps, desc=f"training, seed {seed}", disable=quiet) as progress:
        for _ in range(epochs):
            order = torch.randperm(len(inputs))
            for first in range(0, len(order) - batch + 1, batch):
                chosen = order[first:first + batch]
                pixels = inputs[chosen]
                if torch.rand(()) < 0.5:
                    pixels = pixels.flip(3)
                loss = nn.functional.cross_entropy(network(pixels), targets[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update()
    return network.eval()


def save(network: LeNet5, path: Path) -> None:
    """Write the network as ONNX, without the exporter's notes on where its source code lay."""
    program = torch.onnx.export(network, (torch.zeros(1, 1, 28, 28),), dynamo=True, verbose=False,
                                input_names=["image"], output_names=["scores"])
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input,
                 *model.graph.output, *model.graph.initializer):
        part.ClearField("metadata_props")
    write_whole(path, model.SerializeToString())


def main() -> None:
    """Train, report the test accuracy, write the three files."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images, labels, test_images, test_labels = (
        read_idx(arguments.data / f"{part}-{kind}-ubyte")
        for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
    network = train(images, labels, epochs=arguments.epochs, seed=arguments.seed)
    with torch.no_grad():
        scores = network(torch.from_numpy(test_images.astype(np.float32) / 255)[:, None])
    correct = (scores.argmax(1).numpy() == test_labels).mean()
    print(f"accuracy on the {len(test_labels):,} test images: {correct:.2%}")

    save(network, arguments.output / "lenet5.onnx")
    chosen = np.random.default_rng(arguments.seed).choice(len(images), 200, replace=False)
    np.savez_compressed(arguments.output / "fashion_mnist_calibration.npz",
                        images=images[chosen], labels=labels[chosen])
    np.savez_compressed(arguments.output / "fashion_mnist_test.npz",
                        images=test_images[:1000], labels=test_labels[:1000])


if __name__ == "__main__":
    main()
