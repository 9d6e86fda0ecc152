"""A factor on the network's input, so that its values fill the format's range.

A power-of-two scale can leave almost half of the input's range unused, and the input's error goes
through the whole network.  The host prepares the image anyway (`Preparation.gain`), and the first
layers' weights take the factor back, so that it costs the machine nothing.  Pixels often become exact
this way: k / 255 times 255 / 256 is k / 256.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant.graph import Convolution, Graph
from quant.number_format import Format

__all__ = ["choose_gain", "takes_gain", "with_input_gain"]

#: A channel with a smaller range is not made larger by more than this, relative to the largest.
_LARGEST_RATIO = 8.0


def takes_gain(graph: Graph) -> bool:
    """Whether only convolutions read the input, so that their weights can take the factor back."""
    readers = graph.consumers(graph.input)
    return bool(readers) and all(isinstance(node, Convolution) for node in readers)


def choose_gain(low: NDArray[np.floating], high: NDArray[np.floating], form: Format) -> tuple[float, ...]:
    """Factor for each channel, from its range ``low`` … ``high`` (C,) to that of the format.

    Channels that are always 0, or so small that no float32 lifts them, get the smallest factor of the
    others.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = [form.high * form.scale / np.asarray(high, np.float64)]
        if form.signed:
            sides.append(form.low * form.scale / np.asarray(low, np.float64))
        gain = np.min([np.where(side > 0, side, np.inf) for side in sides], axis=0)
    possible = gain <= np.finfo(np.float32).max
    if not possible.any():
        return (1.0,)
    smallest = gain[possible].min()
    gain = np.where(possible, gain, smallest)
    gain = np.minimum(gain, _LARGEST_RATIO * smallest)
    return tuple(float(np.float32(value)) for value in gain)


def with_input_gain(graph: Graph, gain: tuple[float, ...]) -> Graph:
    """The network that computes the same from an input multiplied by ``gain`` (C,) or (1,)."""
    if set(gain) == {1.0}:
        return graph
    factors = np.broadcast_to(np.asarray(gain, np.float64), graph.shapes[graph.input][0])
    nodes = []
    for node in graph.nodes:
        if graph.input in node.inputs:
            assert isinstance(node, Convolution), f"{node.name} cannot take the input's gain back"
            inputs = factors.reshape(node.groups, 1, -1)
            shape = (node.groups, -1, inputs.shape[2], node.weight.shape[2] * node.weight.shape[3])
            weight = np.asarray(node.weight, np.float64).reshape(shape) / inputs[..., None]
            node = replace(node, weight=weight.reshape(node.weight.shape).astype(np.float32))
        nodes.append(node)
    return replace(graph, nodes=nodes, _producers={})
