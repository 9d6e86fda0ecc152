"""Fixed-point model → operations: what each node becomes on the machine, and where tensors live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from compiler.arithmetic import average_settings, clamp_right_shift, sum_settings
from compiler.error import CompileError
from compiler.operation import BLOCK_LIMIT, Average, Operation, Residual, Tail, View, WeightTiles
from compiler.placement import fusable_additions, narrowed, place_tensors
from compiler.weights import ChannelTaps, DenseTaps, DiagonalWeight, SameWeight, ThinTaps
from hw.isa import Mode
from hw.machine import Machine
from hw.slots import THIN_CHANNELS
from hw.weight_pairs import fits_pairs
from quant.fixed_model import FixedModel, accumulator_bound
from quant.graph import Add, AveragePool, Concat, Convolution, MaxPool, Node, Pads, Pair, Select

__all__ = ["Lowered", "LoweredLayer", "lower"]

_LIMITS = {"kernel": 255, "stride": 255, "dilation": 255}
_INT32 = 1 << 31


@dataclass(frozen=True)
class LoweredLayer:
    """One numbered layer: its operations and the tensor that is in memory after them."""

    name: str
    kind: str
    tensor: str
    operations: tuple[Operation, ...]

    @property
    def macs(self) -> int:
        """Multiplications that the network asks for."""
        return sum(operation.macs for operation in self.operations)


@dataclass(frozen=True)
class Lowered:
    """The whole network: layers in execution order and each tensor's place (fused ones have none)."""

    layers: list[LoweredLayer]
    views: dict[str, View]


def lower(model: FixedModel, machine: Machine) -> Lowered:
    """Translate a model for a machine.

    Raises
    ------
    CompileError
        Lists everything that the machine cannot do: formats, sums past 32 bits, sizes past a field.
    """
    graph = model.graph
    problems = list(_format_problems(model))
    if not graph.nodes:
        problems.append(f"{graph.name}: the network has no nodes; there is nothing to compile")
    if problems:
        raise CompileError.from_problems(problems)
    nodes = _NodeLowering(model, machine)
    fused: dict[str, Node] = {}
    for add, candidates in fusable_additions(graph).items():
        for node in candidates:
            if not isinstance(node, AveragePool) or all(
                part.average is None for part in nodes.averages(node)
            ):
                fused[add] = node
                break
    deferred = {node.name for node in fused.values()}
    hidden = {node.output for node in fused.values()}
    views = place_tensors(model, machine, hidden)
    layers = []
    for node in graph.nodes:
        if node.name in deferred:
            continue
        try:
            layer = nodes.layer(node, views, fused.get(node.name))
        except CompileError as error:
            problems.append(str(error))
            continue
        problems += _too_many_taps(layer.operations, machine)
        if layer.operations:
            layers.append(layer)
    if problems:
        raise CompileError.from_problems(problems)
    return _with_narrow_input(Lowered(layers, views), model, machine)


def _with_narrow_input(lowered: Lowered, model: FixedModel, machine: Machine) -> Lowered:
    """The same, with the input's few channels in as few bytes where the machine can read them so."""
    name, views = model.graph.input, lowered.views
    operations = [operation for layer in lowered.layers for operation in layer.operations]
    image, channels = views[name], model.graph.shapes[name][0]
    storage = narrowed(image, channels, views.values(), operations, machine)
    if storage is None:
        return lowered

    def changed(operation: Operation) -> Operation:
        source = operation.source
        if source.storage != image.storage:
            return operation
        return replace(operation, source=replace(source, storage=storage))

    layers = [replace(layer, operations=tuple(map(changed, layer.operations))) for layer in lowered.layers]
    return Lowered(layers, {**views, name: replace(image, storage=storage)})


def _too_many_taps(operations: tuple[Operation, ...], machine: Machine) -> Iterator[str]:
    for operation in operations:
        (rows, columns), most = operation.kernel, machine.input_lanes - 1
        if operation.mode.reads_taps and operation.passes(machine, 0, columns + most) > BLOCK_LIMIT:
            yield (
                f"{operation.name}: a kernel of {rows}x{columns} taps is too large for {machine.input_lanes} "
                "input lanes; pool in two steps"
            )


