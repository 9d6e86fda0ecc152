"""The loops of a COMPUTE instruction: which word of which pass is read when.

Nothing behind the sequencer can stall, so it alone decides: an instruction waits here for its
tokens, a pass for its weights, a word for its turn.  All addresses come from repeated addition.

Instructions overlap.  The passes of the next one are prepared, and its words issued, while results of the
one before are on their way; its first results wait until the last of those have been written, because
post-processing has one set of settings.  So two instructions at most have begun and not ended.

Two parts run side by side.  The *pass* loops (output block, input block, kernel row, kernel column)
prepare the next pass while the *pixel* loops (row, column) issue the words of the present one.
Preparing takes `PASS_CYCLES`, which is also the shortest time from one pass to the next that the
accumulators allow.  Where input lanes are taps, `hw.slots` goes through the kernel instead, which takes
`taps_pass_cycles`.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from hw.accumulators import LOOP_LATENCY
from hw.copies import copies
from hw.isa import Mode, Opcode, layout_of
from hw.machine import Machine
from hw.slots import THIN_CHANNELS, Slots, slots_layout
from hw.tokens import TokenPort

__all__ = ["AVERAGE_CADENCE", "PASS_CYCLES", "POSITION_BITS", "RESIDUAL_CADENCE", "Sequencer", "WordFlags",
           "issue_layout", "taps_pass_cycles"]

#: Least cycles from the first word of a pass to the first word of the next.
PASS_CYCLES = 5
assert PASS_CYCLES >= LOOP_LATENCY


def taps_pass_cycles(machine: Machine) -> int:
    """Least cycles from the first word of a pass to that of the next where input lanes are taps."""
    return PASS_CYCLES + machine.input_lanes


#: Cycles a word takes in the last pass, when there is a residual and when averaging.
RESIDUAL_CADENCE = 2
AVERAGE_CADENCE = 16

#: Bits of a row or column number: 4,096 pixels with the largest stride, the farthest tap and origin.
POSITION_BITS = 22


#: What stays with a word on its way through the pipeline.
#:
#: ``new_tile``: first word that meets a new tile; ``new_block``: first word of an output block;
#: ``first``, ``last``: with it the sum begins, is complete; ``chain``: it is added to the word before;
#: ``maximum``: of mode MAXIMUM; and at the end of a row, of a block, of the instruction.
WordFlags = data.StructLayout({
    "new_tile": 1, "new_block": 1, "first": 1, "last": 1, "chain": 1, "maximum": 1, "row_end": 1,
    "block_end": 1, "end": 1,
})


def issue_layout(machine: Machine) -> data.StructLayout:
    """What the sequencer says about one word: the one at the window's corner where input lanes are taps."""
    return data.StructLayout({
        "address": unsigned(16),
        "pixel": unsigned(ceil_log2(machine.accumulator_depth)),
        "row": signed(POSITION_BITS),
        "column": signed(POSITION_BITS),
        "half": unsigned(ceil_log2(machine.blocks_per_word)),
        "phase": range(THIN_CHANNELS),
        "mode": Mode,
        "thin_channels": unsigned(3),
        "input_signed": 1,
        **({"pairs": 1} if machine.weight_pairs else {}),
        "image_rows": unsigned(16),
        "image_columns": unsigned(16),
        "flags": WordFlags,
    })


def _pass_layout(machine: Machine) -> data.StructLayout:
    """Where a pass starts, and which it is."""
    return data.StructLayout({
        "address": unsigned(16),
        "row": signed(POSITION_BITS),
        "column": signed(POSITION_BITS),
        "half": unsigned(ceil_log2(machine.blocks_per_word)),
        "first": 1,
        "last": 1,
        "first_block": 1,
        "last_block": 1,
        "needs_tile": 1,
    })


#: What the pixel loops need of the instruction whose words they issue.
_PixelSettings = data.StructLayout({
    "row_step": unsigned(16), "stride_rows": unsigned(8), "stride_columns": unsigned(8),
    "output_columns": unsigned(16), "one_column": 1, "residual": 1, "fold": 1, "layer": unsigned(16),
})


