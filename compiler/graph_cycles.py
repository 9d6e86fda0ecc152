"""Cycles of a float graph on a machine, before it is calibrated: only the shapes of its layers matter.

Weights and formats of 8 bits stand in for what a calibration would choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compiler.compile import place_instructions
from compiler.estimate import estimate
from compiler.traffic import MemoryTiming
from hw.machine import Machine
from quant.fixed_model import FixedModel, FixedWeights
from quant.graph import Convolution, Graph
from quant.map_formats import never_negative
from quant.number_format import Format

__all__ = ["GraphCycles"]


#: Every weight: one that 4 bits do not hold.
_WEIGHT = 8


@dataclass(frozen=True)
class GraphCycles:
    """Calls give the estimated cycles of each node of a graph by name.

    A node that the machine computes as part of another one has no entry.

    Attributes
    ----------
    machine : Machine
    memory : MemoryTiming
        How the external memory behaves.
    """

    machine: Machine
    memory: MemoryTiming

    def __call__(self, graph: Graph) -> Mapping[str, float]:
        """Compile the graph as far as its instructions, and estimate their run.

        Raises
        ------
        CompileError
            If the machine cannot run it.
        """
        placed = place_instructions(_stand_in(graph), self.machine)
        layers = estimate(placed.instructions, self.machine, self.memory).layers
        return {layer.name: layers[number].cycles for number, layer in enumerate(placed.lowered.layers)}


def _stand_in(graph: Graph) -> FixedModel:
    weights = {
        node.name: FixedWeights(
            np.broadcast_to(np.int64(_WEIGHT), node.weight.shape),
            8,
            np.zeros(len(node.weight), np.int64),
            np.zeros(len(node.weight), np.int64),
        )
        for node in graph.nodes
        if isinstance(node, Convolution)
    }
    unsigned = never_negative(graph, True)
    formats = {tensor: Format(8, not unsigned[tensor], 0) for tensor in graph.shapes}
    return FixedModel(graph, formats, weights)
