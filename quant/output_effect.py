"""What a change of one feature map does to the network's output, with the rest left in float."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quant.float_run import activate, run_node
from quant.graph import Graph, Node

__all__ = ["SuffixRun"]


class SuffixRun:
    """Runs a float network again from one of its feature maps on: only the nodes that depend on it."""

    def __init__(self, graph: Graph) -> None:
        self._output = graph.output
        self._dependents: dict[str, list[Node]] = {}
        for tensor in graph.shapes:
            reached = {tensor}
            nodes = []
            for node in graph.nodes:
                if node.output != tensor and not reached.isdisjoint(node.inputs):
                    reached.add(node.output)
                    nodes.append(node)
            self._dependents[tensor] = nodes

    def output(self, real: Mapping[str, torch.Tensor], tensor: str, values: torch.Tensor) -> torch.Tensor:
        """The network's output (N, C, H, W) with ``values`` in place of one tensor.

        ``real`` holds every feature map of the float network for the same images.
        """
        changed = {tensor: values}
        with torch.no_grad():
            for node in self._dependents[tensor]:
                operands = [changed[name] if name in changed else real[name] for name in node.inputs]
                changed[node.output] = activate(run_node(node, operands), node.activation)
        return changed.get(self._output, real[self._output])
