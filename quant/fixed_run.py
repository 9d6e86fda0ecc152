"""A fixed-point network in torch, float32: real values instead of integers, layer by layer.

`sim.reference` is the meaning of a fixed-point model.  This is its fast picture for looking at errors:
the same formats, weights and rounding, with sums in float32, which may differ from the exact ones in
the last bit of a sum past 2^24 units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from quant.fixed_model import FixedModel
from quant.float_run import activate, run_node
from quant.graph import Concat, Convolution, MaxPool, Node, Select
from quant.number_format import Format
from quant.weight_formats import real_parameters

__all__ = ["FixedRun"]


class FixedRun:
    """The layers of one fixed-point model; every tensor is float32 (N, C, H, W) of real values."""

    def __init__(self, model: FixedModel) -> None:
        self.model = model
        self._parameters: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for node in model.graph.nodes:
            if isinstance(node, Convolution):
                weights = model.weights[node.name]
                weight, bias = real_parameters(weights, model.formats[node.inputs[0]].fl)
                self._parameters[node.name] = torch.from_numpy(weight), torch.from_numpy(bias)

    def quantize_input(self, batch: torch.Tensor) -> torch.Tensor:
        """A prepared batch in the format of the network's input."""
        form = self.model.formats[self.model.graph.input]
        return _rounded(batch, form, form.low, form.high)

    def before_rounding(self, node: Node, operands: Sequence[torch.Tensor]) -> torch.Tensor:
        """A node's result with fixed-point weights and its activation, before it is rounded."""
        return activate(run_node(node, operands, self._parameters.get(node.name)), node.activation)

    def rounded(self, node: Node, values: torch.Tensor) -> torch.Tensor:
        """What `before_rounding` gave, rounded half to even and clipped as the node does it."""
        if self.moves_only(node):
            return values
        return _rounded(values, self.model.formats[node.output], *self.model.bounds(node))

    def moves_only(self, node: Node) -> bool:
        """Whether a node only chooses and moves words: what it reads has its own format already.

        Then it rounds nothing, whatever the values; a MaxPool that keeps its input's format, say.
        """
        if not isinstance(node, (MaxPool, Concat, Select)):
            return False
        out = self.model.formats[node.output]
        bounds = [math.ldexp(bound, out.fl) for bound in (node.activation.low, node.activation.high)]
        if any(math.isfinite(bound) and bound != round(bound) for bound in bounds):
            return False
        for tensor in node.inputs:
            form = self.model.formats[tensor]
            low, high = max(form.low, bounds[0]), min(form.high, bounds[1])
            if form.fl != out.fl or low < out.low or high > out.high:
                return False
        return True


def _rounded(values: torch.Tensor, form: Format, low: int, high: int) -> torch.Tensor:
    return values.mul(math.ldexp(1.0, form.fl)).round_().clamp_(low, high).mul_(form.scale)

