"""Scales moved between layers, so that the filters of a layer that becomes ternary are alike in size.

Batch norm leaves a scale in each filter once it is folded, and a ternary layer has one Wp and one Wn for all
of its filters.  Where only one layer reads a layer's result, and what lies between scales along with its
input (ReLU, pooling), a filter can be divided by any s > 0 and its reader's weights multiplied by s: the network
computes the same (Nagel et al. 2019, section 4.1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quant.compression.layer_numbers import layers_of
from quant.graph import AveragePool, Convolution, Graph, MaxPool, Node

__all__ = ["equalized", "readers_of_scales"]


def _scales_along(node: Node) -> bool:
    """Whether a positive factor on the input of the activation comes out of it."""
    activation = node.activation
    return activation.low in (0.0, -math.inf) and activation.high == math.inf


def readers_of_scales(graph: Graph) -> dict[str, str]:
    """The layers whose filters can be scaled, with the layer that takes the scales back."""
    found = {}
    for name, node in layers_of(graph).items():
        place: Node = node
        while _scales_along(place) and place.output != graph.output:
            readers = graph.consumers(place.output)
            if len(readers) != 1:
                break
            place = readers[0]
            if isinstance(place, Convolution):
                if place.groups == 1:
                    found[name] = place.name
                break
            if not isinstance(place, MaxPool | AveragePool):
                break
    return found


def _norms(weight: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
    """Root mean square of each filter (axis 0) or of all weights of an input channel (axis 1)."""
    others = tuple(each for each in range(4) if each != axis)
    return np.sqrt((np.asarray(weight, np.float64) ** 2).mean(axis=others))


def equalized(graph: Graph, chosen: set[str], strength: float = 1.0) -> Graph:
    return graph
