"""Activations, sums, and everything that is an affine map per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.graph import Activation, Add
from quant.passes.builder import Builder, Constant, OnnxNode, Value, constant_of, view_of
from quant.passes.element_order import View
from quant.passes.lower_convolution import finite
from quant.refusal import RefusedError

__all__ = ["lower_add", "lower_batch_normalization", "lower_clip", "lower_div", "lower_max", "lower_min",
           "lower_mul", "lower_neg", "lower_relu", "lower_sub", "lower_sum"]


def _clipped(builder: Builder, node: OnnxNode, value: Value | None, activation: Activation) -> list[Value]:
    view = builder.settled(view_of(value))
    if activation == Activation():
        return [View(node.output, view.tensor, view.index)]
    if math.isnan(activation.low) or math.isnan(activation.high) or activation.low > activation.high:
        raise RefusedError(f"its bounds are {activation.low} and {activation.high}",
                           "the lower bound must be the smaller one")
    builder.select(view.tensor, node.output, node.name, activation)
    return [View(node.output, node.output, view.index)]


def lower_relu(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Relu."""
    return _clipped(builder, node, inputs[0], Activation(0.0))


def _bound(inputs: Sequence[Value | None], position: int, otherwise: float) -> float:
    if len(inputs) <= position or inputs[position] is None:
        return otherwise
    array = constant_of(inputs[position], "bound").array
    if array.size != 1:
        raise RefusedError("its bounds are not single numbers", "one bound for the whole tensor is supported")
    return float(array.reshape(()))


