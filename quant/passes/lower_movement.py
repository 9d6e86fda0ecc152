"""Operators that move elements without computing anything; most cost nothing (`element_order`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from quant.graph import Concat
from quant.passes.builder import Builder, Constant, OnnxNode, Value, constant_of, view_of
from quant.passes.element_order import LOWEST, ZERO, View
from quant.passes.node_evaluation import evaluate_node
from quant.refusal import RefusedError

__all__ = ["lower_cast", "lower_concat", "lower_identity", "lower_movement", "lower_pad", "lower_shape"]

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


def _moved(node: OnnxNode, proto: NodeProto, view: View, arrays: dict[str, NDArray[Any]]) -> list[Value]:
    try:
        results = evaluate_node(proto, {**arrays, proto.input[0]: view.index}, node.opsets)
    except ValueError as error:
        raise RefusedError(f"it does not fit its input of shape {list(view.index.shape)} ({error})",
                           "export the model again for a batch of one") from None
    return [View(name, view.tensor, result.astype(np.int32))
            for name, result in zip(proto.output, results, strict=True)]


def _arrays(node: OnnxNode, inputs: Sequence[Value | None]) -> dict[str, NDArray[Any]]:
    return {name: constant_of(value, "second input").array
            for name, value in list(zip(node.proto.input, inputs, strict=True))[1:] if name}


def lower_movement(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """Reshape, Transpose, Slice, Split, …: the node, executed on the positions of the elements."""
    return _moved(node, node.proto, view_of(inputs[0]), _arrays(node, inputs))


def lower_identity(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """Identity, and Dropout without its mask."""
    view = view_of(inputs[0])
    return [View(node.output, view.tensor, view.index)]


def lower_cast(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """Cast to a floating-point type: every tensor of the graph is real."""
    if node.proto.op_type == "Cast" and node.attributes.get("to", TensorProto.FLOAT) not in _FLOATS:
        raise RefusedError("it casts a feature map to integers", "leave that to the calibration")
    return lower_identity(builder, node, inputs)


def lower_pad(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Pad with zeros or minus infinity; negative pads cut off."""
    arrays = _arrays(node, inputs)
    mode = node.attributes.get("mode", "constant")
    if mode != "constant":
        raise RefusedError(f"its mode is {mode}", "padding with zeros is supported")
    proto = NodeProto()
    proto.CopyFrom(node.proto)
    names = list(proto.input)
    value = arrays[names[2]] if len(names) > 2 and names[2] else node.attributes.get("value", 0.0)
    number = float(np.asarray(value).reshape(-1)[0]) if np.asarray(value).size else 0.0
    if number != 0 and number > float(np.finfo(np.float32).min):
        raise RefusedError(f"it pads with {number}", "padding with zeros is supported")
    code = ZERO if number == 0 else LOWEST
    view = view_of(inputs[0])
    if (view.index == (ZERO if code == LOWEST else LOWEST)).any():
        raise RefusedError("it adds another kind of padding to a padded map", "use one kind of padding")
    if "pads" in node.attributes:
        for attribute in proto.attribute:
            if attribute.name == "value":
                attribute.f = float(code)
        if not any(attribute.name == "value" for attribute in proto.attribute):
            proto.attribute.add(name="value", type=1, f=float(code))
        return _moved(node, proto, view, arrays)
    filling = f"{node.output}/fill"
    del proto.input[:]
    proto.input.extend([names[0], names[1], filling, *names[3:]])
    return _moved(node, proto, view, {**arrays, filling: np.array(code, np.int32)})


def lower_shape(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """Shape and Size: known before anything is computed."""
    stand_in = np.broadcast_to(np.float32(0), view_of(inputs[0]).index.shape)
    results = evaluate_node(node.proto, {node.proto.input[0]: stand_in}, node.opsets)
    return [Constant(node.output, results[0])]


def _concat_zeros(node: OnnxNode, inputs: Sequence[Value | None], axis: int) -> list[Value] | None:
    """Concatenation of one feature map with zeros is padding; None if it is not that."""
    views = [value for value in inputs if isinstance(value, View)]
    constants = [value for value in inputs if isinstance(value, Constant)]
    if not constants:
        return None
    if len(views) != 1 or any(constant.array.any() for constant in constants):
        raise RefusedError("it concatenates a constant that is not zero", "zeros and feature maps can be "
                           "concatenated")
    parts = [value.index if isinstance(value, View) else np.full(value.array.shape, ZERO, np.int32)
             for value in inputs if value is not None]
    return [View(node.output, views[0].tensor, np.concatenate(parts, axis))]


def lower_concat(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Concat along the channels, in either layout."""
    axis = node.attributes["axis"]
    padded = _concat_zeros(node, inputs, axis)
    if padded is not None:
        return padded
    views = [builder.settled(view_of(value)) for value in inputs]
    if len(views) == 1:
        return [View(node.output, views[0].tensor, views[0].index)]
    shapes = [builder.shapes[view.tensor] for view in views]
    if len({shape[1:] for shape in shapes}) > 1:
        raise RefusedError(f"it concatenates maps of the sizes {[list(shape[1:]) for shape in shapes]}",
                           "maps of equal rows and columns can be concatenated")
    area = math.prod(shapes[0][1:])
    offsets = np.cumsum([0, *(shape[0] * area for shape in shapes[:-1])])
    # Wherever the model puts them, the elements are those of the maps one after another.
    index = np.concatenate([view.index + np.int32(offset)
                            for view, offset in zip(views, offsets, strict=True)], axis)
    builder.emit(Concat(name=builder.node_name(node.name), output=node.output,
                        inputs=tuple(view.tensor for view in views)),
                 (sum(shape[0] for shape in shapes), *shapes[0][1:]))
    return [View(node.output, node.output, index)]
