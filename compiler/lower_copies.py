"""Selections and concatenations as operations: channels that are moved, not changed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from compiler.arithmetic import clamp_right_shift
from compiler.lowering import Lowering
from compiler.operation import Operation, Residual, View
from quant.graph import Concat, Select

__all__ = ["lower_concat", "lower_select"]


def lower_select(lowering: Lowering, node: Select, source: View, destination: View) -> Operation:
    """Channels and pixels of a tensor, and channels of zeros beside them."""
    lanes = lowering.machine.output_lanes
    window = lowering.window(node, (1, 1), node.step[1:], node.start[1:])
    (low, high), shift = lowering.bounds(node), lowering.shift(node)
    first_plane, lane = divmod(node.start[0], lanes)
    step = node.step[0] if node.size[0] > 1 else 1
    if (
        lane == 0
        and step == 1
        and node.pad_channels[0] == 0
        and first_plane + destination.planes <= source.planes
    ):
        return lowering.channelwise(
            node,
            "selection",
            source.part(first_plane, destination.planes),
            destination,
            low,
            high,
            channels=node.size[0],
            shift=shift,
            window=window,
        )
    before, after = node.pad_channels
    channels = np.pad(node.start[0] + step * np.arange(node.size[0]), (before, after), constant_values=-1)
    return lowering.permutation(
        node,
        "selection",
        source,
        destination,
        channels,
        low=low,
        high=high,
        shift=lowering.lanes(np.full(len(channels), shift), destination.planes),
        **window,
    )


def lower_concat(
    lowering: Lowering, node: Concat, views: dict[str, View], destination: View
) -> Iterator[Operation]:
    """Copies of the inputs that are not yet where the concatenation wants them.

    An input that starts inside a plane is added to what the inputs before it left there: lanes
    that an operation does not fill are zero, and a sum with zero is exact.
    """
    lanes = lowering.machine.output_lanes
    low, high = lowering.bounds(node)
    with_zero = (min(low, 0), max(high, 0))
    out = lowering.model.formats[node.output]
    offset, total = 0, lowering.graph.shapes[node.output][0]
    for tensor in node.inputs:
        view, count = views[tensor], lowering.graph.shapes[tensor][0]
        start, end = offset, offset + count
        offset = end
        first, last = start // lanes, (end - 1) // lanes
        if view.storage == destination.storage and view.first_plane == destination.first_plane + first:
            continue  # its producer has written it here
        shift = int(clamp_right_shift(np.int64(lowering.model.formats[tensor].fl - out.fl)))

        def settings(plane: int, start: int = start, end: int = end) -> tuple[bool, tuple[int, int]]:
            # the last writer of a plane applies the bounds; those before it keep zeros zero
            final = end >= min((plane + 1) * lanes, total)
            return plane * lanes < start, (low, high) if final else with_zero

        for (shared, bounds), run in groupby(range(first, last + 1), settings):
            planes = list(run)
            target = destination.part(planes[0], len(planes))
            if start % lanes == 0:
                skipped = planes[0] - first
                yield lowering.channelwise(
                    node,
                    "concatenation",
                    view.part(skipped, len(planes)),
                    target,
                    *bounds,
                    channels=min(count - skipped * lanes, len(planes) * lanes),
                    shift=shift,
                )
                continue
            channels = np.arange(planes[0] * lanes, (planes[-1] + 1) * lanes) - start
            channels[(channels < 0) | (channels >= count)] = -1
            own = with_zero if shared else bounds
            yield lowering.permutation(
                node,
                "concatenation",
                view,
                target,
                channels,
                low=own[0],
                high=own[1],
                shift=lowering.lanes(np.full(len(channels), shift), len(planes)),
                residual=Residual(target, 0, 0, 0, *bounds) if shared else None,
            )