def lower_clip(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Clip with its bounds as attributes (before opset 11) or as inputs."""
    low = _bound(inputs, 1, node.attributes.get("min", -math.inf))
    high = _bound(inputs, 2, node.attributes.get("max", math.inf))
    largest = float(np.finfo(np.float32).max)
    return _clipped(builder, node, inputs[0], Activation(low if low > -largest else -math.inf,
                                                         high if high < largest else math.inf))


def _extremum(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None], upper: bool) -> list[Value]:
    views = [value for value in inputs if isinstance(value, View)]
    if len(views) != 1:
        raise RefusedError("it compares feature maps", "only the comparison with a number is supported")
    bounds = [_bound([value], 0, 0.0) for value in inputs if not isinstance(value, View)]
    activation = Activation(high=min(bounds, default=math.inf)) if upper else Activation(
        max(bounds, default=-math.inf))
    return _clipped(builder, node, views[0], activation)


def lower_min(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Min with a number: an upper bound."""
    return _extremum(builder, node, inputs, True)


def lower_max(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Max with a number: a lower bound."""
    return _extremum(builder, node, inputs, False)


def _per_channel(builder: Builder, view: View, values: NDArray[Any]) -> NDArray[np.float64]:
    """One value for each channel of the view's tensor, from an array that broadcasts onto the view.

    Raises
    ------
    RefusedError
        If the values differ inside a channel.
    """
    channels, rows, columns = builder.shapes[view.tensor]
    if values.size == 1:
        return np.full(channels, float(values.reshape(())))
    flat = np.empty(channels * rows * columns)
    flat[view.index.reshape(-1)] = np.broadcast_to(values, view.index.shape).reshape(-1)
    table = flat.reshape(channels, rows * columns)
    if (table != table[:, :1]).any():
        raise RefusedError("its constant differs from pixel to pixel", "one value per channel is supported")
    return table[:, 0]


def _affine(builder: Builder, node: OnnxNode, view: View, scale: NDArray[Any],
            shift: NDArray[Any]) -> list[Value]:
    """``scale * x + shift``; nothing at all where that changes nothing."""
    view = builder.settled(view)
    try:
        shape = np.broadcast_shapes(view.index.shape, scale.shape, shift.shape)
    except ValueError:
        shape = ()
    if math.prod(shape) != view.index.size:
        raise RefusedError(f"its operands {list(view.index.shape)} and "
                           f"{list(max(scale.shape, shift.shape, key=len))} do not fit without repeating "
                           "the feature map", "give both the same shape")
    view = View(view.name, view.tensor, view.index.reshape(shape))
    scales, shifts = _per_channel(builder, view, scale), _per_channel(builder, view, shift)
    if (scales == 1).all() and (shifts == 0).all():
        return [View(node.output, view.tensor, view.index)]
    builder.scale(view.tensor, node.output, node.name, scales, shifts)
    return [View(node.output, node.output, view.index)]


def lower_batch_normalization(builder: Builder, node: OnnxNode,
                              inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX BatchNormalization with fixed statistics."""
    view = view_of(inputs[0])
    if node.attributes.get("training_mode", 0):
        raise RefusedError("it is in training mode", "export the model in evaluation mode")
    gamma, beta, mean, variance = (
        finite(constant_of(inputs[position], what)).astype(np.float64)
        for position, what in ((1, "scale"), (2, "bias"), (3, "mean"), (4, "variance")))
    scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    shift = beta - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise RefusedError("its variance is negative or zero", "train or export the model again")
    shape = (-1, *(1,) * (view.index.ndim - 2))
    return _affine(builder, node, view, scale.reshape(shape), shift.reshape(shape))


def _add_views(builder: Builder, node: OnnxNode, first: View, second: View, output: str) -> View:
    first, second = builder.settled(first), builder.settled(second)
    if first.index.shape == second.index.shape and first.index.ndim == 4 and not np.array_equal(
            first.index, second.index):
        first, second = builder.in_order(first), builder.in_order(second)
    shape = np.broadcast_shapes(first.index.shape, second.index.shape) if (
        first.index.size == second.index.size) else ()
    if math.prod(shape) != first.index.size:
        raise RefusedError(f"it adds tensors of the shapes {list(first.index.shape)} and "
                           f"{list(second.index.shape)}", "both must have the same shape")
    one, two = first.index.reshape(shape), second.index.reshape(shape)
    if builder.shapes[first.tensor] != builder.shapes[second.tensor] or not np.array_equal(one, two):
        raise RefusedError(f"the elements of {first.name} and {second.name} are in different orders",
                           "add them before they are transposed or flattened")
    builder.emit(Add(name=builder.node_name(node.name), inputs=(first.tensor, second.tensor), output=output),
                 builder.shapes[first.tensor])
    return View(output, output, one)


def lower_sum(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Add and Sum: of feature maps, of one with itself, and with constants."""
    views = [value for value in inputs if isinstance(value, View)]
    constants = [value for value in inputs if isinstance(value, Constant)]
    if constants:
        shift = finite(constants[0])
        for constant in constants[1:]:
            shift = shift + finite(constant)
        if len(views) > 1:
            raise RefusedError("it adds feature maps and constants at once", "split it in two")
        return _affine(builder, node, view_of(views[0]), np.ones(()), shift)
    if len(views) == 1:
        return [View(node.output, views[0].tensor, views[0].index)]
    total = views[0]
    for position, view in enumerate(views[1:], start=2):
        output = node.output if position == len(views) else builder.tensor_name(f"{node.output}/partial")
        total = _add_views(builder, node, total, view, output)
    return [total]


lower_add = lower_sum


def lower_sub(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Sub of a feature map and a constant, in either order."""
    left, right = inputs[0], inputs[1]
    if isinstance(left, View) and isinstance(right, View):
        raise RefusedError("it subtracts two feature maps", "negate the weights of one and add")
    if isinstance(right, Constant):
        return _affine(builder, node, view_of(left), np.ones(()), -finite(right))
    return _affine(builder, node, view_of(right), -np.ones(()), finite(constant_of(left, "operand")))


def lower_mul(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Mul of a feature map and a constant."""
    left, right = inputs[0], inputs[1]
    if isinstance(left, View) and isinstance(right, View):
        raise RefusedError("it multiplies two feature maps", "one factor must be a constant")
    view, constant = (left, right) if isinstance(left, View) else (right, left)
    return _affine(builder, node, view_of(view), finite(constant_of(constant, "factor")), np.zeros(()))


def lower_div(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Div of a feature map by a constant."""
    if not isinstance(inputs[1], Constant):
        raise RefusedError("it divides by a feature map", "only division by a constant is supported")
    divisor = finite(inputs[1]).astype(np.float64)
    if (divisor == 0).any():
        raise RefusedError(f"the tensor {inputs[1].name} holds zeros to divide by", "export the model again")
    return _affine(builder, node, view_of(inputs[0]), 1 / divisor, np.zeros(()))


def lower_neg(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Neg."""
    return _affine(builder, node, view_of(inputs[0]), -np.ones(()), np.zeros(()))
