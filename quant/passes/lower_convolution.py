"""Conv, Gemm and MatMul become `quant.graph.Convolution`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quant.graph import Convolution, Pads
from quant.passes.builder import Builder, Constant, OnnxNode, Value, constant_of, view_of
from quant.passes.element_order import LOWEST, View, order_of
from quant.passes.geometry import geometry_of
from quant.refusal import RefusedError

__all__ = ["finite", "lower_conv", "lower_gemm", "lower_matmul"]


def finite(constant: Constant) -> NDArray[np.floating]:
    """The values of a weight tensor, as float32 or float64.

    Raises
    ------
    RefusedError
        If one of them is not a finite number.
    """
    values = constant.array
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))
        value = values[tuple(bad[0])]
        raise RefusedError(f"the tensor {constant.name} holds {len(bad)} values that are not finite "
                           f"({value} at {[int(position) for position in bad[0]]})",
                           "train or export the model again")
    return values


def lower_conv(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Conv, with any Pad in front of it."""
    view = view_of(inputs[0])
    weight = finite(constant_of(inputs[1], "weight"))
    bias = finite(constant_of(inputs[2], "bias")) if len(inputs) > 2 and inputs[2] is not None else None
    if weight.ndim != 4:
        raise RefusedError(f"it is a {weight.ndim - 2}-dimensional convolution",
                           "only two-dimensional ones are supported: reshape [N, C, L] to [N, C, 1, L]"
                           if weight.ndim == 3 else "only two-dimensional ones are supported")
    tensor, around, fill = builder.regular(view)
    if fill == LOWEST:
        raise RefusedError("its input is padded with minus infinity", "pad with zeros")
    channels, rows, columns = builder.shapes[tensor]
    groups = node.attributes.get("group", 1)
    if weight.shape[1] * groups != channels or weight.shape[0] % groups:
        raise RefusedError(f"its weight {list(weight.shape)} with {groups} groups does not fit "
                           f"{channels} input channels", "export the model again")
    size = rows + around[0] + around[2], columns + around[1] + around[3]
    geometry = geometry_of(node, size, (weight.shape[2], weight.shape[3]))
    pads: Pads = (geometry.pads[0] + around[0], geometry.pads[1] + around[1],
                  geometry.pads[2] + around[2], geometry.pads[3] + around[3])
    shape = (weight.shape[0], *geometry.output)
    builder.emit(Convolution(
        name=builder.node_name(node.name), inputs=(tensor,), output=node.output,
        weight=weight.astype(np.float32, copy=False),
        bias=(np.zeros(len(weight)) if bias is None else bias).astype(np.float32),
        stride=geometry.stride, pads=pads, dilation=geometry.dilation, groups=groups), shape)
    return [builder.view(node.output, (1, *shape))]


def _linear(builder: Builder, node: OnnxNode, view: View, rows_index: NDArray[np.int32],
            weight: NDArray[np.floating], bias: NDArray[np.floating]) -> NDArray[np.int32]:
    """Append ``x @ weight + bias`` for x with the (M, K) positions ``rows_index``.

    One row becomes a convolution over the whole map, whatever the order of its elements; several
    rows are the pixels of a 1x1 convolution.  Returns the (M, N) positions of the result.
    """
    count, depth = rows_index.shape
    channels, rows, columns = builder.shapes[view.tensor]
    outputs = weight.shape[1]
    if (rows_index == LOWEST).any():
        raise RefusedError("its input is padded with minus infinity", "pad with zeros")
    if count == 1:
        kernel = _spread(rows_index[0], weight, channels * rows * columns).reshape(
            outputs, channels, rows, columns)
        shape = (outputs, 1, 1)
    elif channels == depth and rows * columns == count and np.array_equal(
            rows_index.T.reshape(-1), order_of(count * depth)):
        kernel = np.ascontiguousarray(weight.T).reshape(outputs, depth, 1, 1)
        shape = (outputs, rows, columns)
    else:
        raise RefusedError(f"it multiplies {count} rows that are not the pixels of one map",
                           "flatten the map in front of it")
    builder.emit(Convolution(name=builder.node_name(node.name), inputs=(view.tensor,), output=node.output,
                             weight=kernel.astype(np.float32, copy=False),
                             bias=bias.astype(np.float32)), shape)
    return order_of(outputs * count).reshape(outputs, count).T


