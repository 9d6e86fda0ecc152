"""The loops of a COMPUTE instruction: which word of which pass is read when.

Nothing behind the sequencer can stall, so it alone decides: an instruction waits here for its
tokens, a pass for its weights, a word for its turn.  All addresses come from repeated addition.

Instructions overlap.  The passes of the next one are prepared, and its words issued, while results of the
one before are on their way; its first results wait until the last of those have been written, because
post-processing has one set of settings.  So two instructions at most have begun and not ended.

Two parts run side by side: `hw.pass_loops` prepares the next pass while `hw.pixel_loops` issues the words
of the present one.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.copies import copies
from hw.isa import Opcode, layout_of
from hw.issue import issue_layout
from hw.machine import Machine
from hw.pass_loops import PassLoops
from hw.pixel_loops import PixelLoops
from hw.slots import slots_layout
from hw.tokens import TokenPort

__all__ = ["Sequencer"]

#: Waiting for an instruction, for its tokens, preparing its passes: one bit for each, because they steer
#: hundreds of flip-flops.
_STATE = data.StructLayout({"idle": 1, "waits": 1, "passes": 1})


#: Bits of an instruction that are held by the same registers.
_PART = 64


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
        Which words from there on, a cycle after ``issue``; other modes use slot 0 alone, the word itself.
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
        m.submodules.passes = passes = PassLoops(self.machine)
        m.submodules.pixels = pixels = PixelLoops(self.machine)
        prepared, take = passes.prepared, pixels.take
        startable = Signal()  # a pass is prepared and its weights are there
        self._instruction(m, state, code, passes)
        self._results(m, state, code, prepared, take, passes.results_free)
        m.d.comb += [
            passes.code.eq(code),
            passes.take.eq(take),
            passes.tile_available.eq(self.tile_available),
            passes.parameters_available.eq(self.parameters_available),
            pixels.code.eq(code),
            pixels.prepared.eq(prepared),
            pixels.slots.eq(passes.slots),
            pixels.phase.eq(passes.phase),
            pixels.next_startable.eq(passes.may_start | (startable & ~take)),
            pixels.tile_available.eq(self.tile_available),
            self.claim_tile.eq(take & prepared.needs_tile & ~code.fold | pixels.folds),
            self.claim_parameters.eq(take & prepared.first),
            self.issue_valid.eq(pixels.issue_valid),
            self.issue.eq(pixels.issue),
            self.slots.eq(pixels.present),
            self.layer.eq(Mux(pixels.active, pixels.layer, code.layer)),
            self.layer_valid.eq(pixels.active | ~state.idle),
            # a pass that could start if it had its weights; counted from its preparation on, because
            # they could have been there then
            self.weight_wait.eq(
                pixels.free & ~startable & passes.preparing
                & (~self.tile_available & (prepared.first | ~code.hold_weights) & ~code.fold
                   | ~self.parameters_available & prepared.first)
                | pixels.waits_to_fold),
        ]
        m.d.sync += startable.eq(pixels.next_startable)
        return m

    def _instruction(self, m: Module, state: data.View, code: data.View, passes: PassLoops) -> None:
        begin, end = passes.begin, passes.end
        granted = Signal()
        m.d.comb += [
            self.tokens.wait.eq(code["wait"]),
            granted.eq((code["wait"] == 0) | self.tokens.wait_ready),
        ]
        # while it waits it takes whatever is there, until it is an instruction
        next_idle, next_waits = Signal(), Signal()
        m.d.comb += [
            next_idle.eq((state.idle & ~self.instructions.valid) | (state.passes & end)),
            next_waits.eq((state.idle & self.instructions.valid) | (state.waits & ~granted)),
            passes.enter.eq(copies(m, next_waits, 1, "enter", init=0)[0]),
        ]
        held, given = code.as_value(), self.instructions.payload.as_value()
        starts = range(0, len(held), _PART)
        for start, takes in zip(starts, copies(m, next_idle, len(starts), "idle", init=1), strict=True):
            with m.If(takes):
                m.d.sync += held[start:start + _PART].eq(given[start:start + _PART])
        if not self.machine.weight_decoder:
            m.d.sync += code.fold.eq(0)  # whatever it steers is not built
        with m.If(state.idle):
            m.d.comb += self.instructions.ready.eq(1)
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
