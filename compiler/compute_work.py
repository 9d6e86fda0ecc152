"""One COMPUTE: what it reads, adds and writes, as the fields of its instruction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from compiler.dependencies import Box, Scheduled
from compiler.operation import BLOCK_LIMIT, Operation
from compiler.scratch import ADDRESS_MASK, Rectangle, Scratch, window_of
from compiler.weight_request import InputPart, WeightRequest
from hw.isa import Instruction, Mode, Opcode
from hw.machine import Machine

__all__ = ["ComputeWork", "output_runs"]

_FIELD_OF_8 = 255


def output_runs(operation: Operation, first: int, blocks: int) -> Iterator[tuple[int, int]]:
    """Consecutive output blocks that one COMPUTE can do, first and count: they read the same input blocks."""
    start = first
    for block in range(first, first + blocks):
        end = block + 1
        if (
            end == first + blocks
            or end - start == BLOCK_LIMIT
            or (
                operation.mode is Mode.DENSE  # the others take the same for all
                and operation.weights.source_blocks(end) != operation.weights.source_blocks(start)
            )
        ):
            yield start, end - start
            start = end


@dataclass(frozen=True)
class _Inputs:
    """What the products are of.

    Attributes
    ----------
    mode : Mode
    pairs : bool
        Two weights of 4 bits in a byte.
    thin_channels, first_block, input_blocks : int
        As the instruction's fields.
    plane, planes : int
        The words of the source that are read: first plane and count.
    """

    mode: Mode
    pairs: bool
    thin_channels: int
    first_block: int
    input_blocks: int
    plane: int
    planes: int


@dataclass(frozen=True)
class ComputeWork:
    """Some output blocks of a tile.

    Attributes
    ----------
    machine : Machine
    operation : Operation
    whole_image : bool
        All of the source is in the scratchpad, not only the tile's window.
    tile : Rectangle
        Of the output.
    source : Scratch
        Where the source's plane 0 and pixel (0, 0) are or would be.
    first, blocks : int
        Output blocks.
    place : Scratch
        Where the first of them goes.
    residual_offset : int
        From there to the second operand's.
    part : InputPart or None
        The inputs that are added here; None: all.
    """

    machine: Machine
    operation: Operation
    whole_image: bool
    tile: Rectangle
    source: Scratch
    first: int
    blocks: int
    place: Scratch
    residual_offset: int
    part: InputPart | None

    def weight_request(self, step: int) -> WeightRequest:
        """The weights that it takes; ``step`` is the operation's number."""
        return WeightRequest(
            step, self.operation, self.first, self.blocks, self._slot_columns, self.part,
            self._may_fold, self._rows_adjoin,
        )  # fmt: skip

    def scheduled(self, layer: int, *, fold: bool) -> Scheduled:
        """The instruction, with what it touches; ``fold``: its weights are folded."""
        partial = self.part is not None and self.part.partial
        fields = self._reading_fields() | self._writing_fields()
        if fold:
            fields |= self._folded_fields()
        if self._planes_are_taps:
            fields |= self._tap_fields()
        if self.part is not None:
            fields |= {"continues": int(self.part.continues), "partial": int(partial)}
        if not partial:
            fields |= self._last_fields()
        place, source, inputs, window = self.place, self.source, self._inputs, self._window
        corner = source.base + inputs.plane * source.plane_step + window.row * source.row_step + window.column
        results = (self.blocks, place.plane_step, self.tile.rows, place.row_step, self.tile.columns)
        reads_residual = self.operation.residual is not None and not partial
        return Scheduled(
            Instruction(Opcode.COMPUTE, fields, layer=layer),
            scratch_reads=[
                Box(corner, inputs.planes, source.plane_step, window.rows, source.row_step, window.columns)
            ],
            scratch_late_reads=[Box(place.base + self.residual_offset, *results)] if reads_residual else [],
            scratch_writes=[] if partial else [Box(place.base, *results)],
        )

    @cached_property
    def _window(self) -> Rectangle:
        return window_of(self.operation, self.tile)

    @property
    def _slot_columns(self) -> int:
        return self.operation.slot_columns(self.machine, self.source.row_step)

    @cached_property
    def _inputs(self) -> _Inputs:
        operation, machine, part = self.operation, self.machine, self.part
        per_word = operation.blocks_per_word(machine)
        plane, planes = operation.source_planes(self.first, self.blocks, machine)
        first_block, input_blocks = 0, 1
        if operation.mode is Mode.DENSE:
            start, input_blocks = operation.weights.source_blocks(self.first)
            if part is not None:
                start, input_blocks = part.first, part.blocks
                plane, planes = start // per_word, -(-(start + input_blocks) // per_word) - start // per_word
            first_block = start % per_word
        if part is not None and part.tail:
            tail = operation.tail
            assert tail is not None
            passes = operation.tail_passes(machine, self._slot_columns)
            return _Inputs(Mode.THIN, tail.pairs, tail.channels, 0, passes, plane, planes)
        if operation.mode.reads_taps:
            input_blocks = operation.passes(machine, self.first, self._slot_columns)
        return _Inputs(
            operation.mode, operation.pairs, operation.thin_channels, first_block, input_blocks, plane, planes
        )

    @property
    def _corner(self) -> tuple[int, int]:
        """Row and column of the first window on the source."""
        row, column = (
            origin + place * stride
            for origin, place, stride in zip(
                self.operation.origin, (self.tile.row, self.tile.column), self.operation.stride, strict=True
            )
        )
        return row, column

    @property
    def _may_fold(self) -> bool:
        """Whether all products of an output block may be one long pass: for a single pixel, whose window lies
        in the image."""
        operation, inputs = self.operation, self._inputs
        extent = [
            (taps - 1) * dilation + 1
            for taps, dilation in zip(operation.kernel, operation.dilation, strict=True)
        ]
        return (
            self.part is None
            and inputs.mode is Mode.DENSE
            and self._window == Rectangle(*self._corner, *extent)
            and (self.tile.rows, self.tile.columns) == (1, 1)
            and not operation.hold_weights
            and operation.residual is None
            and operation.average is None
            and max(inputs.planes, operation.taps) <= self.machine.accumulator_depth
        )

    @property
    def _rows_adjoin(self) -> bool:
        """Whether rows of the window are one right behind the other, as in memory."""
        operation = self.operation
        return operation.kernel[0] == 1 or (
            operation.dilation == (1, 1) and operation.kernel[1] == self.source.row_step
        )

    @property
    def _planes_are_taps(self) -> bool:
        """Whether the planes of a 1x1 convolution may be the taps of a kernel row, which the small core goes
        through faster."""
        operation, inputs = self.operation, self._inputs
        extent = [
            (size - 1) * stride + 1
            for size, stride in zip((self.tile.rows, self.tile.columns), operation.stride, strict=True)
        ]
        return (
            self.machine.in_order
            and inputs.mode is Mode.DENSE
            and operation.kernel == (1, 1)
            and self._window == Rectangle(*self._corner, *extent)
            and 1 < inputs.input_blocks <= _FIELD_OF_8
            and 0 < self.source.plane_step <= _FIELD_OF_8
        )

    def _reading_fields(self) -> dict[str, int]:
        operation, source, inputs = self.operation, self.source, self._inputs
        row, column = self._corner
        origin = source.base + inputs.plane * source.plane_step + row * source.row_step + column
        # the part of the image that is in the scratchpad
        image = self._window
        if self.whole_image:
            storage = operation.source.storage
            image = Rectangle(0, 0, storage.rows, storage.columns)
        return {
            "source_address": origin & ADDRESS_MASK,
            "source_plane_step": source.plane_step & ADDRESS_MASK,
            "source_row_step": operation.stride[0] * source.row_step & ADDRESS_MASK,
            "source_tap_row_step": operation.dilation[0] * source.row_step & ADDRESS_MASK,
            "image_rows": image.rows,
            "image_columns": image.columns,
            "origin_row": row - image.row,
            "origin_column": column - image.column,
            "stride_rows": operation.stride[0],
            "stride_columns": operation.stride[1],
            "dilation_rows": operation.dilation[0],
            "dilation_columns": operation.dilation[1],
            "kernel_rows": operation.kernel[0],
            "kernel_columns": operation.kernel[1],
            "slot_columns": self._slot_columns if inputs.mode.reads_taps else 0,
            "thin_channels": inputs.thin_channels,
            "first_block": inputs.first_block,
            "input_blocks": inputs.input_blocks,
            "mode": inputs.mode.value,
            "input_signed": int(operation.source.signed),
            "hold_weights": int(operation.hold_weights),
            "pairs": int(inputs.pairs),
        }

    def _writing_fields(self) -> dict[str, int]:
        return {
            "output_blocks": self.blocks,
            "output_rows": self.tile.rows,
            "output_columns": self.tile.columns,
            "destination_address": self.place.base,
            "destination_plane_step": self.place.plane_step & ADDRESS_MASK,
            "destination_row_step": self.place.row_step & ADDRESS_MASK,
            "low": self.operation.low,
            "high": self.operation.high,
        }

    def _folded_fields(self) -> dict[str, int]:
        operation = self.operation
        return {
            "fold": 1,
            "source_row_step": self.source.plane_step & ADDRESS_MASK,
            "image_rows": ADDRESS_MASK,  # nothing is outside
            "image_columns": ADDRESS_MASK,
            "origin_row": 0,
            "origin_column": 0,
            "stride_rows": 1,
            "stride_columns": operation.dilation[1],
            "kernel_rows": 1 if self._rows_adjoin else operation.kernel[0],
            "kernel_columns": 1,
            "first_block": 0,
            "input_blocks": operation.blocks_per_word(self.machine),
            "output_rows": self._inputs.planes,
            "output_columns": operation.taps if self._rows_adjoin else operation.kernel[1],
        }

    def _tap_fields(self) -> dict[str, int]:
        return {
            "image_rows": ADDRESS_MASK,  # nothing is outside
            "image_columns": ADDRESS_MASK,
            "origin_row": 0,
            "origin_column": 0,
            "dilation_columns": self.source.plane_step,
            "kernel_columns": self._inputs.input_blocks,
            "input_blocks": 1,
        }

    def _last_fields(self) -> dict[str, int]:
        """Of post-processing beyond shift and bounds, when sums are complete."""
        fields = {}
        if (residual := self.operation.residual) is not None:
            fields |= {
                "residual": 1,
                "residual_signed": int(residual.view.signed),
                "residual_offset": self.residual_offset & ADDRESS_MASK,
                "own_shift": residual.own_shift,
                "residual_shift": residual.residual_shift,
                "sum_shift": residual.sum_shift,
                "sum_low": residual.sum_low,
                "sum_high": residual.sum_high,
            }
        if (average := self.operation.average) is not None:
            fields |= {"average": 1, "divisor": average.divisor, "divisor_shift": average.divisor_shift}
        return fields
