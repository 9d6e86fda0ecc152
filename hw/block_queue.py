"""A queue in block RAM, with registers behind it."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.repeating_fifo import RepeatingFIFO, repeat_members
from hw.stream_register import PingPongBuffer, StreamRegister

__all__ = ["BlockQueue"]

#: Entries that the memory's output, the register behind it and the buffer behind that hold.
_WAITING = 4


class BlockQueue(wiring.Component):
    """`RepeatingFIFO` as a stream at full throughput.

    Block RAM is slow, so nothing but a register is behind it; and its read enables are registers, because the
    block RAMs of a large queue lie far apart.

    Parameters
    ----------
    width : int
        Bits of an entry.
    depth : int
        Most entries: a power of two.
    repeats : bool
        Entries may be given again.

    Members
    -------
    w_data : ``In(width)``, w_en : ``In(1)``
        An entry to be written; there must be room for it.
    output : ``Out(stream.Signature(width))``
    gives : ``Out(1)``
        Strobe: an entry leaves the memory.
    frees : ``Out(1)``
        With it: and makes room for another.
    waits : ``Out(1)``
        An entry that has left the memory waits at the output, or in front of it.
    again, repeats, drop
        With ``repeats``; as those of `RepeatingFIFO`.
    """

    def __init__(self, *, width: int, depth: int, repeats: bool = False) -> None:
        self.width = width
        self.depth = depth
        self.may_repeat = repeats
        super().__init__({
            "w_data": In(width),
            "w_en": In(1),
            "output": Out(stream.Signature(width)),
            "gives": Out(1),
            "frees": Out(1),
            "waits": Out(1),
            **(repeat_members(depth) if repeats else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fifo = fifo = RepeatingFIFO(width=self.width, depth=self.depth, repeats=self.may_repeat)
        m.submodules.plain = plain = StreamRegister(self.width)
        m.submodules.register = register = PingPongBuffer(self.width)
        wiring.connect(m, plain.output, register.input)
        wiring.connect(m, register.output, wiring.flipped(self.output))
        waiting, next_waiting, left = Signal(range(_WAITING + 1)), Signal(range(_WAITING + 1)), Signal()
        m.d.comb += [
            fifo.w_data.eq(self.w_data),
            fifo.w_en.eq(self.w_en),
            plain.input.payload.eq(fifo.r_data),
            plain.input.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(plain.input.ready),
            self.gives.eq(fifo.r_rdy & fifo.r_en),
            self.frees.eq(fifo.frees),
            self.waits.eq(plain.output.valid | register.output.valid),
            left.eq(self.output.valid & self.output.ready),
            next_waiting.eq(waiting + fifo.reads - left),
            fifo.next_room.eq(next_waiting != _WAITING),
        ]
        m.d.sync += waiting.eq(next_waiting)
        if self.may_repeat:
            wiring.connect(m, wiring.flipped(self.repeats), fifo.repeats)
            m.d.comb += [fifo.drop.eq(self.drop), self.again.eq(fifo.again)]
        return m
