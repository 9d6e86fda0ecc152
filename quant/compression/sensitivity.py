"""How much of each layer can be pruned alone (Han et al. 2015, figure 6), and shares that follow from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from quant.compression.labelled_data import LabelledData
from quant.compression.layer_numbers import kind_of
from quant.compression.trainable import TrainableNetwork

__all__ = ["SHARES", "LayerSensitivity", "Sensitivity", "keep_largest", "scan_sensitivity"]

#: Shares of a layer's weights kept that a scan tries.
SHARES = (0.8, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01)


def keep_largest(weight: torch.Tensor, share: float) -> torch.Tensor:
    """A mask (1 or 0, the weight's shape) of the share of weights that are largest in magnitude.

    At least one weight is kept; of equal ones the first.
    """
    count = max(1, round(share * weight.numel()))
    order = torch.sort(weight.detach().abs().flatten(), descending=True, stable=True).indices
    mask = torch.zeros(weight.numel(), device=weight.device)
    mask[order[:count]] = 1
    return mask.reshape(weight.shape)


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer's curve.

    Attributes
    ----------
    name, kind : str
        ``kind`` is ``conv`` or ``fc``.
    size : int
        Weights.
    accuracy : tuple of float
        With only this layer pruned, for each of the scan's shares.
    """

    name: str
    kind: str
    size: int
    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class Sensitivity:
    """The scan of a network, without retraining.

    Attributes
    ----------
    network : str
    images : int
    accuracy : float
        Of the dense network, a share of 1.
    shares : tuple of float
        Shares kept, descending.
    layers : tuple of LayerSensitivity
    """

    network: str
    images: int
    accuracy: float
    shares: tuple[float, ...]
    layers: tuple[LayerSensitivity, ...]

    def to_json(self) -> dict[str, object]:
        """The scan as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Sensitivity:
        """The scan that `to_json` gave."""
        layers = [
            LayerSensitivity(entry["name"], entry["kind"], entry["size"], tuple(entry["accuracy"]))
            for entry in content["layers"]
        ]
        return cls(
            content["network"],
            content["images"],
            content["accuracy"],
            tuple(content["shares"]),
            tuple(layers),
        )

    def shares_for_loss(self, loss: float) -> dict[str, float]:
        """The least share of each layer at which, pruned alone, it loses at most ``loss`` (a share of 1).

        Between two shares of the scan the logarithm of the share is interpolated.  A weight is always kept.
        """
        return {layer.name: max(self._share(layer, loss), 1 / layer.size) for layer in self.layers}

    def _share(self, layer: LayerSensitivity, loss: float) -> float:
        wanted = self.accuracy - loss
        before_share, before = 1.0, self.accuracy
        for share, accuracy in zip(self.shares, layer.accuracy):
            if accuracy < wanted:
                part = (before - wanted) / (before - accuracy) if before > accuracy else 0.0
                return math.exp(math.log(before_share) + part * math.log(share / before_share))
            before_share, before = share, accuracy
        return before_share

    def shares_for_total(self, total: float) -> dict[str, float]:
        """Shares that keep ``total`` of all weights, with the same loss for every layer pruned alone.

        Where no loss gives so few, all shares are reduced by the same factor; where even no loss at all
        would give fewer, they are raised, by the same power of each.  Where a curve is flat, a little more
        loss gives a much smaller share; logarithms of shares are then interpolated between the two.
        """
        sizes = {layer.name: layer.size for layer in self.layers}

        def kept(shares: Mapping[str, float]) -> float:
            return sum(shares[name] * size for name, size in sizes.items()) / sum(sizes.values())

        lossless = self.shares_for_loss(0.0)
        if kept(lossless) < total:
            low, high = 0.0, 1.0
            for _ in range(40):
                middle = (low + high) / 2
                power = {name: share**middle for name, share in lossless.items()}
                low, high = (middle, high) if kept(power) > total else (low, middle)
            return {name: share**high for name, share in lossless.items()}
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            if kept(self.shares_for_loss(middle)) > total:
                low = middle
            else:
                high = middle
        larger, shares = self.shares_for_loss(low), self.shares_for_loss(high)
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            between = {name: larger[name] * (shares[name] / larger[name]) ** middle for name in shares}
            low, high = (middle, high) if kept(between) > total else (low, middle)
        shares = {name: larger[name] * (shares[name] / larger[name]) ** high for name in shares}
        factor = min(1.0, total / kept(shares))
        return {name: max(share * factor, 1 / sizes[name]) for name, share in shares.items()}


def scan_sensitivity(
    network: TrainableNetwork,
    data: LabelledData,
    shares: Sequence[float] = SHARES,
    progress: Callable[[str], object] = lambda name: None,
) -> Sensitivity:
    """Prune one layer at a time to each share, and measure; the network is as before afterwards.

    ``progress`` is called with a layer's name after each measurement.
    """
    shares = tuple(sorted(shares, reverse=True))
    base = network.accuracy(data)
    layers = []
    for name, weight in network.weights.items():
        original = weight.detach().clone()
        found = []
        for share in shares:
            with torch.no_grad():
                weight.copy_(original * keep_largest(original, share))
            found.append(network.accuracy(data))
            progress(name)
        with torch.no_grad():
            weight.copy_(original)
        kind = kind_of(network.layers[name], network.graph)
        layers.append(LayerSensitivity(name, kind, original.numel(), tuple(found)))
    return Sensitivity(network.graph.name, len(data), base, shares, tuple(layers))
