"""The loops of LOAD and STORE (`docs/machine.md`): over rows of external memory, over scratchpad words."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.bursts import transfer_layout
from hw.isa import LOAD
from hw.machine import Machine

__all__ = ["MEMORY_WALK", "SCRATCH_WALK", "RowWalker", "WordWalker", "beats_width"]


def _fields(*names: str) -> dict[str, Any]:
    return {name: LOAD[name] for name in names}


#: What `RowWalker` needs of an instruction, and the token mask ``signal`` that comes with it.
MEMORY_WALK = data.StructLayout({
    **_fields("memory_address", "memory_plane_step", "memory_row_step", "planes", "rows", "words"),
    "signal": 3,
})

#: What `WordWalker` needs of an instruction, and the token mask ``signal`` that comes with it.
SCRATCH_WALK = data.StructLayout({
    **_fields("scratch_address", "scratch_plane_step", "scratch_row_step", "planes", "rows", "words"),
    "signal": 3,
})


def beats_width(machine: Machine) -> int:
    """Bits of the number of beats in one row of a LOAD or STORE."""
    return 16 + exact_log2(machine.beats_per_word)


class _Rows:
    """The two outer loops: the address of each row, one row after another.

    Parameters
    ----------
    m : Module
    address, plane_step, row_step, planes, rows
        The instruction's values, held in registers while the loops run; ``address`` and ``planes``
        are used up.
    advance : Signal
        Strobe: go on to the next row.
    """

    def __init__(self, m: Module, *, address: Any, plane_step: Any, row_step: Any, planes: Any, rows: Any,
                 rows_left: Signal, plane_address: Signal, advance: Signal) -> None:
        last_row = Signal()
        self.last = Signal()
        self.next = Signal.like(plane_address)
        m.d.comb += [
            last_row.eq(rows_left == 1),
            self.last.eq(last_row & (planes == 1)),
            self.next.eq(Mux(last_row, plane_address, address) + Mux(last_row, plane_step, row_step)),
        ]
        with m.If(advance):
            m.d.sync += address.eq(self.next)
            with m.If(last_row):
                m.d.sync += [plane_address.eq(self.next), planes.eq(planes - 1), rows_left.eq(rows)]
            with m.Else():
                m.d.sync += rows_left.eq(rows_left - 1)


class RowWalker(wiring.Component):
    """Gives the rows of one LOAD or STORE in external memory, one a cycle.

    Members
    -------
    walks : ``In(stream.Signature(MEMORY_WALK))``
    rows : ``Out(stream.Signature(transfer_layout(…, {"last", "signal"})))``
        ``last`` marks the last row of its instruction.
    """

    #: What goes with each row.
    TAG = data.StructLayout({"last": 1, "signal": 3})

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "walks": In(stream.Signature(MEMORY_WALK)),
            "rows": Out(stream.Signature(transfer_layout(beats_width(machine), self.TAG))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        walk = Signal(MEMORY_WALK)
        rows_left = Signal(16)
        plane_address = Signal(32)
        busy = Signal()
        advance = Signal()
        loops = _Rows(m, address=walk.memory_address, plane_step=walk.memory_plane_step,
                      row_step=walk.memory_row_step, planes=walk.planes, rows=walk.rows,
                      rows_left=rows_left, plane_address=plane_address, advance=advance)
        m.d.comb += [
            self.rows.valid.eq(busy),
            self.rows.payload.address.eq(walk.memory_address),
            self.rows.payload.beats.eq(walk.words << exact_log2(self.machine.beats_per_word)),
            self.rows.payload.tag.last.eq(loops.last),
            self.rows.payload.tag.signal.eq(walk.signal),
            advance.eq(busy & self.rows.ready),
            self.walks.ready.eq(~busy | (advance & loops.last)),
        ]
        with m.If(self.walks.ready):
            m.d.sync += busy.eq(self.walks.valid)
            with m.If(self.walks.valid):
                m.d.sync += [
                    walk.eq(self.walks.payload),
                    rows_left.eq(self.walks.payload.rows),
                    plane_address.eq(self.walks.payload.memory_address),
                ]
        return m


class WordWalker(wiring.Component):
    """Gives the scratchpad addresses of one LOAD or STORE, one a cycle.

    Members
    -------
    walks : ``In(stream.Signature(SCRATCH_WALK))``
    words : ``Out(stream.Signature({"address": 16, "last": 1, "signal": 3}))``
        ``last`` marks the last word of its instruction.
    """

    #: One word.
    WORD = data.StructLayout({"address": 16, "last": 1, "signal": 3})

    def __init__(self) -> None:
        super().__init__({
            "walks": In(stream.Signature(SCRATCH_WALK)),
            "words": Out(stream.Signature(self.WORD)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        walk = Signal(SCRATCH_WALK)  # its address is that of the row
        address = Signal(16)
        words_left = Signal(16)
        rows_left = Signal(16)
        plane_address = Signal(16)
        busy = Signal()
        last_word = Signal()
        advance = Signal()
        advance_row = Signal()
        loops = _Rows(m, address=walk.scratch_address, plane_step=walk.scratch_plane_step,
                      row_step=walk.scratch_row_step, planes=walk.planes, rows=walk.rows,
                      rows_left=rows_left, plane_address=plane_address, advance=advance_row)
        m.d.comb += [
            last_word.eq(words_left == 1),
            advance.eq(busy & self.words.ready),
            advance_row.eq(advance & last_word),
            self.words.valid.eq(busy),
            self.words.payload.address.eq(address),
            self.words.payload.last.eq(last_word & loops.last),
            self.words.payload.signal.eq(walk.signal),
            self.walks.ready.eq(~busy | (advance_row & loops.last)),
        ]
        with m.If(advance):
            with m.If(last_word):
                m.d.sync += [address.eq(loops.next), words_left.eq(walk.words)]
            with m.Else():
                m.d.sync += [address.eq(address + 1), words_left.eq(words_left - 1)]
        with m.If(self.walks.ready):
            m.d.sync += busy.eq(self.walks.valid)
            with m.If(self.walks.valid):
                m.d.sync += [
                    walk.eq(self.walks.payload),
                    address.eq(self.walks.payload.scratch_address),
                    words_left.eq(self.walks.payload.words),
                    rows_left.eq(self.walks.payload.rows),
                    plane_address.eq(self.walks.payload.scratch_address),
                ]
        return m
