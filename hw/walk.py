"""The loops of LOAD and STORE (`docs/machine.md`): over rows of external memory, over scratchpad words."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.bursts import transfer_layout
from hw.copies import copies
from hw.isa import LOAD, NARROW_BYTES
from hw.machine import Machine
from hw.skid_buffer import SkidBuffer

__all__ = ["MEMORY_WALK", "SCRATCH_WALK", "RowWalker", "WordWalker", "beats_width"]


def _fields(*names: str) -> dict[str, Any]:
    return {name: LOAD[name] for name in names}


#: What `RowWalker` needs of an instruction (a STORE is never ``narrow``), and the token mask ``signal`` that
#: comes with it.
MEMORY_WALK = data.StructLayout({
    **_fields("memory_address", "memory_plane_step", "memory_row_step", "planes", "rows", "words", "narrow"),
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

    What ends a loop is known one row ahead, in registers.

    Parameters
    ----------
    m : Module
    address : Signal
        Address of the row, in the instruction's units.
    plane_step, row_step, rows : Value
        The instruction's, held while its loops run.
    new, new_address : Value
        An instruction that starts, and its first address.
    load : Value
        Strobe: ``new`` starts.
    advance : Value
        Strobe: go on to the next row. If it comes with ``load``, ``load`` wins.

    slow : bool
        ``advance`` does not come in the cycle after ``load`` or another ``advance``, so that no multiplexer
        is in front of the adder.

    Attributes
    ----------
    last : Value
        This is the last row.
    next : Value
        Address of the row that follows; if ``slow``, from the second cycle of a row on.
    """

    def __init__(self, m: Module, *, address: Signal, plane_step: Any, row_step: Any, rows: Any,
                 new: Any, new_address: Any, load: Any, advance: Any, slow: bool = False) -> None:
        plane_address = Signal.like(address)
        rows_left, planes_left = (Signal(16, reset_less=True) for _ in range(2))  # this one included
        last_row, last_plane, one_row = Signal(), Signal(), Signal()
        next_last_row = Signal()
        self.last = last_row & last_plane
        self.next = Signal.like(address)
        # last_row again, for what is wide
        of_address, of_step = copies(m, next_last_row, 2, "last_row", init=0)
        base, step = Mux(of_address, plane_address, address), Mux(of_step, plane_step, row_step)
        if slow:
            base, step = copies(m, base, 1, "base")[0], copies(m, step, 1, "step")[0]
        m.d.comb += [self.next.eq(base + step), next_last_row.eq(last_row)]
        m.d.sync += last_row.eq(next_last_row)
        with m.If(load):
            m.d.sync += [
                address.eq(new_address), plane_address.eq(new_address),
                rows_left.eq(new.rows), planes_left.eq(new.planes),
                one_row.eq(new.rows == 1), last_plane.eq(new.planes == 1),
            ]
            m.d.comb += next_last_row.eq(new.rows == 1)
        with m.Elif(advance):
            m.d.sync += [address.eq(self.next), rows_left.eq(rows_left - 1)]
            m.d.comb += next_last_row.eq(Mux(last_row, one_row, rows_left == 2))
            with m.If(last_row):
                m.d.sync += [
                    plane_address.eq(self.next), rows_left.eq(rows),
                    planes_left.eq(planes_left - 1), last_plane.eq(planes_left == 2),
                ]


class RowWalker(wiring.Component):
    """Gives the rows of one LOAD or STORE in external memory, one in every second cycle.

    Members
    -------
    walks : ``In(stream.Signature(MEMORY_WALK))``
    rows : ``Out(stream.Signature(transfer_layout(…, {"last", "narrow", "signal"})))``
        ``last`` marks the last row of its instruction, ``narrow`` is the instruction's.
    """

    #: What goes with each row.
    TAG = data.StructLayout({"last": 1, "narrow": 1, "signal": 3})

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "walks": In(stream.Signature(MEMORY_WALK)),
            "rows": Out(stream.Signature(transfer_layout(beats_width(machine), self.TAG))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        new = self.walks.payload
        walk = Signal(MEMORY_WALK, reset_less=True)
        address = Signal(32, reset_less=True)
        beats = Signal(beats_width(self.machine), reset_less=True)  # of a row
        wide_beats = new.words << exact_log2(self.machine.beats_per_word)
        narrow_beats = new.words >> exact_log2(max(self.machine.bus_bytes // NARROW_BYTES, 1))
        busy = Signal()
        settled = Signal()  # the row after this one is known
        advance = Signal()
        load = Signal()
        loops = _Rows(m, address=address, plane_step=walk.memory_plane_step, row_step=walk.memory_row_step,
                      rows=walk.rows, new=new, new_address=new.memory_address, load=load, advance=advance,
                      slow=True)
        m.d.comb += [
            self.rows.valid.eq(busy & settled),
            self.rows.payload.address.eq(address),
            self.rows.payload.beats.eq(beats),
            self.rows.payload.tag.last.eq(loops.last),
            self.rows.payload.tag.narrow.eq(walk.narrow),
            self.rows.payload.tag.signal.eq(walk.signal),
            advance.eq(busy & settled & self.rows.ready),
            self.walks.ready.eq(~busy),
            load.eq(self.walks.valid & self.walks.ready),
        ]
        m.d.sync += settled.eq(~load & ~advance)
        with m.If(load):
            m.d.sync += [walk.eq(new), busy.eq(1), beats.eq(Mux(new.narrow, narrow_beats, wide_beats))]
        with m.Elif(advance & loops.last):
            m.d.sync += busy.eq(0)
        return m


class WordWalker(wiring.Component):
    """Gives the scratchpad addresses of one LOAD or STORE, one a cycle, from registers;
    the next one's after a pause of one.

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
        new = self.walks.payload
        walk = Signal(SCRATCH_WALK, reset_less=True)
        address, row_address = Signal(16, reset_less=True), Signal(16, reset_less=True)
        words_left = Signal(16, reset_less=True)  # this one included
        last_word, one_word = Signal(), Signal()
        busy = Signal()
        advance = Signal()
        load = Signal()
        m.submodules.output = output = SkidBuffer(self.WORD)
        wiring.connect(m, output.output, wiring.flipped(self.words))
        loops = _Rows(m, address=row_address, plane_step=walk.scratch_plane_step,
                      row_step=walk.scratch_row_step, rows=walk.rows, new=new,
                      new_address=new.scratch_address, load=load, advance=advance & last_word)
        m.d.comb += [
            advance.eq(busy & output.input.ready),
            output.input.valid.eq(busy),
            output.input.payload.address.eq(address),
            output.input.payload.last.eq(last_word & loops.last),
            output.input.payload.signal.eq(walk.signal),
            self.walks.ready.eq(~busy),
            load.eq(self.walks.valid & self.walks.ready),
        ]
        with m.If(load):
            m.d.sync += [
                busy.eq(1), walk.eq(new), address.eq(new.scratch_address), words_left.eq(new.words),
                last_word.eq(new.words == 1), one_word.eq(new.words == 1),
            ]
        with m.Elif(advance):
            m.d.sync += [
                address.eq(address + 1), words_left.eq(words_left - 1), last_word.eq(words_left == 2),
            ]
            with m.If(last_word):
                m.d.sync += [address.eq(loops.next), words_left.eq(walk.words), last_word.eq(one_word)]
                with m.If(loops.last):
                    m.d.sync += busy.eq(0)
        return m
