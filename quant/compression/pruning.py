"""Iterative magnitude pruning with retraining (Han et al. 2015, sections 3.1 to 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from quant.compression.checkpoint import Checkpoint
from quant.compression.error import CompressionError
from quant.compression.labelled_data import LabelledData
from quant.compression.layer_numbers import kind_of
from quant.compression.sensitivity import keep_largest
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train_masked

__all__ = ["LayerPruning", "Pruning", "PruningPlan", "PruningRound", "prune", "standard_deviations"]


@dataclass(frozen=True)
class PruningPlan:
    """What is pruned in the end; exactly one of the first two is given.

    Attributes
    ----------
    shares : mapping or None
        Share of weights kept, by layer.
    qualities : mapping or None
        Threshold of each layer in standard deviations of its weights in the dense network; 0 prunes nothing.
    rounds : int
        In round r of R the shares are share^(r / R), the thresholds r / R of those asked for.
    """

    shares: Mapping[str, float] | None = None
    qualities: Mapping[str, float] | None = None
    rounds: int = 4


@dataclass(frozen=True)
class LayerPruning:
    """What became of a layer; ``threshold`` is the smallest magnitude kept when it was pruned last."""

    name: str
    kind: str
    weights: int
    kept: int
    threshold: float


@dataclass(frozen=True)
class PruningRound:
    """One round: share of all weights kept, accuracy on validation data before and after retraining."""

    kept: float
    pruned_accuracy: float
    retrained_accuracy: float


@dataclass(frozen=True)
class Pruning:
    """The result.

    Attributes
    ----------
    dense_accuracy, accuracy : float
        On validation data, before and after everything.
    layers : tuple of LayerPruning
    rounds : tuple of PruningRound
    """

    network: str
    dense_accuracy: float
    accuracy: float
    layers: tuple[LayerPruning, ...]
    rounds: tuple[PruningRound, ...]

    @property
    def kept(self) -> float:
        """Share of all weights kept."""
        return sum(layer.kept for layer in self.layers) / sum(layer.weights for layer in self.layers)

    def to_json(self) -> dict[str, object]:
        """The result as a JSON object."""
        return {**asdict(self), "kept": self.kept}


def standard_deviations(network: TrainableNetwork) -> dict[str, float]:
    """Of each layer's weights, zeros included."""
    return {name: float(weight.detach().std(unbiased=False)) for name, weight in network.weights.items()}


def prune(
    network: TrainableNetwork,
    plan: PruningPlan,
    training: LabelledData,
    validation: LabelledData,
    settings: TrainingSettings,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[str, int], object] = lambda what, images: None,
) -> Pruning:
    """Prune and retrain in rounds; the network holds the result.

    Weights that are zero at the start count as pruned.  The validation data only measure.

    Parameters
    ----------
    checkpoint : Checkpoint or None
        Taken up if it holds a state, written after each epoch, left in place at the end.
    progress : callable
        Called with what is being done, and how many more images were seen.

    Raises
    ------
    CompressionError
        If a layer would be left without weights, or training fails.
    """
    checkpoint = checkpoint or Checkpoint(None)
    sigma, dense = standard_deviations(network), network.accuracy(validation)
    network.mask_zeros()
    rounds: list[PruningRound] = []
    thresholds = dict.fromkeys(network.weights, 0.0)
    first, resumed = 0, None
    state = checkpoint.load()
    if state is not None:
        network.load(state["network"])
        first, resumed = state["round"], state["training"]
        rounds = [PruningRound(*entry) for entry in state["rounds"]]
        thresholds, sigma, dense = state["thresholds"], state["sigma"], state["dense"]
        progress("", len(training) * settings.epochs * first)
    for number in range(first, plan.rounds):
        what = f"round {number + 1} of {plan.rounds}"
        pruned = state["pruned"] if resumed is not None and state is not None else 0.0
        if resumed is None:
            thresholds = _prune_once(network, plan, (number + 1) / plan.rounds, sigma)
            pruned = network.accuracy(validation)
        else:
            progress(what, len(training) * resumed["epoch"])

        def save(
            trained: Mapping[str, object],
            number: int = number,
            pruned: float = pruned,
            now: Mapping[str, float] = thresholds,
        ) -> None:
            checkpoint.save(
                {
                    "network": network.state(),
                    "round": number,
                    "training": trained,
                    "rounds": [[each.kept, each.pruned_accuracy, each.retrained_accuracy] for each in rounds],
                    "thresholds": now,
                    "sigma": sigma,
                    "dense": dense,
                    "pruned": pruned,
                }
            )

        def advance(images: int, what: str = what) -> None:
            progress(what, images)

        train_masked(
            network, training, settings, stage=number, resumed=resumed, after_epoch=save, progress=advance
        )
        resumed = None
        kept = sum(network.kept().values()) / network.size()
        rounds.append(PruningRound(kept, pruned, network.accuracy(validation)))
    kept_of = network.kept()
    layers = tuple(
        LayerPruning(
            name,
            kind_of(network.layers[name], network.graph),
            weight.numel(),
            kept_of[name],
            thresholds[name],
        )
        for name, weight in network.weights.items()
    )
    return Pruning(network.graph.name, dense, network.accuracy(validation), layers, tuple(rounds))


def _prune_once(
    network: TrainableNetwork, plan: PruningPlan, part: float, sigma: Mapping[str, float]
) -> dict[str, float]:
    """Tighten the masks; the smallest magnitude kept of each layer."""
    thresholds = {}
    for name, weight in network.weights.items():
        if plan.shares is not None:
            if round(plan.shares[name] * weight.numel()) < 1:
                raise CompressionError(
                    f"{name}: a share of {plan.shares[name]:g} of its {weight.numel():,} weights "
                    "leaves none; keep more of it"
                )
            mask = keep_largest(weight * network.masks[name], plan.shares[name] ** part)
        else:
            threshold = part * (plan.qualities or {}).get(name, 0.0) * sigma[name]
            mask = (weight.detach().abs() >= threshold).float()
        mask = mask * network.masks[name]
        if not mask.any():
            raise CompressionError(f"{name}: none of its {weight.numel():,} weights is left; prune it less")
        network.masks[name] = mask
        thresholds[name] = float(weight.detach().abs()[mask > 0].min())
    network.apply_masks()
    return thresholds