def _format_problems(model: FixedModel) -> Iterator[str]:
    for tensor in model.graph.shapes:
        form = model.formats[tensor]
        if form.bits > 8:
            yield f"{tensor}: activations of {form.bits} bits, the machine has 8; calibrate with fewer"
    for node in model.graph.nodes:
        if not isinstance(node, Convolution):
            continue
        weights = model.weights[node.name]
        if weights.bits > 8 or weights.values.min(initial=0) < -128 or weights.values.max(initial=0) > 127:
            yield f"{node.name}: weights of {weights.bits} bits, the machine has 8; calibrate with fewer"
        if (bound := accumulator_bound(model, node)) >= _INT32:
            yield (
                f"{node.name}: sums can reach {bound}, past the 32-bit accumulator; use fewer bits for "
                "its weights or its input"
            )


@dataclass(frozen=True)
class _Part:
    """A rectangle of an average pooling whose windows count the same number of elements."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    exponent: int
    average: Average | None
    shift: int


class _NodeLowering:
    """Lowers one node at a time; every method raises CompileError with the node's name."""

    def __init__(self, model: FixedModel, machine: Machine) -> None:
        self.model = model
        self.machine = machine
        self.graph = model.graph

    def layer(self, node: Node, views: dict[str, View], producer: Node | None) -> LoweredLayer:
        """A node's layer; ``producer`` is the node of an operand that an Add takes along."""
        if not isinstance(node, Add):
            kind, operations = self._operations(node, views, views[node.output])
            return LoweredLayer(node.name, kind, node.output, tuple(operations))
        if producer is None:
            own, other = node.inputs
            view = views[own]
            operations = [self._channelwise(node, "add", view, views[node.output], -128, 255)]
            name, kind = node.name, "add"
        else:
            own = producer.output
            other = next(tensor for tensor in node.inputs if tensor != own)
            kind, operations = self._operations(producer, views, views[node.output])
            name, kind = producer.name, f"{kind} + add"
        fl_own, fl_other, fl_out = (self.model.formats[tensor].fl for tensor in (own, other, node.output))
        settings = sum_settings(fl_own, fl_other, fl_out)
        if settings is None:
            raise CompileError(
                f"{node.name}: its operands' fractional lengths {fl_own} and {fl_other} are "
                "more than 15 apart; choose closer ones"
            )
        residual = Residual(views[other], *settings, *self._bounds(node))
        return LoweredLayer(
            name, kind, node.output, tuple(replace(operation, residual=residual) for operation in operations)
        )

    def _operations(
        self, node: Node, views: dict[str, View], destination: View
    ) -> tuple[str, list[Operation]]:
        match node:
            case Convolution():
                return self._convolution(node, views[node.inputs[0]], destination)
            case MaxPool():
                return "maximum pooling", [self._maximum(node, views[node.inputs[0]], destination)]
            case AveragePool():
                return "average pooling", list(self._average(node, views[node.inputs[0]], destination))
            case Concat():
                return "concatenation", list(self._concat(node, views, destination))
            case Select():
                return "selection", [self._select(node, views[node.inputs[0]], destination)]
        raise CompileError(f"{node.name}: unknown node {type(node).__name__}")

    def _bounds(self, node: Node) -> tuple[int, int]:
        low, high = self.model.bounds(node)
        return min(low, high), high  # as numpy.clip, where an activation excludes the whole format

    def _window(self, node: Node, kernel: Pair, stride: Pair, origin: Pair, dilation: Pair = (1, 1)) -> dict:
        """Window fields of an operation, without strides and dilations that nothing depends on."""
        size = self.graph.shapes[node.output][1:]
        stride = (1 if size[0] == 1 else stride[0], 1 if size[1] == 1 else stride[1])
        dilation = (1 if kernel[0] == 1 else dilation[0], 1 if kernel[1] == 1 else dilation[1])
        for what, pair in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
            if max(pair) > _LIMITS[what]:
                raise CompileError(
                    f"{node.name}: {what} {pair[0]}x{pair[1]}, the machine has at most {_LIMITS[what]}"
                )
        for size in (self.graph.shapes[node.inputs[0]][1:], self.graph.shapes[node.output][1:]):
            if max(size) >= 1 << 15:
                raise CompileError(
                    f"{node.name}: a map of {size[0]}x{size[1]} pixels, the machine has at "
                    "most 32767 in each direction"
                )
        return {"kernel": kernel, "stride": stride, "dilation": dilation, "origin": origin}

    def _whole(self, node: Node) -> dict:
        _, rows, columns = self.graph.shapes[node.output]
        return {"first_row": 0, "first_column": 0, "rows": rows, "columns": columns}

    def _lanes(self, values: NDArray[np.int64], planes: int) -> NDArray[np.int64]:
        """Values of channels as (planes, output lanes), zero past the last."""
        full = np.zeros(planes * self.machine.output_lanes, np.int64)
        full[: len(values)] = values
        return full.reshape(planes, self.machine.output_lanes)

    def _shift(self, node: Node) -> int:
        """Right shift of a node that keeps values as they are."""
        formats = self.model.formats
        return int(clamp_right_shift(np.int64(formats[node.inputs[0]].fl - formats[node.output].fl)))

    def _convolution(self, node: Convolution, source: View, destination: View) -> tuple[str, list[Operation]]:
        weights, formats = self.model.weights[node.name], self.model.formats
        outputs, taken, *size = weights.values.shape
        channels = taken * node.groups
        kernel = (size[0], size[1])
        shift = clamp_right_shift(formats[node.inputs[0]].fl + weights.fl - formats[node.output].fl)
        _, rows, columns = self.graph.shapes[node.output]
        dilation = node.dilation
        taps: WeightTiles
        tail: Tail | None = None
        pairs = self._pairs(node, weights.values)
        in_order = self.machine.in_order  # has DENSE and MAXIMUM only
        if node.groups == channels == outputs > 1 and not in_order:
            mode, kind, pairs = Mode.DEPTHWISE, "depthwise convolution", False
            values, dilation = _undilated(weights.values[:, 0], dilation), (1, 1)
            kernel = values.shape[1], values.shape[2]
            taps = ChannelTaps(self.machine, values)
        elif node.groups == 1 and channels <= THIN_CHANNELS and kernel != (1, 1) and not in_order:
            mode, kind = Mode.THIN, "fully connected" if (rows, columns) == (1, 1) else "convolution"
            values, dilation = _undilated(weights.values, dilation), (1, 1)
            kernel = values.shape[2], values.shape[3]
            pairs &= channels > 1
            taps = ThinTaps(self.machine, values, pairs)
        else:
            mode, kind = Mode.DENSE, "convolution" if node.groups == 1 else "grouped convolution"
            if node.groups == 1 and (rows, columns) == (1, 1):
                kind = "fully connected"
            first = np.arange(outputs) // (outputs // node.groups) * taken
            taps = DenseTaps(self.machine, weights.values, first, pairs)
            self._check_blocks(node, taps, destination.planes)
            tail = self._tail(node, weights.values, pairs)
        low, high = self._bounds(node)
        return kind, [
            Operation(
                name=node.name,
                kind=kind,
                mode=mode,
                source=source,
                destination=destination,
                **self._whole(node),
                **self._window(node, kernel, node.stride, (-node.pads[0], -node.pads[1]), dilation),
                thin_channels=channels if mode is Mode.THIN else 0,
                weights=taps,
                pairs=pairs,
                tail=tail,
                bias=self._lanes(weights.bias, destination.planes),
                shift=self._lanes(shift, destination.planes),
                low=low,
                high=high,
                macs=weights.values.size * rows * columns,
            )
        ]

    def _pairs(self, node: Convolution, values: NDArray[np.integer]) -> bool:
        """Whether weights come in pairs: where they have 4 bits.

        A weight decoder has as few bytes for those of a single pixel, or fewer, and there only bytes count.
        """
        decoded = self.machine.weight_decoder and self.graph.shapes[node.output][1:] == (1, 1)
        return self.machine.weight_pairs and not decoded and fits_pairs(values)

    def _tail(self, node: Convolution, values: NDArray[np.integer], pairs: bool) -> Tail | None:
        """The last channels, where they are few and begin a plane of more than one."""
        channels, lanes = values.shape[1], self.machine.output_lanes
        count = channels % lanes
        alone = self.machine.weight_decoder and self.graph.shapes[node.output][1:] == (1, 1)
        if (
            node.groups > 1
            or alone  # encoded, all its products are one pass
            or self.machine.in_order
            or channels < lanes
            or not 0 < count < min(THIN_CHANNELS + 1, self.machine.input_lanes)
            or values[0, 0].size == 1
            or max(node.dilation) > 1
        ):
            return None
        pairs &= count > 1
        return Tail(count, ThinTaps(self.machine, values[:, -count:], pairs), pairs)

    def _check_blocks(self, node: Node, taps: DenseTaps, planes: int) -> None:
        if max(taps.source_blocks(block)[1] for block in range(planes)) > BLOCK_LIMIT:
            raise CompileError(
                f"{node.name}: more than {BLOCK_LIMIT * taps.lanes} input channels; "
                "use a machine with more input_lanes"
            )

    def _channelwise(
        self,
        node: Node,
        kind: str,
        source: View,
        destination: View,
        low: int,
        high: int,
        *,
        mode: Mode = Mode.DEPTHWISE,
        weight: int = 1,
        channels: int | None = None,
        shift: int = 0,
        window: dict | None = None,
        region: dict | None = None,
        average: Average | None = None,
    ) -> Operation:
        """An operation that keeps channels apart, with the same weight for every tap of every channel."""
        count = destination.planes * self.machine.output_lanes
        used = count if mode is Mode.MAXIMUM or channels is None else channels
        values = np.zeros(count, np.int64)
        values[:used] = weight
        weights: WeightTiles = SameWeight(self.machine, values, taps_on_lanes=mode.reads_taps)
        if self.machine.in_order and mode is Mode.DEPTHWISE:
            mode, weights = Mode.DENSE, DiagonalWeight(self.machine, values)
        return Operation(
            name=node.name,
            kind=kind,
            mode=mode,
            source=source.part(0, destination.planes),
            destination=destination,
            **(region or self._whole(node)),
            **(window or {}),
            weights=weights,
            hold_weights=True,
            bias=self._lanes(np.zeros(0, np.int64), destination.planes),
            shift=self._lanes(np.full(count, shift), destination.planes),
            low=low,
            high=high,
            average=average,
        )

    def _maximum(self, node: MaxPool, source: View, destination: View) -> Operation:
        return self._channelwise(
            node,
            "maximum pooling",
            source,
            destination,
            *self._bounds(node),
            mode=Mode.MAXIMUM,
            shift=self._shift(node),
            window=self._window(
                node, node.kernel, node.stride, (-node.pads[0], -node.pads[1]), node.dilation
            ),
        )

    def averages(self, node: AveragePool) -> list[_Part]:
        """Rectangles of the output with equal window counts, and how each is divided.

        Raises
        ------
        CompileError
            If the machine cannot divide so.
        """
        _, rows, columns = self.graph.shapes[node.inputs[0]]
        _, out_rows, out_columns = self.graph.shapes[node.output]
        formats = self.model.formats
        row_runs, column_runs = ([(0, out_rows, node.kernel[0])], [(0, out_columns, node.kernel[1])])
        if not node.count_include_pad:
            row_runs = _equal_counts(rows, out_rows, node.kernel[0], node.stride[0], node.pads, 0)
            column_runs = _equal_counts(columns, out_columns, node.kernel[1], node.stride[1], node.pads, 1)
        shift = formats[node.output].fl - formats[node.inputs[0]].fl
        largest = max(abs(bound) for bound in self.model.tensor_bounds(node.inputs[0]))
        parts = []
        for first_row, row_count, inside_rows in row_runs:
            for first_column, column_count, inside_columns in column_runs:
                count = max(inside_rows * inside_columns, 1)
                settings = average_settings(largest * count, count, shift, self.machine.average_pooling)
                if settings is None and not self.machine.average_pooling:
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
                parts.append(_Part((first_row, row_count), (first_column, column_count), *settings))
        return parts

    def _average(self, node: AveragePool, source: View, destination: View) -> Iterator[Operation]:
        window = self._window(node, node.kernel, node.stride, (-node.pads[0], -node.pads[1]))
        for part in self.averages(node):
            region = {
                "first_row": part.rows[0],
                "rows": part.rows[1],
                "first_column": part.columns[0],
                "columns": part.columns[1],
            }
            yield self._channelwise(
                node,
                "average pooling",
                source,
                destination,
                *self._bounds(node),
                weight=1 << part.exponent,
                channels=self.graph.shapes[node.output][0],
                shift=part.shift,
                window=window,
                region=region,
                average=part.average,
            )

    def _permutation(
        self,
        node: Node,
        kind: str,
        source: View,
        destination: View,
        channels: NDArray[np.int64],
        **fields: object,
    ) -> Operation:
        """A 1x1 convolution that moves channel ``channels[o]`` to o; −1 is zero."""
        taps = DenseTaps(
            self.machine,
            (channels >= 0).astype(np.int64).reshape(-1, 1, 1, 1),
            np.maximum(channels, 0),
            self.machine.weight_pairs,
        )
        self._check_blocks(node, taps, destination.planes)
        return Operation(
            name=node.name,
            kind=kind,
            mode=Mode.DENSE,
            source=source,
            destination=destination,
            weights=taps,
            pairs=taps.pairs,
            bias=self._lanes(np.zeros(0, np.int64), destination.planes),
            **{**self._whole(node), **fields},
        )  # pyright: ignore[reportArgumentType]

    def _select(self, node: Select, source: View, destination: View) -> Operation:
        lanes = self.machine.output_lanes
        window = self._window(node, (1, 1), node.step[1:], node.start[1:])
        (low, high), shift = self._bounds(node), self._shift(node)
        first_plane, lane = divmod(node.start[0], lanes)
        step = node.step[0] if node.size[0] > 1 else 1
        if (
            lane == 0
            and step == 1
            and node.pad_channels[0] == 0
            and first_plane + destination.planes <= source.planes
        ):
            return self._channelwise(
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
        return self._permutation(
            node,
            "selection",
            source,
            destination,
            channels,
            low=low,
            high=high,
            shift=self._lanes(np.full(len(channels), shift), destination.planes),
            **window,
        )

    def _concat(self, node: Concat, views: dict[str, View], destination: View) -> Iterator[Operation]:
        """Copies of the inputs that are not yet where the concatenation wants them.

        An input that starts inside a plane is added to what the inputs before it left there: lanes
        that an operation does not fill are zero, and a sum with zero is exact.
        """
        lanes = self.machine.output_lanes
        low, high = self._bounds(node)
        with_zero = (min(low, 0), max(high, 0))
        out = self.model.formats[node.output]
        offset, total = 0, self.graph.shapes[node.output][0]
        for tensor in node.inputs:
            view, count = views[tensor], self.graph.shapes[tensor][0]
            start, end = offset, offset + count
            offset = end
            first, last = start // lanes, (end - 1) // lanes
            if view.storage == destination.storage and view.first_plane == destination.first_plane + first:
                continue  # its producer has written it here
            shift = int(clamp_right_shift(np.int64(self.model.formats[tensor].fl - out.fl)))

            def settings(plane: int, start: int = start, end: int = end) -> tuple[bool, tuple[int, int]]:
                # the last writer of a plane applies the bounds; those before it keep zeros zero
                final = end >= min((plane + 1) * lanes, total)
                return plane * lanes < start, (low, high) if final else with_zero

            for (shared, bounds), run in groupby(range(first, last + 1), settings):
                planes = list(run)
                target = destination.part(planes[0], len(planes))
                if start % lanes == 0:
                    skipped = planes[0] - first
                    yield self._channelwise(
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
                yield self._permutation(
                    node,
                    "concatenation",
                    view,
                    target,
                    channels,
                    low=own[0],
                    high=own[1],
                    shift=self._lanes(np.full(len(channels), shift), len(planes)),
                    residual=Residual(target, 0, 0, 0, *bounds) if shared else None,
                )


def _undilated(values: NDArray[np.integer], dilation: Pair) -> NDArray[np.integer]:
    """Kernels (..., rows, columns) with the zeros between their taps written out."""
    *others, rows, columns = values.shape
    full = np.zeros((*others, (rows - 1) * dilation[0] + 1, (columns - 1) * dilation[1] + 1), values.dtype)
    full[..., :: dilation[0], :: dilation[1]] = values
    return full


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
