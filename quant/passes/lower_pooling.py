"""Pools, and reductions over rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from quant.graph import AveragePool, MaxPool, Pads, Pair, Shape
from quant.passes.builder import Builder, OnnxNode, Value, constant_of, view_of
from quant.passes.element_order import LOWEST, View, order_of
from quant.passes.geometry import Geometry, geometry_of
from quant.refusal import RefusedError

__all__ = ["lower_average_pool", "lower_global_average_pool", "lower_global_max_pool", "lower_max_pool",
           "lower_reduce_max", "lower_reduce_mean"]


def _kernel(node: OnnxNode) -> Pair:
    kernel = node.attributes.get("kernel_shape", [])
    if len(kernel) != 2:
        raise RefusedError(f"its kernel has {len(kernel)} dimensions", "two-dimensional pools are supported")
    return int(kernel[0]), int(kernel[1])


def _sum(first: Pads, second: Pads) -> Pads:
    return (first[0] + second[0], first[1] + second[1], first[2] + second[2], first[3] + second[3])


def _touches_image(geometry: Geometry, pads: Pads, size: Pair) -> bool:
    """Whether every window has at least one tap on the image."""
    for axis in range(2):
        for window in range(geometry.output[axis]):
            taps = window * geometry.stride[axis] - pads[axis] + geometry.dilation[axis] * np.arange(
                geometry.kernel[axis])
            if not ((taps >= 0) & (taps < size[axis])).any():
                return False
    return True


def lower_max_pool(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX MaxPool.  Zeros from a Pad in front of it become its own padding where that is the same."""
    if len(node.proto.output) > 1 and node.proto.output[1]:
        raise RefusedError("its indices are used", "only the maxima are supported")
    tensor, around, fill = builder.regular(view_of(inputs[0]))
    _, rows, columns = builder.shapes[tensor]
    size = rows + around[0] + around[2], columns + around[1] + around[3]
    geometry = geometry_of(node, size, _kernel(node))
    pads = _sum(geometry.pads, around)
    if any(around) and fill != LOWEST and not (
            builder.never_negative(tensor) and _touches_image(geometry, pads, (rows, columns))):
        tensor = builder.padded(tensor, around, fill, view_of(inputs[0]).name)
        pads, (rows, columns) = geometry.pads, size
    if not _touches_image(geometry, pads, (rows, columns)):
        raise RefusedError("one of its windows lies outside the image", "make its pads smaller")
    shape = (builder.shapes[tensor][0], *geometry.output)
    builder.emit(MaxPool(name=builder.node_name(node.name), inputs=(tensor,), output=node.output,
                         kernel=geometry.kernel, stride=geometry.stride, pads=pads,
                         dilation=geometry.dilation), shape)
    return [builder.view(node.output, (1, *shape))]


