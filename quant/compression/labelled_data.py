"""Labelled images as tensors, split for training and validation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from quant.compression.error import CompressionError
from quant.data import ImageSet, prepare
from quant.fixed_model import Preparation
from quant.graph import Graph

__all__ = ["LabelledData", "labelled_data", "split"]


@dataclass(frozen=True, eq=False)
class LabelledData:
    """Network inputs and classes.

    Attributes
    ----------
    inputs : float32 tensor (N, C, H, W)
    labels : int64 tensor (N,), or float32 tensor (N, classes)
        Classes; to train on also their probabilities.
    """

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: torch.Tensor) -> LabelledData:
        """The images at these positions."""
        return LabelledData(self.inputs[indices], self.labels[indices])

    def to(self, device: torch.device) -> LabelledData:
        """The same on a device."""
        return LabelledData(self.inputs.to(device), self.labels.to(device))


def labelled_data(
    graph: Graph, images: ImageSet, preparation: Preparation | None = None, layout: str | None = None
) -> LabelledData:
    """Images prepared as a network's input, with their labels.

    Raises
    ------
    CompressionError
        If labels are missing or are not classes of the network.
    DataError
        If images do not fit the network.
    """
    if images.labels is None:
        raise CompressionError(
            f"{images.name}: it has no labels, and training needs them; give an .npz with "
            "images and labels, or a folder with a folder for each class"
        )
    outputs = math.prod(graph.shapes[graph.output])
    labels = images.labels
    if not len(labels):
        raise CompressionError(f"{images.name}: it holds no images; give some")
    if not 0 <= labels.min() <= labels.max() < outputs:
        raise CompressionError(
            f"{images.name}: labels go from {labels.min()} to {labels.max()}, but the network "
            f"has {outputs} outputs; give labels from 0 to {outputs - 1}"
        )
    batches = prepare(
        images, preparation or Preparation(), graph.shapes[graph.input], graph.input_layout, layout, 256
    )
    inputs = np.concatenate(list(batches))
    return LabelledData(torch.from_numpy(inputs), torch.from_numpy(labels.copy()))


def split(data: LabelledData, share: float, seed: int) -> tuple[LabelledData, LabelledData]:
    """A random share of the data for validation, after the rest for training.

    Raises
    ------
    CompressionError
        If one of the two would be empty.
    """
    count = round(share * len(data))
    if not 0 < count < len(data):
        raise CompressionError(
            f"{len(data)} images cannot be split into training and validation at {share:g}; "
            "give more images, or others for validation"
        )
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data.take(order[count:].sort().values), data.take(order[:count].sort().values)
