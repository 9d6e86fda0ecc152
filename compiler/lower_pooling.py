"""Pooling as operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from compiler.arithmetic import average_settings
from compiler.error import CompileError
from compiler.lowering import Lowering
from compiler.operation import Average, Operation, View
from hw.isa import Mode
from quant.graph import AveragePool, MaxPool, Pads

__all__ = ["averages", "lower_average", "lower_maximum"]


@dataclass(frozen=True)
class AveragePart:
    """A rectangle of an average pooling whose windows count the same number of elements."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    exponent: int
    average: Average | None
    shift: int


def lower_maximum(lowering: Lowering, node: MaxPool, source: View, destination: View) -> Operation:
    """Maxima of windows, by the array's own mode."""
    return lowering.channelwise(
        node,
        "maximum pooling",
        source,
        destination,
        *lowering.bounds(node),
        mode=Mode.MAXIMUM,
        shift=lowering.shift(node),
        window=lowering.window(
            node, node.kernel, node.stride, (-node.pads[0], -node.pads[1]), node.dilation
        ),
    )


def averages(lowering: Lowering, node: AveragePool) -> list[AveragePart]:
    """Rectangles of the output with equal window counts, and how each is divided.

    Raises
    ------
    CompileError
        If the machine cannot divide so.
    """
    _, rows, columns = lowering.graph.shapes[node.inputs[0]]
    _, out_rows, out_columns = lowering.graph.shapes[node.output]
    formats = lowering.model.formats
    row_runs, column_runs = ([(0, out_rows, node.kernel[0])], [(0, out_columns, node.kernel[1])])
    if not node.count_include_pad:
        row_runs = _equal_counts(rows, out_rows, node.kernel[0], node.stride[0], node.pads, 0)
        column_runs = _equal_counts(columns, out_columns, node.kernel[1], node.stride[1], node.pads, 1)
    shift = formats[node.output].fl - formats[node.inputs[0]].fl
    largest = max(abs(bound) for bound in lowering.model.tensor_bounds(node.inputs[0]))
    parts = []
    for first_row, row_count, inside_rows in row_runs:
        for first_column, column_count, inside_columns in column_runs:
            count = max(inside_rows * inside_columns, 1)
            settings = average_settings(largest * count, count, shift, lowering.machine.average_pooling)
            if settings is None and not lowering.machine.average_pooling:
                raise CompileError(
                    f"{node.name}: windows of {count} elements need a division, which this "
                    "machine was built without (average_pooling)"
                )
            if settings is None:
                raise CompileError(
                    f"{node.name}: windows of {count} elements with an output of {shift} more "
                    "fractional bits than the input pass the divider's range; choose a closer "
                    "fractional length, or pool in two steps"
                )
            parts.append(AveragePart((first_row, row_count), (first_column, column_count), *settings))
    return parts


def lower_average(
    lowering: Lowering, node: AveragePool, source: View, destination: View
) -> Iterator[Operation]:
    """An operation for each of the `averages`."""
    window = lowering.window(node, node.kernel, node.stride, (-node.pads[0], -node.pads[1]))
    for part in averages(lowering, node):
        region = {
            "first_row": part.rows[0],
            "rows": part.rows[1],
            "first_column": part.columns[0],
            "columns": part.columns[1],
        }
        yield lowering.channelwise(
            node,
            "average pooling",
            source,
            destination,
            *lowering.bounds(node),
            weight=1 << part.exponent,
            channels=lowering.graph.shapes[node.output][0],
            shift=part.shift,
            window=window,
            region=region,
            average=part.average,
        )


def _equal_counts(
    size: int, outputs: int, kernel: int, stride: int, pads: Pads, axis: int
) -> list[tuple[int, int, int]]:
    """Runs of outputs along one axis whose windows hold the same number of elements inside the image:
    (first, count, elements)."""
    starts = np.arange(outputs) * stride - pads[axis]
    inside = np.minimum(starts + kernel, size) - np.maximum(starts, 0)
    runs, first = [], 0
    for elements, run in groupby(np.maximum(inside, 0).tolist()):
        count = len(list(run))
        runs.append((first, count, elements))
        first += count
    return runs
