"""The pass loops of a COMPUTE instruction: output block, input block, kernel row, kernel column.

They prepare the next pass while the pixel loops issue the words of the present one.  Preparing takes
`PASS_CYCLES`, which is also the shortest time from one pass to the next that the accumulators allow.  Where
input lanes are taps, `hw.slots` goes through the kernel instead, which takes `taps_pass_cycles`.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.accumulators import LOOP_LATENCY
from hw.copies import copies
from hw.isa import Mode, Opcode, layout_of
from hw.issue import pass_layout
from hw.machine import Machine
from hw.slots import THIN_CHANNELS, Slots, slots_layout

__all__ = ["PASS_CYCLES", "PassLoops", "taps_pass_cycles"]

#: Least cycles from the first word of a pass to the first word of the next.
PASS_CYCLES = 5
assert PASS_CYCLES >= LOOP_LATENCY


def taps_pass_cycles(machine: Machine) -> int:
    """Least cycles from the first word of a pass to that of the next where input lanes are taps."""
    return PASS_CYCLES + machine.input_lanes


def _reads_taps(mode: Any) -> Value:
    """`Mode.reads_taps` in hardware."""
    return (mode == Mode.DEPTHWISE) | (mode == Mode.THIN)


def _shares_inputs(mode: Any) -> Value:
    """Whether all output lanes see the same inputs."""
    return (mode == Mode.DENSE) | (mode == Mode.THIN)


class PassLoops(wiring.Component):
    """Prepares one pass after another.

    Parameters
    ----------
    machine : Machine

    Members
    -------
    code : ``In(layout_of(Opcode.COMPUTE))``
        The instruction; constant from ``enter`` until ``end``.
    enter : ``In(1)``
        Go to its first pass; any number of cycles.
    begin : ``In(1)``
        Strobe, with ``enter``: prepare it.
    results_free, tile_available, parameters_available : ``In(1)``
        What a pass may have to wait for; it stays until the pass starts.
    prepared : ``Out(pass_layout(machine))``, slots, phase : ``Out``
        The next pass, and those of `hw.slots.Slots` for it.
    may_start : ``Out(1)``
        Strobe: it is prepared and has what it waits for.
    take : ``In(1)``
        Strobe, after that: it starts, and the one after it is prepared.
    preparing : ``Out(1)``
        It has not started and waits for weights, results or its preparation.
    end : ``Out(1)``
        Strobe: that was the last pass.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "code": In(layout_of(Opcode.COMPUTE)),
            "enter": In(1),
            "begin": In(1),
            "results_free": In(1),
            "tile_available": In(1),
            "parameters_available": In(1),
            "prepared": Out(pass_layout(machine)),
            "slots": Out(slots_layout(machine)),
            "phase": Out(range(THIN_CHANNELS)),
            "may_start": Out(1),
            "take": In(1),
            "preparing": Out(1),
            "end": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        code = self.code
        prepared = Signal(pass_layout(self.machine), reset_less=True)
        taps, next_taps = Signal(reset_less=True), Signal()  # input lanes are taps
        m.submodules.slots = slots = Slots(self.machine)
        m.d.comb += [
            slots.instruction.eq(code),
            self.prepared.eq(prepared),
            self.slots.eq(slots.slots),
            self.phase.eq(slots.phase),
        ]
        m.d.comb += next_taps.eq(_reads_taps(code.mode))
        m.d.sync += taps.eq(next_taps)

        # what the step after this pass is: the innermost loop that is not at its end
        steps_column = Signal(reset_less=True)
        steps_row = Signal(reset_less=True)
        steps_input = Signal(reset_less=True)
        steps_output = Signal(reset_less=True)
        steps_half = Signal(reset_less=True)    # with steps_input: the other half of the same words
        steps_plane = Signal(reset_less=True)   # with steps_input: another plane
        # One flip-flop for each step of preparing a pass: go on to the one after that which was
        # taken; if it enters another plane, its address; is it the first, the last; its weights.
        # what the first of them steers lies far apart, and has its copies
        advance, advances_column, advances_row, advances_address, advances_plane, advances_counts = copies(
            m, self.take, 6, "advance", init=0)
        place, next_place = Signal(), Signal()
        mark = Signal()
        ready = Signal()
        weights_ready = Signal()
        m.d.comb += [
            self.preparing.eq(advance | place | mark | slots.filling | ready),
            next_place.eq(self.begin | (advance & ~self.end)),
            slots.first.eq(prepared.first),
            weights_ready.eq((~prepared.needs_tile | code.fold | self.tile_available)
                             & (~prepared.first | self.parameters_available)),
            # what has arrived stays until it is claimed, so this may be a cycle old; so do free results
            self.may_start.eq(ready & weights_ready & self.results_free),
            self.end.eq(advance & steps_output & prepared.last_block),
        ]
        m.d.sync += [
            place.eq(next_place),
            slots.fill.eq(next_place & next_taps),
            slots.clear.eq(next_place & ~next_taps),
            mark.eq(place),
            ready.eq(Mux(taps, slots.done, mark) | (ready & ~self.may_start)),
        ]

        # loop counters count down to one
        kernel_columns_left = Signal(8, reset_less=True)
        kernel_rows_left = Signal(8, reset_less=True)
        input_blocks_left = Signal(12, reset_less=True)
        output_blocks_left = Signal(12, reset_less=True)
        last_kernel_column = Signal(reset_less=True)
        last_kernel_row = Signal(reset_less=True)
        last_input_block = Signal(reset_less=True)

        plane = Signal(16, reset_less=True)     # address of the window's corner in this plane
        tap_row = Signal(16, reset_less=True)   # address where the next kernel row starts
        enters_plane = Signal(reset_less=True)
        half = prepared.half
        last_half: Value = Const(self.machine.blocks_per_word - 1, len(half))
        if self.machine.weight_pairs:  # blocks are of twice as many channels then
            last_half = Mux(code.pairs, self.machine.blocks_per_word // 2 - 1, last_half)

        with m.If(advances_column):
            m.d.sync += prepared.column.eq(Mux(steps_column, prepared.column + code.dilation_columns,
                                               code.origin_column))
        with m.If(advances_row & ~steps_column):
            # any other step changes the row, which is known without asking which of them it is
            m.d.sync += prepared.row.eq(Mux(steps_row, prepared.row + code.dilation_rows, code.origin_row))
        with m.If(advances_address):
            with m.If(steps_column):
                m.d.sync += prepared.address.eq(prepared.address + code.dilation_columns)
            with m.If(steps_row):
                m.d.sync += [prepared.address.eq(tap_row), tap_row.eq(tap_row + code.source_tap_row_step)]
        with m.If(advances_plane):
            m.d.sync += enters_plane.eq(steps_input | steps_output)
            with m.If(steps_half):
                m.d.sync += half.eq(half + 1)
            with m.If(steps_plane):
                m.d.sync += [half.eq(0), plane.eq(plane + code.source_plane_step)]
            with m.If(steps_output):
                m.d.sync += [
                    half.eq(code.first_block),
                    plane.eq(Mux(_shares_inputs(code.mode), code.source_address,
                                 plane + code.source_plane_step)),
                ]
        with m.If(advances_counts):
            m.d.sync += [prepared.first.eq(steps_output), kernel_columns_left.eq(code.kernel_columns)]
            with m.If(steps_column):
                m.d.sync += kernel_columns_left.eq(kernel_columns_left - 1)
            with m.Else():
                m.d.sync += kernel_rows_left.eq(code.kernel_rows)
            with m.If(steps_row):
                m.d.sync += kernel_rows_left.eq(kernel_rows_left - 1)
            with m.If(steps_input):
                m.d.sync += input_blocks_left.eq(input_blocks_left - 1)
            with m.If(steps_output):
                m.d.sync += [
                    prepared.first_block.eq(0),
                    input_blocks_left.eq(code.input_blocks),
                    output_blocks_left.eq(output_blocks_left - 1),
                ]
        with m.If(place):
            with m.If(enters_plane):
                m.d.sync += [prepared.address.eq(plane), tap_row.eq(plane + code.source_tap_row_step)]
            m.d.sync += [
                last_kernel_column.eq(taps | (kernel_columns_left == 1)),
                last_kernel_row.eq(taps | (kernel_rows_left == 1)),
                last_input_block.eq(input_blocks_left == 1),
                prepared.last_block.eq(output_blocks_left == 1),
            ]
        with m.If(mark):
            m.d.sync += [
                prepared.last.eq(last_kernel_column & last_kernel_row & last_input_block),
                prepared.needs_tile.eq(prepared.first | ~code.hold_weights),
                steps_column.eq(~last_kernel_column),
                steps_row.eq(last_kernel_column & ~last_kernel_row),
                steps_input.eq(last_kernel_column & last_kernel_row & ~last_input_block),
                steps_output.eq(last_kernel_column & last_kernel_row & last_input_block),
                # where input lanes are taps: the same words, other taps
                steps_half.eq(last_kernel_column & last_kernel_row & ~last_input_block
                              & ~taps & (half != last_half)),
                steps_plane.eq(last_kernel_column & last_kernel_row & ~last_input_block
                               & ~taps & (half == last_half)),
            ]

        with m.If(self.enter):
            m.d.sync += [
                kernel_columns_left.eq(code.kernel_columns),
                kernel_rows_left.eq(code.kernel_rows),
                input_blocks_left.eq(code.input_blocks),
                output_blocks_left.eq(code.output_blocks),
                plane.eq(code.source_address),
                enters_plane.eq(1),
                prepared.row.eq(code.origin_row),
                prepared.column.eq(code.origin_column),
                half.eq(code.first_block),
                prepared.first.eq(1),
                prepared.first_block.eq(1),
            ]
        return m
