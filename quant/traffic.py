"""How many bytes a network has and moves: the least that any machine must, whatever its buffers hold."""

from __future__ import annotations

from collections.abc import Mapping

from quant.budget import weight_bytes
from quant.graph import Convolution, Graph

__all__ = ["FLOAT_BITS", "model_bytes", "moved_bytes"]

#: Width of the float network's weights and feature maps.
FLOAT_BITS = 32

_BIAS_BYTES = 4


def model_bytes(graph: Graph, weight_bits: Mapping[str, int]) -> int:
    """Bytes of all weights and biases.

    The weights of a layer lie one after the other, ``weight_bits`` (by node) each, up to a whole byte at
    the layer's end; a bias takes 4 bytes.  Formats, a few bytes for each layer, are not counted.
    """
    layers = [node for node in graph.nodes if isinstance(node, Convolution)]
    weights = weight_bytes({node.name: node.weight.size for node in layers}, weight_bits)
    return weights + _BIAS_BYTES * sum(node.bias.size for node in layers)


def moved_bytes(graph: Graph, weight_bits: Mapping[str, int], map_bits: Mapping[str, int]) -> int:
    """Bytes that one inference of one image moves between memory and the machine.

    Weights and biases are read once (`model_bytes`).  Every feature map, the network's input and output
    among them, is written once, and read once by every operand that it is.  A word of a feature map takes
    whole bytes in the machine's memory: one up to 8 bits (``map_bits``, by tensor), two up to 16.
    """
    reads = [tensor for node in graph.nodes for tensor in node.inputs]
    moved = model_bytes(graph, weight_bits)
    for tensor, (channels, rows, columns) in graph.shapes.items():
        moved += channels * rows * columns * -(-map_bits[tensor] // 8) * (1 + reads.count(tensor))
    return moved