def _reads_taps(mode: Any) -> Value:
    """`Mode.reads_taps` in hardware."""
    return (mode == Mode.DEPTHWISE) | (mode == Mode.THIN)


def _shares_inputs(mode: Any) -> Value:
    """Whether all output lanes see the same inputs."""
    return (mode == Mode.DENSE) | (mode == Mode.THIN)


#: Waiting for an instruction, for its tokens, preparing its passes: one bit for each, because they steer
#: hundreds of flip-flops.
_STATE = data.StructLayout({"idle": 1, "waits": 1, "passes": 1})


class Sequencer(wiring.Component):
    """Takes COMPUTE instructions one after another and issues their words.

    Members
    -------
    instructions : ``In(stream)``
    tokens : ``Out(TokenPort)``
    writing : ``Out``
        The instruction whose results are written, from before its first to its last.
    start : ``Out(1)``
        Strobe: ``writing`` is new, its first result comes later.
    tile_available, claim_tile, parameters_available, claim_parameters
        See `hw.weight_loader.WeightLoader`.
    issue_valid, issue : ``Out``
        A word to be read, in every cycle in which ``issue_valid`` is 1.
    slots : ``Out(slots_layout(machine))``
        Which words from there on; other modes use slot 0 alone, the word itself.
    finished : ``In(1)``
        Strobe: the word with the flag ``end`` is being written, or has been added if none is written.
    idle : ``Out(1)``
        No instruction has begun and not ended.
    token_wait, weight_wait : ``Out(1)``
        In this cycle, work waits for tokens, for weights.
    layer, layer_valid : ``Out``
        Whose word is issued or, if none is, for whose first one the loops wait.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "instructions": In(stream.Signature(layout_of(Opcode.COMPUTE))),
            "tokens": Out(TokenPort),
            "writing": Out(layout_of(Opcode.COMPUTE)),
            "start": Out(1),
            "tile_available": In(1),
            "claim_tile": Out(1),
            "parameters_available": In(1),
            "claim_parameters": Out(1),
            "issue_valid": Out(1),
            "issue": Out(issue_layout(machine)),
            "slots": Out(slots_layout(machine)),
            "finished": In(1),
            "idle": Out(1),
            "token_wait": Out(1),
            "weight_wait": Out(1),
            "layer": Out(16),
            "layer_valid": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        state = Signal(_STATE, init={"idle": 1})
        code = Signal(layout_of(Opcode.COMPUTE), reset_less=True)  # whose passes are prepared
        begin = Signal()       # the tokens are there
        end = Signal()         # its last pass has been taken
        prepared = Signal(_pass_layout(self.machine), reset_less=True)
        preparing = Signal()   # the next pass is not prepared yet
        may_start = Signal()   # a pass is prepared and its weights are there
        startable, next_startable = Signal(), Signal()  # from the next cycle on
        free = Signal()        # the pixel loops can start a pass
        take = Signal()        # and do
        taps = Signal(reset_less=True)  # input lanes are taps
        m.submodules.slots = slots = Slots(self.machine)
        m.d.comb += slots.instruction.eq(code)
        m.d.sync += taps.eq(_reads_taps(code.mode))
        results_free = Signal()
        folds, waits_to_fold = Signal(), Signal()  # a word with a tile of its own is issued, or waits for it
        self._instruction(m, state, code, begin, end)
        self._results(m, state, code, prepared, take, results_free)
        m.d.comb += next_startable.eq(may_start | (startable & ~take))
        m.d.sync += startable.eq(next_startable)
        self._passes(m, state, code, begin, end, prepared, preparing, may_start, take, taps, slots,
                     results_free, folds)
        self._pixels(m, state, code, prepared, next_startable, free, take, slots, folds, waits_to_fold)
        # a pass that could start if it had its weights; counted from its preparation on, because
        # they could have been there then
        m.d.comb += self.weight_wait.eq(
            free & ~startable & preparing
            & (~self.tile_available & (prepared.first | ~code.hold_weights) & ~code.fold
               | ~self.parameters_available & prepared.first)
            | waits_to_fold)
        return m

    def _instruction(self, m: Module, state: data.View, code: data.View, begin: Signal, end: Signal) -> None:
        granted = Signal()
        m.d.comb += [
            self.tokens.wait.eq(code["wait"]),
            granted.eq((code["wait"] == 0) | self.tokens.wait_ready),
        ]
        with m.If(state.idle):
            m.d.comb += self.instructions.ready.eq(1)
            m.d.sync += code.eq(self.instructions.payload)
            if not self.machine.weight_decoder:
                m.d.sync += code.fold.eq(0)  # whatever it steers is not built
            with m.If(self.instructions.valid):
                m.d.sync += [state.idle.eq(0), state.waits.eq(1)]
        with m.If(state.waits):
            m.d.comb += [
                self.tokens.wait_valid.eq(1),
                begin.eq(granted),
                self.token_wait.eq(~granted),
            ]
            with m.If(granted):
                m.d.sync += [state.waits.eq(0), state.passes.eq(1)]
        with m.If(state.passes & end):
            m.d.sync += [state.passes.eq(0), state.idle.eq(1)]

    def _results(self, m: Module, state: data.View, code: data.View, prepared: data.View, take: Signal,
                 free: Signal) -> None:
        """Post-processing belongs to an instruction from its first block's last pass to its last write."""
        writing = Signal(layout_of(Opcode.COMPUTE), reset_less=True)
        busy = Signal()
        enter = Signal()     # a cycle after that pass has started; `code` stays for one more
        signal_tokens = Signal()
        m.d.comb += [
            free.eq(~busy | ~(prepared.last & prepared.first_block)),
            self.writing.eq(writing),
            self.tokens.signal.eq(writing["signal"]),
            self.tokens.signal_valid.eq(signal_tokens),
            self.idle.eq(state.idle & ~busy & ~signal_tokens),
        ]
        starts = take & prepared.last & prepared.first_block
        m.d.sync += [
            enter.eq(starts),
            self.start.eq(enter),
            busy.eq(starts | (busy & ~self.finished)),
            signal_tokens.eq(self.finished),
        ]
        with m.If(enter):
            m.d.sync += writing.eq(code)

    def _passes(self, m: Module, state: data.View, code: data.View, begin: Signal, end: Signal,
                prepared: data.View, preparing: Signal, may_start: Signal, take: Signal, taps: Signal,
                slots: Slots, results_free: Signal, folds: Signal) -> None:
        # what the step after this pass is: the innermost loop that is not at its end
        steps_column = Signal(reset_less=True)
        steps_row = Signal(reset_less=True)
        steps_input = Signal(reset_less=True)
        steps_output = Signal(reset_less=True)
        # One flip-flop for each step of preparing a pass: go on to the one after that which was
        # taken; if it enters another plane, its address; is it the first, the last; its weights.
        advance = Signal()
        place = Signal()
        mark = Signal()
        ready = Signal()
        weights_ready = Signal()
        m.d.comb += [
            preparing.eq(advance | place | mark | slots.filling | ready),
            slots.fill.eq(place & taps),
            slots.clear.eq(place & ~taps),
            slots.first.eq(prepared.first),
            weights_ready.eq((~prepared.needs_tile | code.fold | self.tile_available)
                             & (~prepared.first | self.parameters_available)),
            # what has arrived stays until it is claimed, so this may be a cycle old; so do free results
            may_start.eq(ready & weights_ready & results_free),
            end.eq(advance & steps_output & prepared.last_block),
            self.claim_tile.eq(take & prepared.needs_tile & ~code.fold | folds),
            self.claim_parameters.eq(take & prepared.first),
        ]
        m.d.sync += [
            advance.eq(take),
            place.eq(begin | (advance & ~end)),
            mark.eq(place),
            ready.eq(Mux(taps, slots.done, mark) | (ready & ~may_start)),
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

        with m.If(advance):
            m.d.sync += [
                prepared.first.eq(steps_output),
                enters_plane.eq(steps_input | steps_output),
                kernel_columns_left.eq(code.kernel_columns),
                prepared.column.eq(code.origin_column),
            ]
            with m.If(steps_column):
                m.d.sync += [
                    kernel_columns_left.eq(kernel_columns_left - 1),
                    prepared.address.eq(prepared.address + code.dilation_columns),
                    prepared.column.eq(prepared.column + code.dilation_columns),
                ]
            with m.Else():
                m.d.sync += kernel_rows_left.eq(code.kernel_rows)
            with m.If(steps_row):
                m.d.sync += [
                    kernel_rows_left.eq(kernel_rows_left - 1),
                    prepared.address.eq(tap_row),
                    tap_row.eq(tap_row + code.source_tap_row_step),
                    prepared.row.eq(prepared.row + code.dilation_rows),
                ]
            with m.If(steps_input):
                m.d.sync += [
                    prepared.row.eq(code.origin_row),
                    input_blocks_left.eq(input_blocks_left - 1),
                ]
                with m.If(taps):
                    pass  # the same words, other taps
                with m.Elif(half == last_half):
                    m.d.sync += [half.eq(0), plane.eq(plane + code.source_plane_step)]
                with m.Else():
                    m.d.sync += half.eq(half + 1)
            with m.If(steps_output):
                m.d.sync += [
                    prepared.first_block.eq(0),
                    prepared.row.eq(code.origin_row),
                    input_blocks_left.eq(code.input_blocks),
                    output_blocks_left.eq(output_blocks_left - 1),
                    half.eq(code.first_block),
                    plane.eq(Mux(_shares_inputs(code.mode), code.source_address,
                                 plane + code.source_plane_step)),
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
            ]

        with m.If(state.waits):
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

    def _pixels(self, m: Module, state: data.View, code: data.View, prepared: data.View,
                next_startable: Signal, free: Signal, take: Signal, slots: Slots, folds: Signal,
                waits_to_fold: Signal) -> None:
        count_bits = bits_for(self.machine.accumulator_depth)
        active = Signal()
        turn = Signal()           # a word of a slow pass may be issued
        slow = Signal(reset_less=True)
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
        one_column = Signal(reset_less=True)
        one_row = Signal(reset_less=True)
        last_column, next_last_column = Signal(reset_less=True), Signal()
        last_row, next_last_row = Signal(reset_less=True), Signal()
        m.d.sync += [one_column.eq(code.output_columns == 1), one_row.eq(code.output_rows == 1)]

        issue = Signal()
        pass_end = Signal()  # both are last
        takes_word, takes_slots = Signal(), Signal()  # as `take`, each for hundreds of flip-flops
        starts = copies(m, next_startable, 3, "startable", init=0)
        m.d.comb += [
            issue.eq(active & (~slow | turn) & (~settings.fold | self.tile_available)),
            folds.eq(issue & settings.fold),
            waits_to_fold.eq(active & settings.fold & ~self.tile_available),
            free.eq(~active | (issue & pass_end)),
            *(taken.eq(free & start)
              for taken, start in zip((take, takes_word, takes_slots), starts, strict=True)),
            # partial sums of an output block lie behind those of the block before
            next_pixel.eq(first_pixel),
            self.issue_valid.eq(issue),
            self.layer.eq(Mux(active, settings.layer, code.layer)),
            self.layer_valid.eq(active | ~state.idle),
            self.issue.eq(word),
            self.slots.eq(present),
            self.issue.flags.last.eq(word.flags.last & (pass_end | ~settings.fold)),
            self.issue.flags.row_end.eq(last_column),
            self.issue.flags.block_end.eq(pass_end & last_pass),
            self.issue.flags.end.eq(pass_end & last_pass & last_block),
        ]

        m.d.comb += [next_last_column.eq(last_column), next_last_row.eq(last_row)]
        m.d.sync += [
            last_column.eq(next_last_column),
            last_row.eq(next_last_row),
            pass_end.eq(next_last_column & next_last_row),
        ]
        with m.If(takes_slots):
            m.d.sync += present.eq(slots.slots)
        with m.If(prepared.first):
            m.d.comb += next_pixel.eq(0)
            with m.If(~prepared.first_block & (code.partial | code.continues)):
                m.d.comb += next_pixel.eq(word.pixel + active)
        with m.If(takes_word):
            m.d.sync += [
                first_pixel.eq(next_pixel),
                active.eq(1),
                slow.eq(prepared.last & (code.residual | code.average)),
                last_pass.eq(prepared.last),
                last_block.eq(prepared.last_block),
                word.address.eq(prepared.address),
                word.row.eq(prepared.row),
                word.column.eq(prepared.column),
                word.half.eq(prepared.half),
                word.phase.eq(slots.phase),
                word.pixel.eq(next_pixel),
                word.flags.first.eq(prepared.first & ~code.continues),
                word.flags.last.eq(prepared.last & ~code.partial),
                word.flags.chain.eq(code.fold & ~prepared.first),
                word.flags.new_tile.eq(prepared.needs_tile),
                word.flags.new_block.eq(prepared.first),
                word.flags.maximum.eq(code.mode == Mode.MAXIMUM),
                *(word[name].eq(code[name]) for name in ("mode", "thin_channels", "input_signed",
                                                         "image_rows", "image_columns")),
                *([word.pairs.eq(code.pairs)] if self.machine.weight_pairs else []),
                settings.row_step.eq(code.source_row_step),
                settings.one_column.eq(one_column),
                *(settings[name].eq(code[name]) for name in ("stride_rows", "stride_columns", "residual",
                                                             "output_columns", "fold", "layer")),
                first_column.eq(prepared.column),
                next_row.eq(prepared.address + code.source_row_step),
                columns_left.eq(code.output_columns),
                rows_left.eq(code.output_rows),
            ]
            m.d.comb += [next_last_column.eq(one_column), next_last_row.eq(one_row)]
        with m.Elif(issue):
            m.d.sync += [
                active.eq(~pass_end),
                word.flags.new_tile.eq(settings.fold),
                word.flags.new_block.eq(0),
                word.pixel.eq(word.pixel + ~settings.fold),
            ]
            with m.If(settings.fold):
                m.d.sync += [word.flags.first.eq(0), word.flags.chain.eq(1)]
            with m.If(last_column):
                m.d.sync += [
                    word.address.eq(next_row),
                    next_row.eq(next_row + settings.row_step),
                    word.row.eq(word.row + settings.stride_rows),
                    word.column.eq(first_column),
                    columns_left.eq(settings.output_columns),
                    rows_left.eq(rows_left - 1),
                ]
                m.d.comb += [next_last_column.eq(settings.one_column), next_last_row.eq(rows_left == 2)]
            with m.Else():
                m.d.sync += [
                    word.address.eq(word.address + settings.stride_columns),
                    word.column.eq(word.column + settings.stride_columns),
                    columns_left.eq(columns_left - 1),
                ]
                m.d.comb += next_last_column.eq(columns_left == 2)

        # A residual takes its turns at every second cycle of a clock that runs through the whole
        # instruction, so that its reads and writes never meet at the scratchpad's port.
        rest = Signal(range(AVERAGE_CADENCE))
        with m.If(settings.residual):
            m.d.sync += [turn.eq(~turn), rest.eq(0)]
        with m.Elif(issue & slow):
            m.d.sync += [turn.eq(0), rest.eq(AVERAGE_CADENCE - 1)]
        with m.Elif(rest > 1):
            m.d.sync += rest.eq(rest - 1)
        with m.Else():
            m.d.sync += [turn.eq(1), rest.eq(0)]
