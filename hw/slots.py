"""The slots of a pass: which taps of the kernel the input lanes see (modes DEPTHWISE and THIN).

Products of a window are counted ``k = tap * channels + channel``, and pass p has those from
``p * input_lanes`` on.  So it needs as many consecutive taps as there are input lanes, or fewer; a *slot*
is one of them.  The last tap of a pass may be the first of the next one, with the channels that are left:
`phase` is the channel with which a pass begins.  Where weights come in pairs, a pass has twice as many
products, of as many slots at most, because there are two channels or more.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.copies import copies
from hw.isa import Mode, Opcode, layout_of
from hw.machine import Machine

__all__ = ["THIN_CHANNELS", "Slots", "phases", "slots_layout"]

#: Most channels of a THIN layer.
THIN_CHANNELS = 4


def slots_layout(machine: Machine) -> data.ArrayLayout:
    """Slots 0 to ``input_lanes`` - 1: where a tap lies from the window's corner, in words, rows and
    columns, and whether it is ``used``: inside the kernel."""
    slot = data.StructLayout({
        "offset": unsigned(16), "row": unsigned(9), "column": unsigned(9), "used": 1,
    })
    return data.ArrayLayout(slot, machine.input_lanes)


def phases(machine: Machine, channels: int, *, pairs: bool = False) -> list[int]:
    """First channels of successive passes, until they repeat."""
    lanes = machine.input_lanes * (2 if pairs else 1)
    found = [0]
    while (following := (found[-1] + lanes) % channels) not in found:
        found.append(following)
    return found


class Slots(wiring.Component):
    """Finds the slots of one pass after another, a tap a cycle.

    Members
    -------
    instruction : ``In``
        Constant while slots are wanted.
    fill : ``In(1)``
        Strobe: find the slots of the next pass; after ``done``, not with it.
    first : ``In(1)``
        With ``fill``: it is the first pass of an output block.
    clear : ``In(1)``
        Strobe: the next pass has the word itself in slot 0, and no other; not while slots are found.
    filling : ``Out(1)``
        From the cycle after ``fill`` to ``done``.
    done : ``Out(1)``
        Strobe: ``slots`` and ``phase`` are those of the pass from the next cycle on, until ``fill``.
    slots : ``Out``
        Where one lies is open if it is not used.
    phase : ``Out(2)``
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "instruction": In(layout_of(Opcode.COMPUTE)),
            "fill": In(1),
            "first": In(1),
            "clear": In(1),
            "filling": Out(1),
            "done": Out(1),
            "slots": Out(slots_layout(machine)),
            "phase": Out(range(THIN_CHANNELS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        code, lanes = self.instruction, self.machine.input_lanes
        tap = data.StructLayout({
            "offset": unsigned(16), "next_row": unsigned(16), "row": unsigned(9), "column": unsigned(9),
            "columns_left": unsigned(9), "last_column": 1,
        })
        one_column = Signal(reset_less=True)
        m.d.sync += one_column.eq(code.slot_columns == 1)
        cursor = Signal(tap, reset_less=True)   # the next tap to enter
        resume = Signal(tap, reset_less=True)   # the first tap of the pass after this one
        slots = Signal(slots_layout(self.machine), reset_less=True)
        phase = Signal.like(self.phase, reset_less=True)
        taps = Signal(range(lanes + 1), reset_less=True)       # of this pass that the next does not need
        next_phase = Signal.like(self.phase, reset_less=True)
        step = Signal(range(lanes + 1), reset_less=True)
        filling = Signal()
        shifting, next_shifting = Signal(), Signal()  # a tap enters, and the slots move
        m.d.comb += [
            self.slots.eq(slots), self.phase.eq(phase), self.filling.eq(filling),
            self.done.eq(filling & ~shifting),
            next_shifting.eq(self.fill | (shifting & (step != lanes - 1))),
        ]
        m.d.sync += shifting.eq(next_shifting)

        # seen from the second step on, and no pass needs it earlier
        m.d.sync += [taps.eq(lanes), next_phase.eq(0)]
        with m.If(code.mode == Mode.THIN):
            for channels in range(2, THIN_CHANNELS + 1):
                for start in phases(self.machine, channels):
                    with m.If((code.thin_channels == channels) & (phase == start)):
                        following = start + lanes
                        m.d.sync += [taps.eq(following // channels), next_phase.eq(following % channels)]
        if self.machine.weight_pairs:
            with m.If(code.pairs):
                for channels in range(2, THIN_CHANNELS + 1):
                    for start in phases(self.machine, channels, pairs=True):
                        with m.If((code.thin_channels == channels) & (phase == start)):
                            following = start + 2 * lanes
                            m.d.sync += [taps.eq(following // channels), next_phase.eq(following % channels)]

        with m.If(filling):
            m.d.sync += [step.eq(step + 1), filling.eq(~self.done)]
        with m.If(step == taps):  # only while filling: after that it is greater
            m.d.sync += resume.eq(cursor)
        # between passes the cursor runs on, because nobody looks: an enable of its own would be a long path
        with m.If(cursor.last_column):
            m.d.sync += [
                cursor.offset.eq(cursor.next_row),
                cursor.next_row.eq(cursor.next_row + code.source_tap_row_step),
                cursor.row.eq(cursor.row + ~cursor.row[-1]),  # stays at 256, where no kernel has a row
                cursor.column.eq(0),
                cursor.columns_left.eq(code.slot_columns),
                cursor.last_column.eq(one_column),
            ]
        with m.Else():
            m.d.sync += [
                cursor.offset.eq(cursor.offset + 1),
                cursor.column.eq(cursor.column + 1),
                cursor.columns_left.eq(cursor.columns_left - 1),
                cursor.last_column.eq(cursor.columns_left == 2),
            ]
        entering = Signal.like(slots[-1])
        m.d.comb += [
            entering.offset.eq(cursor.offset),
            entering.row.eq(cursor.row),
            entering.column.eq(cursor.column),
            entering.used.eq((cursor.row < code.kernel_rows) & (cursor.column < code.kernel_columns)),
        ]
        # each slot by its own copy
        for number, shifts in enumerate(copies(m, next_shifting, lanes, "shifting", init=0)):
            with m.If(shifts):
                m.d.sync += slots[number].eq(slots[number + 1] if number < lanes - 1 else entering)
        with m.If(self.clear):
            # what is not used may be anything
            m.d.sync += slots[0].eq(0)
            m.d.sync += [slot.used.eq(number == 0) for number, slot in enumerate(slots)]
        with m.If(self.fill):
            m.d.sync += [
                filling.eq(1),
                step.eq(0),
                cursor.eq(resume),
                phase.eq(Mux(self.first, 0, next_phase)),
            ]
            with m.If(self.first):
                m.d.sync += [
                    cursor.offset.eq(0),
                    cursor.next_row.eq(code.source_tap_row_step),
                    cursor.row.eq(0),
                    cursor.column.eq(0),
                    cursor.columns_left.eq(code.slot_columns),
                    cursor.last_column.eq(one_column),
                ]
        return m
