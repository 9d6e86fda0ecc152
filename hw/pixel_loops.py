"""The pixel loops of a COMPUTE instruction: row and column; they issue the words of a pass."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.copies import copies
from hw.isa import Mode, Opcode, layout_of
from hw.issue import POSITION_BITS, issue_layout, pass_layout
from hw.machine import Machine
from hw.slots import THIN_CHANNELS, slots_layout

__all__ = ["AVERAGE_CADENCE", "RESIDUAL_CADENCE", "PixelLoops"]

#: Cycles a word takes in the last pass, when there is a residual and when averaging.
RESIDUAL_CADENCE = 2
AVERAGE_CADENCE = 16

#: What the pixel loops need of the instruction whose words they issue.
_PixelSettings = data.StructLayout({
    "row_step": unsigned(16), "stride_rows": unsigned(8), "stride_columns": unsigned(8),
    "output_columns": unsigned(16), "one_column": 1, "two_columns": 1, "residual": 1, "fold": 1,
    "layer": unsigned(16),
})


class PixelLoops(wiring.Component):
    """Issues the words of one pass after another.

    Parameters
    ----------
    machine : Machine

    Members
    -------
    code, prepared, slots, phase : ``In``
        What `hw.pass_loops.PassLoops` gives; ``code`` and ``slots`` stay for a cycle after the pass has
        started.
    next_startable : ``In(1)``
        In the next cycle, ``prepared`` is a pass that can start.
    tile_available : ``In(1)``
        There is a weight tile for the next word, where each has one of its own.
    free : ``Out(1)``
        A pass can start.
    take : ``Out(1)``
        Strobe: and does.
    issue_valid, issue : ``Out``
        A word to be read, in every cycle in which ``issue_valid`` is 1.
    present : ``Out(slots_layout(machine))``
        The slots of the pass of the word that was issued in the cycle before.
    folds, waits_to_fold : ``Out(1)``
        A word with a tile of its own is issued, or waits for it.
    active, layer : ``Out``
        A pass is under way, and whose it is.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "code": In(layout_of(Opcode.COMPUTE)),
            "prepared": In(pass_layout(machine)),
            "slots": In(slots_layout(machine)),
            "phase": In(range(THIN_CHANNELS)),
            "next_startable": In(1),
            "tile_available": In(1),
            "free": Out(1),
            "take": Out(1),
            "issue_valid": Out(1),
            "issue": Out(issue_layout(machine)),
            "present": Out(slots_layout(machine)),
            "folds": Out(1),
            "waits_to_fold": Out(1),
            "active": Out(1),
            "layer": Out(16),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        code, prepared = self.code, self.prepared
        count_bits = bits_for(self.machine.accumulator_depth)
        active, next_active = Signal(), Signal()
        turn, next_turn = Signal(), Signal()  # a word of a slow pass may be issued
        slow, next_slow = Signal(reset_less=True), Signal()
        go, next_go = Signal(), Signal()      # a word may be issued, if it needs no tile of its own
        word = Signal(issue_layout(self.machine), reset_less=True)
        next_row = Signal(16, reset_less=True)      # address of the next row of pixels
        first_column = Signal(signed(POSITION_BITS), reset_less=True)
        last_pass = Signal(reset_less=True)
        last_block = Signal(reset_less=True)
        settings = Signal(_PixelSettings, reset_less=True)
        present = Signal(slots_layout(self.machine), reset_less=True)
        first_pixel = Signal.like(word.pixel, reset_less=True)   # of the present block, in the accumulators
        next_pixel = Signal.like(word.pixel)
        columns_left = Signal(count_bits, reset_less=True)
        rows_left = Signal(count_bits, reset_less=True)
        one_column, two_columns = Signal(reset_less=True), Signal(reset_less=True)
        one_row, two_rows = Signal(reset_less=True), Signal(reset_less=True)
        one_word = Signal(reset_less=True)
        # two are left: known before, because the next pass's start hangs on the last
        two_columns_left, two_rows_left = Signal(reset_less=True), Signal(reset_less=True)
        last_column, next_last_column = Signal(reset_less=True), Signal()
        last_row, next_last_row = Signal(reset_less=True), Signal()
        m.d.sync += [
            one_column.eq(code.output_columns == 1), two_columns.eq(code.output_columns == 2),
            one_row.eq(code.output_rows == 1), two_rows.eq(code.output_rows == 2),
            one_word.eq((code.output_columns == 1) & (code.output_rows == 1)),
        ]

        issue = Signal()
        pass_end, next_pass_end = Signal(), Signal()  # both are last
        has_tile = Signal()
        # as `take`, each for a part of what it steers
        takes = [Signal(name=f"takes_{part}")
                 for part in ("settings", "address", "row", "column", "flags", "counts", "end")]
        takes_settings, takes_address, takes_row, takes_column, takes_flags, takes_counts, takes_end = takes
        # A pass starts where none is under way, or its last word is issued: what that hangs on is known a
        # cycle before, and where it is wanted.
        starts = copies(m, Cat(self.next_startable, next_active, next_go, next_pass_end), 1 + len(takes),
                        "starts", init=0)
        m.d.comb += [
            has_tile.eq(~settings.fold | self.tile_available),
            issue.eq(active & go & has_tile),
            self.folds.eq(issue & settings.fold),
            self.waits_to_fold.eq(active & settings.fold & ~self.tile_available),
            self.free.eq(~active | (issue & pass_end)),
            *(taken.eq(startable & (~busy | (goes & ends & has_tile)))
              for taken, (startable, busy, goes, ends) in zip((self.take, *takes), starts, strict=True)),
            next_active.eq(self.take | (active & ~(issue & pass_end))),
            next_go.eq(~next_slow | next_turn),
            next_slow.eq(slow),
            # as the next two of last_column and last_row, at once
            next_pass_end.eq(Mux(takes_end, one_word, Mux(issue, Mux(
                last_column, settings.one_column & two_rows_left, two_columns_left & last_row), pass_end))),
            # partial sums of an output block lie behind those of the block before
            next_pixel.eq(first_pixel),
            self.issue_valid.eq(issue),
            self.layer.eq(settings.layer),
            self.active.eq(active),
            self.issue.eq(word),
            self.present.eq(present),
            self.issue.flags.last.eq(word.flags.last & (pass_end | ~settings.fold)),
            self.issue.flags.row_end.eq(last_column),
            self.issue.flags.block_end.eq(pass_end & last_pass),
            self.issue.flags.end.eq(pass_end & last_pass & last_block),
        ]

        m.d.comb += [next_last_column.eq(last_column), next_last_row.eq(last_row)]
        m.d.sync += [
            last_column.eq(next_last_column),
            last_row.eq(next_last_row),
            pass_end.eq(next_pass_end),
            active.eq(next_active),
            slow.eq(next_slow),
            turn.eq(next_turn),
            go.eq(next_go),
        ]
        lanes = self.machine.input_lanes
        for slot, takes_slot in enumerate(copies(m, self.take, lanes, "takes_slot")):
            with m.If(takes_slot):
                m.d.sync += present[slot].eq(self.slots[slot])
        with m.If(prepared.first):
            m.d.comb += next_pixel.eq(0)
            with m.If(~prepared.first_block & (code.partial | code.continues)):
                m.d.comb += next_pixel.eq(word.pixel + active)
        with m.If(takes_settings):
            m.d.comb += next_slow.eq(prepared.last & (code.residual | code.average))
            m.d.sync += [
                last_pass.eq(prepared.last),
                last_block.eq(prepared.last_block),
                word.half.eq(prepared.half),
                word.phase.eq(self.phase),
                *(word[name].eq(code[name]) for name in ("mode", "thin_channels", "input_signed",
                                                         "image_rows", "image_columns")),
                *([word.pairs.eq(code.pairs)] if self.machine.weight_pairs else []),
                settings.row_step.eq(code.source_row_step),
                settings.one_column.eq(one_column),
                settings.two_columns.eq(two_columns),
                *(settings[name].eq(code[name]) for name in ("stride_rows", "stride_columns", "residual",
                                                             "output_columns", "fold", "layer")),
            ]
        with m.If(takes_address):
            m.d.sync += [
                word.address.eq(prepared.address),
                next_row.eq(prepared.address + code.source_row_step),
            ]
        with m.Elif(issue):
            m.d.sync += word.address.eq(word.address + settings.stride_columns)
            with m.If(last_column):
                m.d.sync += [word.address.eq(next_row), next_row.eq(next_row + settings.row_step)]
        with m.If(takes_row):
            m.d.sync += word.row.eq(prepared.row)
        with m.Elif(issue & last_column):
            m.d.sync += word.row.eq(word.row + settings.stride_rows)
        with m.If(takes_column):
            m.d.sync += [word.column.eq(prepared.column), first_column.eq(prepared.column)]
        with m.Elif(issue):
            m.d.sync += word.column.eq(word.column + settings.stride_columns)
            with m.If(last_column):
                m.d.sync += word.column.eq(first_column)
        with m.If(takes_flags):
            m.d.sync += [
                first_pixel.eq(next_pixel),
                word.pixel.eq(next_pixel),
                word.flags.first.eq(prepared.first & ~code.continues),
                word.flags.last.eq(prepared.last & ~code.partial),
                word.flags.chain.eq(code.fold & ~prepared.first),
                word.flags.new_tile.eq(prepared.needs_tile),
                word.flags.new_block.eq(prepared.first),
                word.flags.maximum.eq(code.mode == Mode.MAXIMUM),
            ]
        with m.Elif(issue):
            m.d.sync += [
                word.flags.new_tile.eq(settings.fold),
                word.flags.new_block.eq(0),
                word.pixel.eq(word.pixel + ~settings.fold),
            ]
            with m.If(settings.fold):
                m.d.sync += [word.flags.first.eq(0), word.flags.chain.eq(1)]
        with m.If(takes_counts):
            m.d.sync += [
                columns_left.eq(code.output_columns), two_columns_left.eq(two_columns),
                rows_left.eq(code.output_rows), two_rows_left.eq(two_rows),
            ]
            m.d.comb += [next_last_column.eq(one_column), next_last_row.eq(one_row)]
        with m.Elif(issue):
            with m.If(last_column):
                m.d.sync += [
                    columns_left.eq(settings.output_columns), two_columns_left.eq(settings.two_columns),
                    rows_left.eq(rows_left - 1), two_rows_left.eq(rows_left == 3),
                ]
                m.d.comb += [next_last_column.eq(settings.one_column), next_last_row.eq(two_rows_left)]
            with m.Else():
                m.d.sync += [columns_left.eq(columns_left - 1), two_columns_left.eq(columns_left == 3)]
                m.d.comb += next_last_column.eq(two_columns_left)

        # A residual takes its turns at every second cycle of a clock that runs through the whole
        # instruction, so that its reads and writes never meet at the scratchpad's port.
        rest = Signal(range(AVERAGE_CADENCE))
        with m.If(settings.residual):
            m.d.comb += next_turn.eq(~turn)
            m.d.sync += rest.eq(0)
        with m.Elif(issue & slow):
            m.d.comb += next_turn.eq(0)
            m.d.sync += rest.eq(AVERAGE_CADENCE - 1)
        with m.Elif(rest > 1):
            m.d.comb += next_turn.eq(turn)
            m.d.sync += rest.eq(rest - 1)
        with m.Else():
            m.d.comb += next_turn.eq(1)
            m.d.sync += rest.eq(0)
        return m
