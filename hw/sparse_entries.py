"""Weight words to the entries of a sparse stream, one for each lane in a cycle (`hw.sparse_stream`)."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.machine import Machine

__all__ = ["SparseEntries", "entry_layout"]


def entry_layout(machine: Machine) -> data.ArrayLayout:
    """A step: of each lane, zeros to skip, and a codebook index or a value; 0 is no weight."""
    return data.ArrayLayout(data.StructLayout({"gap": 4, "field": 8}), machine.bus_bytes)


class SparseEntries(wiring.Component):
    """Two steps from a word of narrow entries, four from three words of wide ones.

    Parameters
    ----------
    machine : Machine

    Members
    -------
    words : ``In(stream)``
        A word is taken with its last step.
    wide : ``In(1)``
    restart : ``In(1)``
        The next word is a block's first one.
    entries : ``Out(stream.Signature(entry_layout(machine)))``
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "words": In(stream.Signature(8 * machine.weight_word_bytes)),
            "wide": In(1),
            "restart": In(1),
            "entries": Out(stream.Signature(entry_layout(machine))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.machine.bus_width
        low, high = self.words.payload[:width], self.words.payload[width:]
        step = Signal()
        turn = Signal(2)
        gaps = Signal(width, reset_less=True)  # of this turn or the next
        last = Signal()
        use_high = Signal()
        m.d.comb += [
            self.entries.valid.eq(self.words.valid),
            step.eq(self.entries.valid & self.entries.ready),
            # words of three beats each, gaps and two of fields:  g f | f g | f f
            use_high.eq(Mux(self.wide, turn[0] == turn[1], turn[0])),
            last.eq(Mux(self.wide, turn != 2, turn[0])),
            self.words.ready.eq(self.entries.ready & last),
        ]
        with m.If(step):
            m.d.sync += turn.eq(turn + 1)
            with m.If(turn == 0):
                m.d.sync += gaps.eq(low)
            with m.Elif(turn == 1):
                m.d.sync += gaps.eq(high)
        with m.If(self.restart):
            m.d.sync += turn.eq(0)
        wide_gaps = Mux(turn == 0, low, gaps)
        fields = Mux(use_high, high, low)
        for lane, entry in enumerate(self.entries.payload):
            pair, field = wide_gaps.word_select(lane, 8), fields.word_select(lane, 8)
            m.d.comb += [
                entry.gap.eq(Mux(self.wide, Mux(turn[0], pair[4:], pair[:4]), field[4:])),
                entry.field.eq(Mux(self.wide, field, field[:4])),
            ]
        return m
