"""Batch norm and other scales per channel disappear into the convolutions around them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from quant.graph import Activation, Convolution, Node

__all__ = ["fold_scales"]


def _is_scale(node: Node) -> bool:
    """Whether a node computes ``scale * x + shift`` per channel and nothing else, before its activation."""
    return (isinstance(node, Convolution) and node.weight.shape[1:] == (1, 1, 1)
            and node.groups == len(node.weight) and node.stride == (1, 1) and not any(node.pads))


def _behind(convolution: Convolution, scale: Convolution) -> Convolution:
    """``scale(convolution(x))`` as one convolution."""
    factor = scale.weight.astype(np.float64)
    weight = convolution.weight if (factor == 1).all() else convolution.weight * factor
    bias = convolution.bias * factor.reshape(-1) + scale.bias
    return replace(convolution, weight=weight.astype(np.float32, copy=False),
                   bias=bias.astype(np.float32), output=scale.output, activation=scale.activation)


def _before(scale: Convolution, convolution: Convolution) -> Convolution:
    """``convolution(scale(x))`` as one convolution; without pads, or without a shift."""
    outputs, depth = convolution.weight.shape[:2]
    # the input channels that each output channel reads: (out, in / groups)
    group = np.arange(outputs) // (outputs // convolution.groups)
    channels = group[:, None] * depth + np.arange(depth)
    factor = scale.weight.reshape(-1).astype(np.float64)[channels]
    shift = scale.bias.astype(np.float64)[channels]
    bias = convolution.bias + (convolution.weight * shift[:, :, None, None]).sum(axis=(1, 2, 3))
    return replace(convolution, weight=(convolution.weight * factor[:, :, None, None]).astype(np.float32),
                   bias=bias.astype(np.float32), inputs=scale.inputs)


def fold_scales(nodes: list[Node], protected: AbstractSet[str]) -> list[Node]:
    """The nodes with every scale folded that can be, exactly up to float rounding.

    A scale is folded into the convolution before it, or else into the one behind it, if no other
    node reads the tensor between them and that tensor is not ``protected``.
    """
    nodes = list(nodes)

    def place(node: Node) -> int:
        return next(index for index, other in enumerate(nodes) if other is node)

    position = 0
    while position < len(nodes):
        scale = nodes[position]
        before = next((node for node in nodes if _is_scale(scale) and node.output == scale.inputs[0]), None)
        if (isinstance(scale, Convolution) and isinstance(before, Convolution)
                and before.activation == Activation() and before.output not in protected
                and sum(before.output in node.inputs for node in nodes) == 1
                # rounding to float32 twice is not worth a layer that the model calls a convolution
                and not (_is_scale(before) and any(before.pads))):
            nodes[place(before)] = _behind(before, scale)
            del nodes[position]
            continue
        position += 1
    for name in [node.name for node in nodes]:
        scale = next(node for node in nodes if node.name == name)
        readers = [node for node in nodes if scale.output in node.inputs]
        if not (_is_scale(scale) and scale.activation == Activation() and scale.output not in protected
                and len(readers) == 1 and isinstance(scale, Convolution)):
            continue
        after = readers[0]
        if isinstance(after, Convolution) and (not any(after.pads) or not scale.bias.any()):
            nodes[place(after)] = _before(scale, after)
            del nodes[place(scale)]
    return nodes
