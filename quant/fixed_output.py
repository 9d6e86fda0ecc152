"""What a fixed-point network answers: its output for many images, in torch where that is exact.

`sim.reference` is the meaning of a fixed-point model.  `quant.fixed_run.FixedRun` computes in float32,
several times as fast, and gives the same values as long as no sum passes 2^24 units
(`quant.fixed_model.inexact_in_float32`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from quant.fixed_model import FixedModel, inexact_in_float32
from quant.fixed_run import FixedRun
from quant.float_run import last_uses

__all__ = ["ExactOutput", "float32_output"]


def float32_output(run: FixedRun, batch: torch.Tensor) -> torch.Tensor:
    """The real values (N, C, H, W) of a network's output, computed in float32.

    ``batch`` is float32 (N, C, H, W), prepared for the fixed-point model.
    """
    graph = run.model.graph
    uses = last_uses(graph)
    with torch.no_grad():
        values = {graph.input: run.quantize_input(batch)}
        for index, node in enumerate(graph.nodes):
            operands = [values[tensor] for tensor in node.inputs]
            values[node.output] = run.rounded(node, run.before_rounding(node, operands))
            for tensor in {*node.inputs, node.output}:
                if uses[tensor] <= index:
                    del values[tensor]
    return values[graph.output]


class ExactOutput:
    """The output of one fixed-point model, exactly as `sim.reference` computes it.

    Attributes
    ----------
    in_float32 : bool
        Whether torch computes it, because no sum of this model can pass 2^24 units.
    """

    def __init__(self, model: FixedModel) -> None:
        self.model = model
        self.in_float32 = not inexact_in_float32(model)
        self._run = FixedRun(model) if self.in_float32 else None

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Real values (N, outputs) for a batch (N, C, H, W) that is prepared for the model."""
        if self._run is not None:
            return float32_output(self._run, torch.from_numpy(batch)).flatten(1).numpy()
        from sim.reference import prepare_input, run  # sim needs packages that a calibration does not

        output = self.model.graph.output
        integers = run(self.model, prepare_input(self.model, batch), {output})[output]
        return self.model.formats[output].dequantize(integers).reshape(len(batch), -1)
