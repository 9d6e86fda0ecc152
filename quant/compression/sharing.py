"""Trained weight sharing (Han et al. 2016, section 3): the weights of a layer take few values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from quant.compression.checkpoint import Checkpoint
from quant.compression.clustering import shared_values
from quant.compression.labelled_data import LabelledData
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train

__all__ = ["SharedWeights", "clusters_of"]


def clusters_of(network: TrainableNetwork, bits: Mapping[str, float]) -> dict[str, int]:
    """How many values a layer's kept weights may take with indices of so many bits.

    One value of a layer with zeros is 0 itself.
    """
    return {
        name: (1 << int(bits[name])) - bool((weight.detach() == 0).any())
        for name, weight in network.weights.items()
    }


class SharedWeights:
    """The weights of a network, tied to the centroids of their layers; zeros stay zero.

    Parameters
    ----------
    network : TrainableNetwork
        Its weights become the centroids at once.
    clusters : mapping
        How many each layer may have, by name.
    start : str
        One of `quant.compression.clustering.STARTS`.

    Attributes
    ----------
    centroids : dict of float32 tensors (k,)
        By layer; none for a layer of zeros.
    """

    def __init__(
        self, network: TrainableNetwork, clusters: Mapping[str, int], start: str = "linear", seed: int = 0
    ):
        self.network = network
        self.centroids: dict[str, torch.Tensor] = {}
        self._places: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for name, weight in network.weights.items():
            flat = weight.detach().cpu().numpy().reshape(-1)
            positions = np.flatnonzero(flat)
            if not len(positions):
                continue
            book, indices = shared_values(flat[positions], clusters[name], start, seed)
            self.centroids[name] = torch.from_numpy(book.copy()).to(network.device).requires_grad_()
            self._places[name] = (
                torch.from_numpy(positions).to(network.device),
                torch.from_numpy(indices).to(network.device),
            )
        network.mask_zeros()
        self._spread()

    def _spread(self) -> None:
        """Write the centroids into the weights."""
        with torch.no_grad():
            for name, (positions, indices) in self._places.items():
                self.network.weights[name].view(-1)[positions] = self.centroids[name][indices]

    def _gather(self) -> None:
        """The gradient of a centroid is the sum over its cluster (section 3.3)."""
        for name, (positions, indices) in self._places.items():
            gradient = self.network.weights[name].grad
            assert gradient is not None
            centroids = self.centroids[name]
            centroids.grad = torch.zeros_like(centroids).index_add_(
                0, indices, gradient.reshape(-1)[positions]
            )

    def fine_tune(
        self,
        data: LabelledData,
        settings: TrainingSettings,
        *,
        checkpoint: Checkpoint | None = None,
        progress: Callable[[int], object] = lambda images: None,
    ) -> None:
        """Train centroids and biases.

        Parameters
        ----------
        checkpoint : Checkpoint or None
            Taken up if it holds a state, written after each epoch, left in place at the end.

        Raises
        ------
        CompressionError
            As `quant.compression.training.train`.
        """
        checkpoint = checkpoint or Checkpoint(None)
        network = self.network
        state = checkpoint.load()
        resumed = None
        if state is not None:
            network.load(state["network"])
            with torch.no_grad():
                for name, centroids in self.centroids.items():
                    centroids.copy_(state["centroids"][name])
            resumed = state["training"]
            progress(len(data) * resumed["epoch"])

        def save(trained: Mapping[str, Any]) -> None:
            centroids = {name: tensor.detach().cpu().clone() for name, tensor in self.centroids.items()}
            checkpoint.save({"network": network.state(), "centroids": centroids, "training": trained})

        train(
            network,
            data,
            settings,
            parameters=[*self.centroids.values(), *network.biases.values()],
            stage=1000,
            before_step=self._gather,
            after_step=self._spread,
            resumed=resumed,
            after_epoch=save,
            progress=progress,
        )
