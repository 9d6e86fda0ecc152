"""Convolutions and fully connected layers as operations: which mode, which weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compiler.arithmetic import clamp_right_shift
from compiler.lowering import Lowering
from compiler.operation import Operation, Tail, View, WeightTiles
from compiler.weights import ChannelTaps, DenseTaps, ThinTaps
from hw.isa import Mode
from hw.slots import THIN_CHANNELS
from hw.weight_pairs import fits_pairs
from quant.graph import Convolution, Pair

__all__ = ["lower_convolution"]


def lower_convolution(
    lowering: Lowering, node: Convolution, source: View, destination: View
) -> tuple[str, list[Operation]]:
    """A convolution's kind and operations: DEPTHWISE, THIN or DENSE."""
    weights, formats = lowering.model.weights[node.name], lowering.model.formats
    outputs, taken, *size = weights.values.shape
    channels = taken * node.groups
    kernel = (size[0], size[1])
    shift = clamp_right_shift(formats[node.inputs[0]].fl + weights.fl - formats[node.output].fl)
    _, rows, columns = lowering.graph.shapes[node.output]
    dilation = node.dilation
    taps: WeightTiles
    tail: Tail | None = None
    pairs = _pairs(lowering, node, weights.values)
    in_order = lowering.machine.in_order  # has DENSE and MAXIMUM only
    if node.groups == channels == outputs > 1 and not in_order:
        mode, kind, pairs = Mode.DEPTHWISE, "depthwise convolution", False
        values, dilation = _undilated(weights.values[:, 0], dilation), (1, 1)
        kernel = values.shape[1], values.shape[2]
        taps = ChannelTaps(lowering.machine, values)
    elif node.groups == 1 and channels <= THIN_CHANNELS and kernel != (1, 1) and not in_order:
        mode, kind = Mode.THIN, "fully connected" if (rows, columns) == (1, 1) else "convolution"
        values, dilation = _undilated(weights.values, dilation), (1, 1)
        kernel = values.shape[2], values.shape[3]
        pairs &= channels > 1
        taps = ThinTaps(lowering.machine, values, pairs)
    else:
        mode, kind = Mode.DENSE, "convolution" if node.groups == 1 else "grouped convolution"
        if node.groups == 1 and (rows, columns) == (1, 1):
            kind = "fully connected"
        first = np.arange(outputs) // (outputs // node.groups) * taken
        taps = DenseTaps(lowering.machine, weights.values, first, pairs)
        lowering.check_blocks(node, taps, destination.planes)
        tail = _tail(lowering, node, weights.values, pairs)
    low, high = lowering.bounds(node)
    return kind, [
        Operation(
            name=node.name,
            kind=kind,
            mode=mode,
            source=source,
            destination=destination,
            **lowering.whole(node),
            **lowering.window(node, kernel, node.stride, (-node.pads[0], -node.pads[1]), dilation),
            thin_channels=channels if mode is Mode.THIN else 0,
            weights=taps,
            pairs=pairs,
            tail=tail,
            bias=lowering.lanes(weights.bias, destination.planes),
            shift=lowering.lanes(shift, destination.planes),
            low=low,
            high=high,
            macs=weights.values.size * rows * columns,
        )
    ]


def _pairs(lowering: Lowering, node: Convolution, values: NDArray[np.integer]) -> bool:
    """Whether weights come in pairs: where they have 4 bits.

    A weight decoder has as few bytes for those of a single pixel, or fewer, and there only bytes count.
    """
    decoded = lowering.machine.weight_decoder and lowering.graph.shapes[node.output][1:] == (1, 1)
    return lowering.machine.weight_pairs and not decoded and fits_pairs(values)


def _tail(lowering: Lowering, node: Convolution, values: NDArray[np.integer], pairs: bool) -> Tail | None:
    """The last channels, where they are few and begin a plane of more than one."""
    channels, lanes = values.shape[1], lowering.machine.output_lanes
    count = channels % lanes
    alone = lowering.machine.weight_decoder and lowering.graph.shapes[node.output][1:] == (1, 1)
    if (
        node.groups > 1
        or alone  # encoded, all its products are one pass
        or lowering.machine.in_order
        or channels < lanes
        or not 0 < count < min(THIN_CHANNELS + 1, lowering.machine.input_lanes)
        or values[0, 0].size == 1
        or max(node.dilation) > 1
    ):
        return None
    pairs &= count > 1
    return Tail(count, ThinTaps(lowering.machine, values[:, -count:], pairs), pairs)


def _undilated(values: NDArray[np.integer], dilation: Pair) -> NDArray[np.integer]:
    """Kernels (..., rows, columns) with the zeros between their taps written out."""
    *others, rows, columns = values.shape
    full = np.zeros((*others, (rows - 1) * dilation[0] + 1, (columns - 1) * dilation[1] + 1), values.dtype)
    full[..., :: dilation[0], :: dilation[1]] = values
    return full
