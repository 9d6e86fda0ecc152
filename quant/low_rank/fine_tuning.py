"""Training of a network of low-rank layers with labels (TPAMI 2016, section 4.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quant.compression.labelled_data import LabelledData
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train
from quant.low_rank.approximate import LowRankLayer

__all__ = ["fine_tune"]


def fine_tune(
    network: TrainableNetwork,
    layers: Iterable[LowRankLayer],
    data: LabelledData,
    settings: TrainingSettings,
    **more: Any,
) -> None:
    """Train all weights and all biases but those of the layers that have none, which stay 0.

    ``more`` and errors are those of `quant.compression.training.train`.
    """
    without = {name for layer in layers for name in layer.parts[:-1]}
    parameters = [*network.weights.values()]
    parameters += [bias for name, bias in network.biases.items() if name not in without]
    train(network, data, settings, parameters=parameters, **more)