def lower_average_pool(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX AveragePool.  Zeros from a Pad in front of it count in the mean."""
    view = view_of(inputs[0])
    tensor, around, fill = builder.regular(view)
    _, rows, columns = builder.shapes[tensor]
    size = rows + around[0] + around[2], columns + around[1] + around[3]
    geometry = geometry_of(node, size, _kernel(node))
    if any(step > 1 and taps > 1 for step, taps in zip(geometry.dilation, geometry.kernel, strict=True)):
        raise RefusedError(f"its dilation is {list(geometry.dilation)}", "averages over adjacent pixels only")
    include = bool(node.attributes.get("count_include_pad", 0))
    beyond = geometry.pads != geometry.own_pads
    if any(around) and (fill == LOWEST or beyond or (any(geometry.own_pads) and not include)):
        tensor, around = builder.padded(tensor, around, fill, view.name), (0, 0, 0, 0)
        rows, columns = size
    if any(around):
        include = True
    elif not any(geometry.own_pads):
        include = False
    if include and beyond:
        raise RefusedError("its ceil mode and count_include_pad give windows of different divisors",
                           "use floor mode, or leave the padding out of the mean")
    pads = _sum(geometry.pads, around)
    if not include and not _touches_image(geometry, pads, (rows, columns)):
        raise RefusedError("one of its windows lies outside the image", "make its pads smaller")
    shape = (builder.shapes[tensor][0], *geometry.output)
    builder.emit(AveragePool(name=builder.node_name(node.name), inputs=(tensor,), output=node.output,
                             kernel=geometry.kernel, stride=geometry.stride, pads=pads,
                             count_include_pad=include), shape)
    return [builder.view(node.output, (1, *shape))]


def _reduced(builder: Builder, node: OnnxNode, view: View, axes: Sequence[int], keep: bool,
             kind: type[AveragePool] | type[MaxPool]) -> list[Value]:
    """The mean or maximum over some axes, which must be rows, columns or both."""
    rank = view.index.ndim
    reduced = sorted({axis % rank for axis in axes})
    kept = [axis for axis in range(rank) if axis not in reduced]
    result = tuple(1 if axis in reduced else view.index.shape[axis] for axis in range(rank))
    final = result if keep else tuple(view.index.shape[axis] for axis in kept)
    if all(view.index.shape[axis] == 1 for axis in reduced):
        return [View(node.output, view.tensor, view.index.reshape(final))]
    view = builder.settled(view)
    channels, rows, columns = builder.shapes[view.tensor]
    count = math.prod(view.index.shape[axis] for axis in reduced)
    groups = np.sort(view.index.transpose([*kept, *reduced]).reshape(-1, count), axis=1)
    # which results the windows give is known from their first elements; their order need not be the map's
    rank_of_group = np.argsort(np.argsort(groups[:, 0])).astype(np.int32)
    positions = order_of(view.index.size).reshape(channels, rows, columns)
    for kernel, order in (((rows, columns), positions), ((1, columns), positions),
                          ((rows, 1), positions.transpose(0, 2, 1))):
        shape: Shape = (channels, rows // kernel[0], columns // kernel[1])
        wanted = order.reshape(-1, kernel[0] * kernel[1])
        if wanted.shape == groups.shape and np.array_equal(groups, wanted[rank_of_group]):
            builder.emit(kind(name=builder.node_name(node.name), inputs=(view.tensor,), output=node.output,
                              kernel=kernel, stride=kernel), shape)
            return [View(node.output, node.output, rank_of_group.reshape(final))]
    raise RefusedError(f"it reduces over the axes {reduced} of {list(view.index.shape)}",
                       "reductions over rows, columns or both are supported")


def _axes(node: OnnxNode, inputs: Sequence[Value | None], rank: int) -> list[int]:
    axes = node.attributes.get("axes")
    if axes is None and len(inputs) > 1 and inputs[1] is not None:
        axes = constant_of(inputs[1], "list of axes").array.reshape(-1).tolist()
    if not axes:
        return [] if node.attributes.get("noop_with_empty_axes", 0) else list(range(rank))
    return [int(axis) for axis in axes]


def lower_reduce_mean(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX ReduceMean over rows, columns or both."""
    view = view_of(inputs[0])
    return _reduced(builder, node, view, _axes(node, inputs, view.index.ndim),
                    bool(node.attributes.get("keepdims", 1)), AveragePool)


def lower_reduce_max(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX ReduceMax over rows, columns or both."""
    view = view_of(inputs[0])
    return _reduced(builder, node, view, _axes(node, inputs, view.index.ndim),
                    bool(node.attributes.get("keepdims", 1)), MaxPool)


def lower_global_average_pool(builder: Builder, node: OnnxNode,
                              inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX GlobalAveragePool."""
    view = view_of(inputs[0])
    return _reduced(builder, node, view, range(2, view.index.ndim), True, AveragePool)


def lower_global_max_pool(builder: Builder, node: OnnxNode, inputs: Sequence[Value | None]) -> list[Value]:
    """ONNX GlobalMaxPool."""
    view = view_of(inputs[0])
    return _reduced(builder, node, view, range(2, view.index.ndim), True, MaxPool)
