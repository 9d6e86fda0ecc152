"""The meaning of a float graph: every node in torch, float32."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional

from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Node, Select

__all__ = ["activate", "float_steps", "last_uses", "run_float", "run_node"]


def _padded(values: torch.Tensor, pads: tuple[int, int, int, int], fill: float) -> torch.Tensor:
    top, left, bottom, right = pads
    return functional.pad(values, (left, right, top, bottom), value=fill) if any(pads) else values


def _window_sums(values: torch.Tensor, node: AveragePool) -> torch.Tensor:
    return functional.avg_pool2d(
        _padded(values, node.pads, 0.0), node.kernel, node.stride, divisor_override=1
    )


def activate(values: torch.Tensor, activation: Activation) -> torch.Tensor:
    """``values`` clipped to the activation's bounds."""
    if activation == Activation():
        return values
    return values.clamp(activation.low, activation.high)


def run_node(
    node: Node, operands: Sequence[torch.Tensor], parameters: tuple[torch.Tensor, torch.Tensor] | None = None
) -> torch.Tensor:
    """One node's result before its activation, (N, C, H, W).

    Parameters
    ----------
    operands : sequence of float tensors (N, C, H, W)
        In the order of ``node.inputs``.
    parameters : (weight, bias) or None
        Used instead of a convolution's own.
    """
    values = operands[0]
    match node:
        case Convolution():
            weight, bias = parameters or (
                torch.as_tensor(np.array(node.weight)),
                torch.as_tensor(np.array(node.bias)),
            )
            top, left, bottom, right = node.pads
            symmetric = top == bottom and left == right
            return functional.conv2d(
                values if symmetric else _padded(values, node.pads, 0.0),
                weight,
                bias,
                node.stride,
                (top, left) if symmetric else (0, 0),
                node.dilation,
                node.groups,
            )
        case MaxPool():
            return functional.max_pool2d(
                _padded(values, node.pads, -torch.inf), node.kernel, node.stride, dilation=node.dilation
            )
        case AveragePool():
            if node.count_include_pad or not any(node.pads):
                return _window_sums(values, node) / (node.kernel[0] * node.kernel[1])
            return _window_sums(values, node) / _window_sums(torch.ones_like(values[:1, :1]), node)
        case Add():
            return operands[0] + operands[1]
        case Concat():
            return torch.cat(list(operands), dim=1)
        case Select():
            channels, rows, columns = (
                slice(start, start + (size - 1) * step + 1, step)
                for start, step, size in zip(node.start, node.step, node.size)
            )
            before, after = node.pad_channels
            return functional.pad(values[:, channels, rows, columns], (0, 0, 0, 0, before, after))
    raise TypeError(f"{node.name}: unknown node {type(node).__name__}")


def last_uses(graph: Graph) -> dict[str, int]:
    """For each tensor, the index of the last node that reads it; the graph's output is read at the end."""
    uses = {node.output: index for index, node in enumerate(graph.nodes)}
    uses[graph.input] = -1
    for index, node in enumerate(graph.nodes):
        uses.update(dict.fromkeys(node.inputs, index))
    return {**uses, graph.output: len(graph.nodes)}


def float_steps(graph: Graph, batch: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor's name and values in execution order, the input first; forgets those no longer needed.

    ``batch`` is float32 (N, C, H, W), prepared as the network wants it.
    """
    uses = last_uses(graph)
    values = {graph.input: batch}
    yield graph.input, batch
    for index, node in enumerate(graph.nodes):
        with torch.no_grad():
            result = activate(run_node(node, [values[name] for name in node.inputs]), node.activation)
        values[node.output] = result
        yield node.output, result
        for name in {*node.inputs, node.output}:
            if uses[name] <= index:
                del values[name]


def run_float(
    graph: Graph, batch: torch.Tensor, keep: Collection[str] | None = None
) -> dict[str, torch.Tensor]:
    """Tensors of a float graph by name, (N, C, H, W) float32: all of them, or those in ``keep``."""
    return {name: values for name, values in float_steps(graph, batch) if keep is None or name in keep}
