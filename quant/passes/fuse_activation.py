"""Activations move into the node that computes the tensor, and from there in front of pools."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from quant.graph import Activation, Concat, MaxPool, Node, Select, Shape

__all__ = ["fuse_activations", "hoist_activations"]


def _after(first: Activation, second: Activation) -> Activation:
    """One clip that does what two do, one after the other."""
    return Activation(float(np.clip(first.low, second.low, second.high)),
                      float(np.clip(first.high, second.low, second.high)))


def _only_clips(node: Node, shape: Shape) -> bool:
    return isinstance(node, Select) and node == Select(
        name=node.name, inputs=node.inputs, output=node.output, activation=node.activation, size=shape)


def fuse_activations(nodes: list[Node], shapes: dict[str, Shape], protected: AbstractSet[str]) -> list[Node]:
    """The nodes without those that only clip what one other node computes.

    A tensor that another node reads, or that is ``protected``, keeps both nodes.
    """
    nodes = list(nodes)
    position = 0
    while position < len(nodes):
        clip = nodes[position]
        tensor = clip.inputs[0]
        if _only_clips(clip, shapes[tensor]) and tensor not in protected:
            before = next((node for node in nodes if node.output == tensor), None)
            if before is not None and sum(tensor in node.inputs for node in nodes) == 1:
                index = next(index for index, node in enumerate(nodes) if node is before)
                nodes[index] = replace(before, output=clip.output,
                                       activation=_after(before.activation, clip.activation))
                del nodes[position]
                continue
        position += 1
    return nodes


def hoist_activations(nodes: list[Node], shapes: dict[str, Shape], protected: AbstractSet[str],
                      tensor_name: Callable[[str], str]) -> list[Node]:
    """The nodes with activations of MaxPool, Concat and Select moved to what computes their inputs.

    Clipping before taking the largest is the same as after, and the tensor in between then is never
    negative, which leaves it one more bit.
    """
    nodes = list(nodes)
    for position in range(len(nodes) - 1, -1, -1):
        node = nodes[position]
        bounds = node.activation
        if bounds == Activation() or not isinstance(node, MaxPool | Concat | Select):
            continue
        if isinstance(node, Select) and any(node.pad_channels) and not bounds.low <= 0 <= bounds.high:
            continue
        sources = [next((index for index, other in enumerate(nodes) if other.output == tensor), None)
                   for tensor in dict.fromkeys(node.inputs)]
        if any(source is None for source in sources) or any(
                tensor in protected or sum(tensor in other.inputs for other in nodes) != 1
                for tensor in node.inputs):
            continue
        renamed = {}
        for source in sources:
            assert source is not None
            old = nodes[source].output
            renamed[old] = tensor_name(f"{old}/clipped")
            shapes[renamed[old]] = shapes[old]
            nodes[source] = replace(nodes[source], output=renamed[old],
                                    activation=_after(nodes[source].activation, bounds))
        nodes[position] = replace(node, inputs=tuple(renamed[tensor] for tensor in node.inputs),
                                  activation=Activation())
    return nodes
