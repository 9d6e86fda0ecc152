"""Whether a float network and a fixed-point network are the same network: tensor by tensor, by name."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from quant.fixed_model import FixedModel
from quant.graph import Graph, Node
from quant.layer_diagnosis import DiagnosisError
from quant.refusal import printable

__all__ = ["check_same_network"]

_ADVICE = "give the float model that it was calibrated from"

#: What two nodes may differ in: names are the file's, weights are what is compared.
_FREE = ("name", "weight", "bias", "activation")


def check_same_network(graph: Graph, model: FixedModel) -> None:
    """Refuse a fixed-point model that was not calibrated from a float network.

    Its tensors must have the float network's names and shapes, and be computed by the same kind of node
    from the same tensors.  (Weights may differ in any way.)

    Raises
    ------
    DiagnosisError
        Says where they differ.
    """
    fixed = model.graph
    for what, own, other in (
        ("input", fixed.input, graph.input),
        ("output", fixed.output, graph.output),
    ):
        if own != other:
            raise _mismatch(f"the {what} of the fixed-point model is {own}, of the float model {other}")
    for tensor, shape in fixed.shapes.items():
        if tensor not in graph.shapes:
            raise _mismatch(f"the float model has no tensor {tensor}, the fixed-point model has")
        if graph.shapes[tensor] != shape:
            raise _mismatch(f"the tensor {tensor} has the shape (C, H, W) = {shape} in the fixed-point "
                            f"model, {graph.shapes[tensor]} in the float model")
    for tensor in graph.shapes:
        if tensor not in fixed.shapes:
            raise _mismatch(f"the fixed-point model has no tensor {tensor}, the float model has")
    for node in graph.nodes:
        twin = fixed.producer(node.output)
        if twin is None or _settings(twin) != _settings(node):
            raise _mismatch(f"{node.name}: the fixed-point model computes {node.output} in another way than "
                            "the float model")


def _settings(node: Node) -> dict[str, object]:
    found: dict[str, object] = {"kind": type(node).__name__}
    for field in fields(node):
        if field.name not in _FREE:
            found[field.name] = getattr(node, field.name)
    weight = getattr(node, "weight", None)
    return {**found, "weights": None if weight is None else np.shape(weight)}


def _mismatch(text: str) -> DiagnosisError:
    return DiagnosisError(printable(f"{text}; {_ADVICE}"))
