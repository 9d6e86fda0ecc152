"""Work whose fully connected weights are few: pruned to a share and left with few values, or ternary.

What a network loses by that is the matter of `quant`; cycles only depend on which weights are zero and how
many values they take.  Activations keep their formats.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant.fixed_model import FixedModel
from quant.graph import Convolution
from quant.widths import is_fully_connected

__all__ = ["pruned", "ternary"]

#: Values besides zero that a sparse stream's codebook of four bits holds.
_VALUES = 15


def _fully_connected(model: FixedModel) -> list[str]:
    nodes = (node for node in model.graph.nodes if isinstance(node, Convolution))
    return [node.name for node in nodes if is_fully_connected(node, model.graph)]


def _with(model: FixedModel, change) -> FixedModel:
    weights = dict(model.weights)
    for name in _fully_connected(model):
        values = weights[name].values
        weights[name] = replace(weights[name], values=change(values).astype(values.dtype))
    return replace(model, weights=weights)


def pruned(model: FixedModel, share: float = 0.08) -> FixedModel:
    """The largest ``share`` of each fully connected layer's weights, rounded to 15 values equally far
    apart."""

    def change(values: NDArray[np.integer]) -> NDArray[np.integer]:
        magnitudes = np.abs(values.astype(np.int64))
        # of equal magnitudes those at the front
        order = np.argsort(-magnitudes, axis=None, kind="stable")
        kept = np.zeros(values.size, bool)
        kept[order[: round(share * values.size)]] = True
        kept = kept.reshape(values.shape) & (values != 0)
        levels = np.unique(np.linspace(values.min(), values.max(), _VALUES + 1).round().astype(np.int64))
        levels = levels[np.argsort(np.abs(levels))][-_VALUES:]
        levels.sort()
        nearest = levels[np.abs(values.astype(np.int64)[..., None] - levels).argmin(axis=-1)]
        return np.where(kept, nearest, 0)

    return _with(model, change)


def ternary(model: FixedModel, threshold: float = 0.05) -> FixedModel:
    """Fully connected weights -n, 0 and p: zero up to the ``threshold`` times the largest, the others their
    means (Zhu et al. 2017, section 3)."""

    def change(values: NDArray[np.integer]) -> NDArray[np.integer]:
        limit = threshold * np.abs(values.astype(np.int64)).max()
        positive, negative = values > limit, values < -limit
        high = values[positive].mean() if positive.any() else 0
        low = values[negative].mean() if negative.any() else 0
        return np.where(positive, round(float(high)), np.where(negative, round(float(low)), 0))

    return _with(model, change)
