"""COMPUTE in the program simulator: windows, products, sums, post-processing (`docs/machine.md`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hw.isa import Instruction, Mode
from hw.slots import THIN_CHANNELS
from hw.weight_pairs import unpair_tiles
from quant.number_format import round_half_even_divide, round_half_even_shift

if TYPE_CHECKING:
    from sim.program import ProgramSimulator

__all__ = ["ADDRESSES", "ComputeSimulation"]

#: Scratchpad addresses count modulo this.
ADDRESSES = 1 << 16
_INT32 = 1 << 31
#: Elements of the largest matrix that is built at once.
_CHUNK = 1 << 24


class ComputeSimulation:
    """One COMPUTE instruction, all pixels of a pass at once, on a simulator's scratchpad and weights."""

    def __init__(self, simulator: ProgramSimulator, instruction: Instruction) -> None:
        self.simulator = simulator
        self.machine = simulator.machine
        self.i = instruction
        self.mode = Mode(instruction["mode"])
        self.rows, self.columns = instruction["output_rows"], instruction["output_columns"]
        self.pixels = self.rows * self.columns
        #: products of an output lane in one pass, and as many channels in a block
        self.lanes = self.machine.input_lanes * (2 if instruction["pairs"] else 1)
        #: where input lanes are taps: channels of each, and slots up to the last tap
        self.channels = instruction["thin_channels"] if self.mode is Mode.THIN else 1
        rows_before = instruction["kernel_rows"] - 1
        self.slots = rows_before * instruction["slot_columns"] + instruction["kernel_columns"]

    def _check(self) -> None:
        i, require = self.i, self.simulator.require
        for name in (
            "image_rows",
            "image_columns",
            "stride_rows",
            "stride_columns",
            "dilation_rows",
            "dilation_columns",
            "kernel_rows",
            "kernel_columns",
            "input_blocks",
            "output_blocks",
            "output_rows",
            "output_columns",
        ):
            require(i[name] >= 1, f"{name} must be at least 1")
        pixels = max(self.rows, self.columns) if i["fold"] else self.pixels
        require(
            pixels <= self.machine.accumulator_depth,
            f"{pixels} output pixels, the accumulators hold {self.machine.accumulator_depth}",
        )
        require(i["low"] <= i["high"], "low is above high")
        require(min(i["low"], i["sum_low"]) >= -128, "a lower bound is below -128")
        if self.machine.in_order:
            require(not self.mode.reads_taps, f"the small core has no mode {self.mode.name}")
            require(not i["average"], "the small core has no divider")
        if self.mode is not Mode.DENSE:
            require(i["first_block"] == 0, "first_block must be 0")
        if self.mode is Mode.MAXIMUM:
            require(i["input_blocks"] == 1, "input_blocks must be 1")
        if self.mode.reads_taps:
            banks = self.machine.input_lanes
            require(i["dilation_rows"] == i["dilation_columns"] == 1, "dilation where input lanes are taps")
            require(i["slot_columns"] >= i["kernel_columns"], "slot_columns is below kernel_columns")
            require(
                i["kernel_rows"] == 1 or (i["source_tap_row_step"] - i["slot_columns"]) % banks == 0,
                f"source_tap_row_step and slot_columns differ by no multiple of {banks}",
            )
            products = self.slots * self.channels
            require(
                i["input_blocks"] * self.lanes >= products,
                f"{i['input_blocks']} passes for {products} products of a window",
            )
        if self.mode is Mode.THIN:
            require(1 <= i["thin_channels"] <= THIN_CHANNELS, f"thin_channels must be 1 to {THIN_CHANNELS}")
        if i["partial"] or i["continues"]:
            sums = i["output_blocks"] * self.pixels
            require(
                sums <= self.machine.accumulator_depth,
                f"{sums} partial sums, the accumulators hold {self.machine.accumulator_depth}",
            )
            require(self.mode is not Mode.MAXIMUM, "partial sums of a maximum")
        if i["fold"]:
            others = ("residual", "average", "partial", "continues", "hold_weights")
            require(self.mode is Mode.DENSE and not any(i[name] for name in others), "fold with another mode")
            require(self.machine.weight_decoder, "fold needs a machine with a weight decoder")
        require(not (i["partial"] and (i["residual"] or i["average"])), "partial with residual or average")
        left = self.simulator.partial_sums
        require(bool(left) == bool(i["continues"]), "sums are left and not continued, or none are")
        require(
            not left or (len(left), len(left[0])) == (i["output_blocks"], self.pixels),
            "continues sums of another number of output blocks or pixels",
        )
        first = i["first_block"] * self.lanes
        require(first < self.machine.output_lanes, "first_block is past the first word")
        if i["pairs"]:
            require(self.machine.weight_pairs, "this machine takes no pairs of weights")
            require(self.mode.shares_inputs, "pairs of weights with another mode than DENSE and THIN")
            require(
                self.mode is Mode.DENSE or self.channels > 1, "pairs of weights with a single thin channel"
            )
        if i["residual"]:
            require(i["sum_low"] <= i["sum_high"], "sum_low is above sum_high")
            require(-9 <= i["sum_shift"] <= 31, "sum_shift must be -9 to 31")
            require(not i["average"], "average and residual together")
        if i["average"]:
            require(self.machine.average_pooling, "this machine has no divider")
            require(i["divisor"] >= 1, "divisor must be at least 1")
            require(-8 <= i["divisor_shift"] <= 8, "divisor_shift must be -8 to 8")

    def execute(self) -> None:
        self._check()
        i, machine = self.i, self.machine
        taps = 1 if self.mode.reads_taps else i["kernel_rows"] * i["kernel_columns"]
        shared: NDArray[np.float64] | None = None
        if self.mode is Mode.DENSE:
            last = i["first_block"] + i["input_blocks"] - 1
            planes = last * self.lanes // machine.output_lanes + 1
            lanes = np.concatenate([self._windows(plane) for plane in range(planes)], axis=1)
            # (pixels, channels, taps): only the blocks that are asked for
            first = i["first_block"] * self.lanes
            lanes = lanes[:, first : first + i["input_blocks"] * self.lanes]
            if i["fold"]:  # what would be pixels comes behind the taps
                lanes = lanes.transpose(1, 2, 0).reshape(1, lanes.shape[1], -1)
                taps, self.rows, self.columns, self.pixels = taps * self.pixels, 1, 1, 1
            # in the order of passes: block, tap, lane
            shared = (
                lanes.reshape(self.pixels, i["input_blocks"], self.lanes, taps)
                .transpose(0, 1, 3, 2)
                .reshape(self.pixels, -1)
                .astype(np.float64)
            )
        passes = taps * i["input_blocks"]
        tiles = 1 if i["hold_weights"] else passes
        if self.mode is Mode.THIN:
            window = self._windows(0)[:, : self.channels]
            shared = self._in_slots(window).transpose(0, 2, 1).reshape(self.pixels, -1).astype(np.float64)
            products = passes * self.lanes
            shared = np.pad(shared, ((0, 0), (0, products)))[:, :products]
        for block in range(i["output_blocks"]):
            parameters, weights = self.simulator.take_block(tiles)
            bias = parameters[:, :4].copy().view("<i4").ravel().astype(np.int64)
            shift = parameters[:, 4].view(np.int8).astype(np.int64)
            if i["pairs"]:
                weights = unpair_tiles(weights, machine)
            if i["hold_weights"]:
                weights = np.broadcast_to(weights, (passes, *weights.shape[1:]))
            start = self.simulator.partial_sums.pop(0) if i["continues"] else bias
            if shared is not None:
                sums = self._dense(shared, weights, start)
            else:
                sums = self._channelwise(block, weights, start)
            self.simulator.require(sums.min() >= -_INT32 and sums.max() < _INT32, "a sum passes 32 bits")
            if i["partial"]:
                self.simulator.partial_sums.append(sums)
            else:
                self._write(block, self._post(block, sums, shift))

    def _windows(self, plane: int) -> NDArray[np.int64]:
        """(pixels, output lanes, taps) inputs of one plane, zero or -256 outside the image."""
        i = self.i
        r, c = np.arange(self.rows)[:, None, None, None], np.arange(self.columns)[:, None, None]
        ky, kx = np.arange(i["kernel_rows"])[:, None], np.arange(i["kernel_columns"])
        row = i["origin_row"] + r * i["stride_rows"] + ky * i["dilation_rows"]
        column = i["origin_column"] + c * i["stride_columns"] + kx * i["dilation_columns"]
        inside = (row >= 0) & (row < i["image_rows"]) & (column >= 0) & (column < i["image_columns"])
        address = (
            i["source_address"]
            + plane * i["source_plane_step"]
            + r * i["source_row_step"]
            + ky * i["source_tap_row_step"]
            + c * i["stride_columns"]
            + kx * i["dilation_columns"]
        ) % ADDRESSES
        inside, address = np.broadcast_arrays(inside, address)
        words = self.simulator.scratch_read(address[inside])
        values = np.full(
            (*inside.shape, self.machine.output_lanes), -256 if self.mode is Mode.MAXIMUM else 0, np.int64
        )
        values[inside] = words.view(np.int8) if i["input_signed"] else words
        taps = i["kernel_rows"] * i["kernel_columns"]
        return values.reshape(self.pixels, taps, self.machine.output_lanes).transpose(0, 2, 1)

    def _dense(
        self, inputs: NDArray[np.float64], weights: NDArray[np.int8], start: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Sums (pixels, lanes) that start from (lanes,) or (pixels, lanes).

         float64 is exact: |sum| < 2^16 * passes * lanes < 2^53."""
        lanes = self.machine.output_lanes
        matrix = weights.transpose(0, 2, 1).reshape(-1, lanes).astype(np.float64)
        if inputs.shape[1] * 255 * 128 + int(np.abs(start).max()) >= _INT32:
            self._check_partial_sums(inputs, matrix, np.broadcast_to(start, (self.pixels, lanes)))
        return (inputs @ matrix).astype(np.int64) + start

    def _check_partial_sums(
        self, inputs: NDArray[np.float64], matrix: NDArray[np.float64], start: NDArray[np.int64]
    ) -> None:
        bound = np.abs(inputs) @ np.abs(matrix) + np.abs(start)
        for pixel in np.flatnonzero((bound >= _INT32).any(axis=1)):
            products = inputs[pixel][:, None] * matrix
            by_pass = products.reshape(-1, self.lanes, matrix.shape[1]).sum(axis=1)
            partial = np.cumsum(by_pass, axis=0) + start[pixel]
            self.simulator.require(
                partial.min() >= -_INT32 and partial.max() < _INT32, "a partial sum passes 32 bits"
            )

    def _in_slots(self, window: NDArray[np.int64]) -> NDArray[np.int64]:
        """(pixels, lanes, taps) with zeros where a slot is outside the kernel: (pixels, lanes, slots)."""
        rows, columns = self.i["kernel_rows"], self.i["kernel_columns"]
        pixels, lanes, _ = window.shape
        slots = np.zeros((pixels, lanes, rows, self.i["slot_columns"]), np.int64)
        slots[..., :columns] = window.reshape(pixels, lanes, rows, columns)
        return slots.reshape(pixels, lanes, -1)[..., : self.slots]

    def _channelwise(
        self, block: int, weights: NDArray[np.int8], start: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        window = self._windows(block)
        if self.mode is Mode.MAXIMUM:
            self.simulator.require(
                bool((weights[:, :, 0] == 1).all()) and not weights[:, :, 1:].any() and not start.any(),
                "maximum with weights other than 1 or biases",
            )
            return window.max(axis=2)
        # (lanes, slots), in the order of passes and input lanes
        by_slot = weights.transpose(1, 0, 2).reshape(self.machine.output_lanes, -1)[:, : self.slots]
        return (self._in_slots(window) * by_slot.astype(np.int64)).sum(axis=2) + start

    def _post(self, block: int, sums: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
        i = self.i
        if i["average"]:
            left, right = max(i["divisor_shift"], 0), max(-i["divisor_shift"], 0)
            self.simulator.require(int(np.abs(sums).max()) << left < _INT32, "a dividend passes 32 bits")
            values = round_half_even_divide(sums << left, i["divisor"] << right)
        else:
            self.simulator.require(shift.min() >= -9 and shift.max() <= 40, "a shift is not -9 to 40")
            values = round_half_even_shift(sums, shift)
        values = np.clip(values, i["low"], i["high"])
        if i["residual"]:
            words = self.simulator.scratch_read(
                (self._destination(block) + i["residual_offset"]) % ADDRESSES, late=True
            )
            other = (words.view(np.int8) if i["residual_signed"] else words).astype(np.int64)
            total = (values << i["own_shift"]) + (other << i["residual_shift"])
            values = np.clip(round_half_even_shift(total, i["sum_shift"]), i["sum_low"], i["sum_high"])
        return values

    def _destination(self, block: int) -> NDArray[np.int64]:
        i = self.i
        address = (
            i["destination_address"]
            + block * i["destination_plane_step"]
            + np.arange(self.rows)[:, None] * i["destination_row_step"]
            + np.arange(self.columns)
        )
        return address.ravel() % ADDRESSES

    def _write(self, block: int, values: NDArray[np.int64]) -> None:
        self.simulator.scratch_write(self._destination(block), (values & 255).astype(np.uint8))
