"""Write a float graph as ordinary ONNX: what `quant.onnx_import` reads comes out again.

Scales, batch norm and activations stay folded as the importer folded them.  Fully connected layers whose
readers are such layers, too, become Gemm, every other layer with weights a Conv.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from hw.whole_file import write_whole
from quant.fixed_model import FixedModel, Preparation
from quant.graph import Activation, Convolution, Graph, Node
from quant.qdq import GraphWriter
from quant.widths import is_fully_connected

__all__ = ["graph_to_onnx", "write_float_model"]

_OPSET = 17


def graph_to_onnx(graph: Graph) -> onnx.ModelProto:
    """The checked model of a float graph, with a batch of any size."""
    return _FloatWriter(graph).write()


def write_float_model(graph: Graph, path: str | Path) -> None:
    """Write the model: first beside the file, then renamed, so that it is whole or not there.

    Raises
    ------
    hw.whole_file.WholeFileError
        If the file cannot be written.
    """
    write_whole(path, graph_to_onnx(graph).SerializeToString())


class _FloatWriter(GraphWriter):
    """The same nodes, with float tensors between them."""

    def __init__(self, graph: Graph):
        super().__init__(FixedModel(graph, {}, {}, Preparation()))
        self.flat: dict[str, str] = {}  # tensor of the graph: its (N, K) form
        self.vectors = {node.output for node in graph.nodes if self._ends_as_vector(node)}

    def _metadata(self) -> dict[str, str]:
        return {}

    def _opset(self) -> int:
        return _OPSET

    def _quantize(self, tensor: str) -> None:
        self.dequantized[tensor] = tensor

    def _ends_as_vector(self, node: Node) -> bool:
        """Whether a layer's result needs no rows and columns, because every reader takes a vector."""
        graph = self.model.graph
        ends = node.output != graph.output or len(graph.output_shape) == 1
        return ends and all(_takes_vector(each, graph) for each in [node, *graph.consumers(node.output)])

    def _write_node(self, node: Node) -> None:
        graph = self.model.graph
        if not isinstance(node, Convolution) or not _takes_vector(node, graph):
            super()._write_node(node)
            return
        source = node.inputs[0]
        if source not in self.flat:
            self.flat[source] = source
            if source not in self.vectors:
                self.flat[source] = self._emit(
                    "Flatten", [self.dequantized[source]], self._fresh(f"{source}/flat")
                )
        active = node.activation != Activation()
        output = self._fresh(f"{node.output}/sum") if active else node.output
        weight = self._constant(f"{node.name}/weight", node.weight.reshape(len(node.weight), -1))
        bias = self._constant(f"{node.name}/bias", node.bias)
        vector = output if node.output in self.vectors else self._fresh(f"{node.output}/vector")
        self._emit("Gemm", [self.flat[source], weight, bias], vector, node.name, transB=1)
        if vector != output:
            shape = np.array([0, *graph.shapes[node.output]], np.int64)
            self._emit("Reshape", [vector, self._constant(f"{node.output}/shape", shape)], output)
        if active:
            self._write_activation(node, output)
        self._quantize(node.output)

    def _write_weights(self, node: Convolution) -> tuple[str, str]:
        return (
            self._constant(f"{node.name}/weight", node.weight),
            self._constant(f"{node.name}/bias", node.bias),
        )

    def _shape_before_tail(self) -> tuple[int, ...]:
        graph = self.model.graph
        return graph.output_shape if graph.output in self.vectors else super()._shape_before_tail()


def _takes_vector(node: Node, graph: Graph) -> bool:
    return (
        isinstance(node, Convolution)
        and is_fully_connected(node, graph)
        and node.groups == 1
        and not any(node.pads)
    )
