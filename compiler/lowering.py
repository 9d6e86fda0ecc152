"""What the lowering of all kinds of nodes has in common: the model, the machine, fields of operations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compiler.arithmetic import clamp_right_shift
from compiler.error import CompileError
from compiler.operation import BLOCK_LIMIT, Average, Operation, View, WeightTiles
from compiler.weights import DenseTaps, DiagonalWeight, SameWeight
from hw.isa import Mode
from hw.machine import Machine
from quant.fixed_model import FixedModel
from quant.graph import Node, Pair

__all__ = ["Lowering"]

_LIMITS = {"kernel": 255, "stride": 255, "dilation": 255}


class Lowering:
    """A model that is lowered for a machine; every method raises CompileError with the node's name."""

    def __init__(self, model: FixedModel, machine: Machine) -> None:
        self.model = model
        self.machine = machine
        self.graph = model.graph

    def bounds(self, node: Node) -> tuple[int, int]:
        """Least and greatest value of a node's output."""
        low, high = self.model.bounds(node)
        return min(low, high), high  # as numpy.clip, where an activation excludes the whole format

    def window(self, node: Node, kernel: Pair, stride: Pair, origin: Pair, dilation: Pair = (1, 1)) -> dict:
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

    def whole(self, node: Node) -> dict:
        """Fields of an operation that computes all of a node's output."""
        _, rows, columns = self.graph.shapes[node.output]
        return {"first_row": 0, "first_column": 0, "rows": rows, "columns": columns}

    def lanes(self, values: NDArray[np.int64], planes: int) -> NDArray[np.int64]:
        """Values of channels as (planes, output lanes), zero past the last."""
        full = np.zeros(planes * self.machine.output_lanes, np.int64)
        full[: len(values)] = values
        return full.reshape(planes, self.machine.output_lanes)

    def shift(self, node: Node) -> int:
        """Right shift of a node that keeps values as they are."""
        formats = self.model.formats
        return int(clamp_right_shift(np.int64(formats[node.inputs[0]].fl - formats[node.output].fl)))

    def check_blocks(self, node: Node, taps: DenseTaps, planes: int) -> None:
        """Raise CompileError if an output block takes more input blocks than an instruction can say."""
        if max(taps.source_blocks(block)[1] for block in range(planes)) > BLOCK_LIMIT:
            raise CompileError(
                f"{node.name}: more than {BLOCK_LIMIT * taps.lanes} input channels; "
                "use a machine with more input_lanes"
            )

    def channelwise(
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
            **(region or self.whole(node)),
            **(window or {}),
            weights=weights,
            hold_weights=True,
            bias=self.lanes(np.zeros(0, np.int64), destination.planes),
            shift=self.lanes(np.full(count, shift), destination.planes),
            low=low,
            high=high,
            average=average,
        )

    def permutation(
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
        self.check_blocks(node, taps, destination.planes)
        return Operation(
            name=node.name,
            kind=kind,
            mode=Mode.DENSE,
            source=source,
            destination=destination,
            weights=taps,
            pairs=taps.pairs,
            bias=self.lanes(np.zeros(0, np.int64), destination.planes),
            **{**self.whole(node), **fields},
        )  # pyright: ignore[reportArgumentType]
