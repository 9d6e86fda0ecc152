"""Trained ternary quantization (Zhu et al. 2017): the weights of a layer are -Wn, 0 and +Wp."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from quant.compression.checkpoint import Checkpoint
from quant.compression.error import CompressionError
from quant.compression.labelled_data import LabelledData
from quant.compression.layer_numbers import kind_of
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train

__all__ = [
    "TernaryGradients",
    "TernaryLayer",
    "TernaryPlan",
    "TernaryWeights",
    "spread_ternary",
    "ternary_gradients",
    "ternary_signs",
]

#: Wp and Wn stay above this, so that a layer's values keep their signs.
_LEAST_VALUE = 1e-6


@dataclass(frozen=True)
class TernaryPlan:
    """Which layers become ternary and where their zeros begin; a layer is in one of the two.

    Attributes
    ----------
    thresholds : mapping
        By layer, D as a share of the largest latent magnitude: D = t max|W| (section 4).
    zeros : mapping
        By layer, the share of weights that are zero: D is the magnitude that leaves so many below it (the
        variant for ImageNet).
    """

    thresholds: Mapping[str, float]
    zeros: Mapping[str, float]

    @property
    def layers(self) -> list[str]:
        """The names of the layers that become ternary."""
        return [*self.thresholds, *self.zeros]


@dataclass(frozen=True)
class TernaryLayer:
    """What became of a layer.

    Attributes
    ----------
    zeros : float
        Share of its weights that are zero.
    positive, negative : float
        Wp and Wn; a layer without weights of a sign has 0 there. Those of a layer that stays float are 0.
    bits : int
        Of a weight: 2, or 32 for a layer that stays float.
    """

    name: str
    kind: str
    weights: int
    zeros: float
    positive: float
    negative: float
    bits: int

    def to_json(self) -> dict[str, object]:
        """The layer as a JSON object."""
        return asdict(self)


def ternary_signs(
    latent: torch.Tensor, threshold: float | None = None, zeros: float | None = None
) -> torch.Tensor:
    """+1 where W > D, -1 where W < -D, else 0, of the shape of the latent weights W.

    Parameters
    ----------
    latent : float tensor
    threshold, zeros : float or None
        One of the two, as in `TernaryPlan`.
    """
    magnitude = latent.detach().abs()
    if zeros is None:
        assert threshold is not None
        limit = threshold * magnitude.max()
    else:
        count = round(zeros * magnitude.numel())
        limit = magnitude.flatten().kthvalue(count).values if count else magnitude.new_tensor(0.0)
    return latent.detach().sign() * (magnitude > limit)


def spread_ternary(signs: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """The ternary weights: Wp, 0 and -Wn for the signs 1, 0 and -1 (section 4)."""
    return torch.where(signs > 0, positive, torch.where(signs < 0, -negative, torch.zeros_like(positive)))


@dataclass(frozen=True)
class TernaryGradients:
    """Those of the loss with respect to Wp, Wn (scalars) and the latent weights."""

    positive: torch.Tensor
    negative: torch.Tensor
    latent: torch.Tensor


def ternary_gradients(
    gradient: torch.Tensor, signs: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> TernaryGradients:
    """From the gradient with respect to ternary weights to those of what they are made of.

    Wp has the sum over the positive weights, Wn minus the sum over the negative ones, because their value is
    -Wn (section 4).  That of a latent weight is scaled by Wp, 1 or Wn.
    """
    above, below = signs > 0, signs < 0
    one = torch.ones_like(positive)
    return TernaryGradients(
        (gradient * above).sum(),
        -(gradient * below).sum(),
        gradient * torch.where(above, positive, torch.where(below, negative, one)),
    )


class TernaryWeights:
    """Layers of a network whose weights are made of latent ones, Wp and Wn; the others train as usual.

    Parameters
    ----------
    network : TrainableNetwork
        The weights of the plan's layers become ternary at once.

    Attributes
    ----------
    latent : dict of float tensors
        By layer, of the weights' shape; at the start the weights over their largest magnitude.
    positive, negative : dict of float scalars
        Wp and Wn by layer; at the start the mean magnitude of the weights that they replace.

    Raises
    ------
    CompressionError
        If all weights of a layer are within the threshold.
    """

    def __init__(self, network: TrainableNetwork, plan: TernaryPlan):
        self.network, self.plan = network, plan
        self.latent: dict[str, torch.Tensor] = {}
        self.positive: dict[str, torch.Tensor] = {}
        self.negative: dict[str, torch.Tensor] = {}
        for name in plan.layers:
            weight = network.weights[name].detach()
            largest = weight.abs().max()
            self.latent[name] = (weight / largest if largest > 0 else weight.clone()).requires_grad_()
            signs = self.signs(name)
            if not signs.any():
                raise CompressionError(
                    f"{name}: all of its {weight.numel():,} weights are within the threshold and would be "
                    "zero; give it a lower one, or leave the layer float"
                )
            everywhere = weight[signs != 0].abs().mean()
            for values, chosen in ((self.positive, signs > 0), (self.negative, signs < 0)):
                mean = weight[chosen].abs().mean() if chosen.any() else everywhere
                values[name] = mean.clone().requires_grad_()
        self._spread()

    def signs(self, name: str) -> torch.Tensor:
        """Of the layer's ternary weights: 1, 0 and -1."""
        return ternary_signs(
            self.latent[name], self.plan.thresholds.get(name), self.plan.zeros.get(name)
        )

    def parameters(self) -> list[torch.Tensor]:
        """What is trained: latent weights, Wp, Wn, the weights of float layers, all biases."""
        left = [weight for name, weight in self.network.weights.items() if name not in self.latent]
        return [
            *self.latent.values(),
            *self.positive.values(),
            *self.negative.values(),
            *left,
            *self.network.biases.values(),
        ]

    def _spread(self) -> None:
        """Write the ternary weights into the network."""
        with torch.no_grad():
            for name in self.latent:
                for value in (self.positive[name], self.negative[name]):
                    value.clamp_(min=_LEAST_VALUE)
                self.network.weights[name].copy_(
                    spread_ternary(self.signs(name), self.positive[name], self.negative[name])
                )

    def _gather(self) -> None:
        """Hand the gradients of the ternary weights on."""
        for name, latent in self.latent.items():
            gradient = self.network.weights[name].grad
            assert gradient is not None
            positive, negative = self.positive[name], self.negative[name]
            with torch.no_grad():
                found = ternary_gradients(gradient, self.signs(name), positive, negative)
            latent.grad, positive.grad, negative.grad = found.latent, found.positive, found.negative

    def _state(self) -> dict[str, dict[str, torch.Tensor]]:
        return {
            what: {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
            for what, tensors in (
                ("latent", self.latent),
                ("positive", self.positive),
                ("negative", self.negative),
            )
        }

    def _load(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        with torch.no_grad():
            for what, tensors in state.items():
                for name, tensor in tensors.items():
                    getattr(self, what)[name].copy_(tensor)
        self._spread()

    def train(
        self,
        data: LabelledData,
        settings: TrainingSettings,
        *,
        checkpoint: Checkpoint | None = None,
        progress: Callable[[int], object] = lambda images: None,
    ) -> None:
        """Train everything.

        Parameters
        ----------
        checkpoint : Checkpoint or None
            Taken up if it holds a state, written after each epoch, left in place at the end.

        Raises
        ------
        CompressionError
            As `quant.compression.training.train`, or if latent weights are no finite numbers in the end.
        """
        checkpoint = checkpoint or Checkpoint(None)
        state, resumed = checkpoint.load(), None
        if state is not None:
            self.network.load(state["network"])
            self._load(state["ternary"])
            resumed = state["training"]
            progress(len(data) * resumed["epoch"])

        def save(trained: Mapping[str, Any]) -> None:
            checkpoint.save(
                {"network": self.network.state(), "ternary": self._state(), "training": trained}
            )

        train(
            self.network,
            data,
            settings,
            parameters=self.parameters(),
            stage=2000,
            before_step=self._gather,
            after_step=self._spread,
            resumed=resumed,
            after_epoch=save,
            progress=progress,
        )
        for name, latent in self.latent.items():
            if not latent.isfinite().all():  # their ternary weights are 0, so the loss need not show it
                raise CompressionError(
                    f"{name}: its latent weights are no finite numbers; train with a smaller learning rate "
                    f"than {settings.learning_rate:g}"
                )

    def layers(self) -> tuple[TernaryLayer, ...]:
        """All layers of the network as they are now."""
        found = []
        for name, tensor in self.network.weights.items():
            weight, ternary = tensor.detach(), name in self.latent
            positive, negative = float(weight.max()), -float(weight.min())
            found.append(
                TernaryLayer(
                    name,
                    kind_of(self.network.layers[name], self.network.graph),
                    weight.numel(),
                    float((weight == 0).float().mean()),
                    max(positive, 0.0) if ternary else 0.0,
                    max(negative, 0.0) if ternary else 0.0,
                    2 if ternary else 32,
                )
            )
        return tuple(found)
