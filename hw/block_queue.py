"""A queue in block RAM, with a ring of words behind it."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.copies import copies
from hw.repeating_fifo import RepeatingFIFO, repeat_members
from hw.word_ring import WordRing

__all__ = ["WAITING", "BlockQueue"]

#: Most entries that have left the memory and not the queue: in its output, the register behind it, the ring.
WAITING = 7


class BlockQueue(wiring.Component):
    """`RepeatingFIFO` as a stream at full throughput.

    Block RAM is slow, so nothing but a register is behind it; and because the block RAMs of a large queue lie
    far apart, nothing that steers them or that register hangs on a handshake: an entry that is read has room
    in the ring.

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
    gave : ``Out(1)``
        Strobe: an entry has left the memory in the cycle before.
    freed : ``Out(1)``
        Strobe: and it made room for another.
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
            "gave": Out(1),
            "freed": Out(1),
            "waits": Out(1),
            **(repeat_members(depth) if repeats else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fifo = fifo = RepeatingFIFO(width=self.width, depth=self.depth, repeats=self.may_repeat)
        m.submodules.ring = ring = WordRing(width=self.width, depth=WAITING + 1)
        entry_valid = Signal()
        waiting, left = Signal(range(WAITING + 1)), Signal()      # read from the memory and not given
        held, next_held = Signal(range(WAITING + 1)), Signal(range(WAITING + 1))   # those in the ring
        room = Signal()
        # whoever counts lies elsewhere
        [gave] = copies(m, fifo.r_valid, 1, "gave", init=0)
        [freed] = copies(m, fifo.r_valid & fifo.frees, 1, "freed", init=0)
        m.d.comb += [
            fifo.w_data.eq(self.w_data),
            fifo.w_en.eq(self.w_en),
            fifo.room.eq(room),
            ring.w_data.eq(fifo.r_data),
            ring.w_en.eq(entry_valid),
            ring.r_en.eq(left),
            left.eq(self.output.valid & self.output.ready),
            next_held.eq(held + entry_valid - left),
            self.output.payload.eq(ring.r_data),
            self.gave.eq(gave),
            self.freed.eq(freed),
            self.waits.eq(entry_valid | self.output.valid),
        ]
        m.d.sync += [
            entry_valid.eq(fifo.r_valid),
            held.eq(next_held),
            self.output.valid.eq(next_held != 0),
            waiting.eq(waiting + fifo.reads - left),
            # a cycle late, so it leaves one for what is read in the meantime
            room.eq(waiting < WAITING - 1),
        ]
        if self.may_repeat:
            wiring.connect(m, wiring.flipped(self.repeats), fifo.repeats)
            m.d.comb += [fifo.drop.eq(self.drop), self.again.eq(fifo.again)]
        return m