def _spread(index: NDArray[np.int32], weight: NDArray[np.floating], count: int) -> NDArray[np.float32]:
    """The (N, count) weights of a whole map from the (K, N) weights of the elements ``index``."""
    if index.size == count and np.array_equal(index, order_of(count)):
        return np.ascontiguousarray(weight.T, np.float32)
    whole = np.zeros((weight.shape[1], count), np.float32)
    used = index >= 0
    if np.unique(index[used]).size == used.sum():
        whole[:, index[used]] = weight[used].T
    else:  # an element that is read twice
        np.add.at(whole.T, index[used], weight[used])
    return whole


def lower_gemm(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX Gemm: alpha * A' @ B' + beta * C."""
    view, index = view_of(inputs[0]), view_of(inputs[0]).index
    weight = finite(constant_of(inputs[1], "weight"))
    if node.attributes.get("transA", 0):
        index = index.T
    if node.attributes.get("transB", 0):
        weight = weight.T
    if index.ndim != 2 or weight.ndim != 2 or index.shape[1] != weight.shape[0]:
        raise RefusedError(f"its shapes {list(index.shape)} and {list(weight.shape)} do not fit",
                           "export the model again")
    bias = np.zeros(weight.shape[1])
    if len(inputs) > 2 and inputs[2] is not None:
        stored = finite(constant_of(inputs[2], "bias"))
        try:
            full = np.broadcast_to(stored, (index.shape[0], weight.shape[1]))
        except ValueError:
            raise RefusedError(f"its bias {list(stored.shape)} does not fit {weight.shape[1]} outputs",
                               "export the model again") from None
        if (full != full[0]).any():
            raise RefusedError("its bias differs from row to row", "one bias per output is supported")
        bias = node.attributes.get("beta", 1.0) * full[0]
    alpha = node.attributes.get("alpha", 1.0)
    weight = weight if alpha == 1 else alpha * weight
    return [View(node.output, node.output, _linear(builder, node, view, index, weight, bias))]


def lower_matmul(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX MatMul of a feature map and a constant, on either side."""
    left, right = inputs[0], inputs[1]
    if isinstance(left, View) and isinstance(right, View):
        raise RefusedError("it multiplies two feature maps", "one factor must be a constant weight")
    if isinstance(left, Constant):
        view, weight = view_of(right), finite(left)
        if weight.ndim == 2 and view.index.ndim in (1, 2):
            columns = view.index if view.index.ndim == 2 else view.index[:, None]
            if weight.shape[1] == columns.shape[0]:
                result = _linear(builder, node, view, columns.T, weight.T, np.zeros(weight.shape[0])).T
                return [View(node.output, node.output, result.reshape(-1, *view.index.shape[1:]))]
        raise RefusedError(f"its shapes {list(weight.shape)} and {list(view.index.shape)} are not supported",
                           "put the weight on the right")
    view, weight = view_of(left), finite(constant_of(right, "weight"))
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    vector = weight.ndim == 1
    weight = weight[:, None] if vector else weight
    if weight.ndim != 2 or view.index.ndim == 0 or view.index.shape[-1] != weight.shape[0]:
        raise RefusedError(f"its shapes {list(view.index.shape)} and {list(weight.shape)} are not supported",
                           "one weight matrix for all rows is supported")
    index = view.index.reshape(-1, weight.shape[0])
    result = _linear(builder, node, view, index, weight, np.zeros(weight.shape[1]))
    shape = (*view.index.shape[:-1], *(() if vector else (weight.shape[1],)))
    return [View(node.output, node.output, result.reshape(shape))]
