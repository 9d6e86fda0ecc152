"""A float graph whose weights can be trained, with masks that keep pruned weights at zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from quant.compression.labelled_data import LabelledData
from quant.compression.layer_numbers import layers_of
from quant.float_run import activate, last_uses, run_node
from quant.graph import Convolution, Graph
from quant.widths import is_fully_connected

__all__ = ["TrainableNetwork", "best_device"]

_EVALUATION_BATCH = 250


def best_device() -> torch.device:
    """A GPU if torch sees one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class TrainableNetwork:
    """The parameters of a graph as tensors, and its forward pass.

    Attributes
    ----------
    graph : Graph
        Its weights are those at the start.
    weights, biases : dict of tensors
        By layer name; leaves that require gradients, of the shapes of `quant.graph.Convolution`.
    masks : dict of float tensors
        1 for weights that are kept, 0 for pruned ones.
    """

    def __init__(self, graph: Graph, device: torch.device | None = None):
        self.graph = graph
        self.device = device or torch.device("cpu")
        self.layers = layers_of(graph)
        self.weights = {name: self._tensor(node.weight) for name, node in self.layers.items()}
        self.biases = {name: self._tensor(node.bias) for name, node in self.layers.items()}
        self.masks = {name: torch.ones_like(weight.detach()) for name, weight in self.weights.items()}
        self._uses = last_uses(graph)
        self._vectors = {
            name
            for name, node in self.layers.items()
            if is_fully_connected(node, graph) and node.groups == 1 and not any(node.pads)
        }

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(values, np.float32)).to(self.device).requires_grad_()

    def parameters(self) -> list[torch.Tensor]:
        """All weights and biases."""
        return [*self.weights.values(), *self.biases.values()]

    def scores(
        self,
        batch: torch.Tensor,
        dropout: Mapping[str, float] | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """The output (N, classes) for a batch (N, C, H, W).

        Parameters
        ----------
        dropout : mapping or None
            For layers by name the rate at which values of their input are dropped.
        generator : torch.Generator or None
            Draws what is dropped.
        """
        values = {self.graph.input: batch}
        for index, node in enumerate(self.graph.nodes):
            operands = [values[name] for name in node.inputs]
            rate = (dropout or {}).get(node.name, 0.0)
            if rate:
                drawn = torch.rand(operands[0].shape, generator=generator, device=self.device)
                operands[0] = operands[0] * (drawn >= rate) / (1 - rate)
            values[node.output] = activate(self._run(node, operands), node.activation)
            for name in {*node.inputs, node.output}:
                if self._uses[name] <= index:
                    del values[name]
        return values[self.graph.output].flatten(1)

    def _run(self, node, operands: list[torch.Tensor]) -> torch.Tensor:
        if not isinstance(node, Convolution):
            return run_node(node, operands)
        weight, bias = self.weights[node.name], self.biases[node.name]
        if node.name in self._vectors:
            return functional.linear(operands[0].flatten(1), weight.flatten(1), bias)[..., None, None]
        return run_node(node, operands, (weight, bias))

    def apply_masks(self) -> None:
        """Set pruned weights to zero, exactly."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.masked_fill_(self.masks[name] == 0, 0.0)

    def mask_zeros(self) -> None:
        """Take the weights that are zero for pruned."""
        for name, weight in self.weights.items():
            self.masks[name] = (weight.detach() != 0).float()

    def kept(self) -> dict[str, int]:
        """How many weights of each layer are kept."""
        return {name: int(mask.sum()) for name, mask in self.masks.items()}

    def hidden_vectors(self) -> dict[str, str]:
        """Fully connected layers that read another one's result, with that one's name."""
        producers = {node.output: node.name for node in self.layers.values()}
        return {
            name: producers[node.inputs[0]]
            for name, node in self.layers.items()
            if name in self._vectors and producers.get(node.inputs[0]) in self._vectors
        }

    def accuracy(self, data: LabelledData) -> float:
        """Share of images whose largest score is their label's."""
        right = 0
        with torch.no_grad():
            for start in range(0, len(data), _EVALUATION_BATCH):
                scores = self.scores(data.inputs[start : start + _EVALUATION_BATCH].to(self.device))
                labels = data.labels[start : start + _EVALUATION_BATCH].to(self.device)
                right += int((scores.argmax(1) == labels).sum())
        return right / len(data)

    def to_graph(self) -> Graph:
        """The graph with the present weights and biases."""
        nodes = [
            replace(
                node,
                weight=self.weights[node.name].detach().cpu().numpy().copy(),
                bias=self.biases[node.name].detach().cpu().numpy().copy(),
            )
            if isinstance(node, Convolution)
            else node
            for node in self.graph.nodes
        ]
        return replace(self.graph, nodes=nodes, _producers={})

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Copies of weights, biases and masks, for `load`."""
        return {
            what: {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
            for what, tensors in (("weights", self.weights), ("biases", self.biases), ("masks", self.masks))
        }

    def load(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Take over what `state` gave."""
        with torch.no_grad():
            for name in self.weights:
                self.weights[name].copy_(state["weights"][name])
                self.biases[name].copy_(state["biases"][name])
                self.masks[name] = state["masks"][name].to(self.device)

    def size(self) -> int:
        """Weights of all layers, without biases."""
        return sum(math.prod(weight.shape) for weight in self.weights.values())
