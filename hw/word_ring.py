"""A few words in LUT memory, for places where nothing wide may hang on a handshake."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.copies import copies

__all__ = ["WordRing"]

#: Bits of a word that are held by memories with the same address registers.
_PART = 16


class WordRing(wiring.Component):
    """Holds words in the order in which they come; how many there are is the business of those around it.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        One more than the most words: a power of two; 16 cost no more than 2.

    Members
    -------
    w_data : ``In(width)``, w_en : ``In(1)``
        A word to be written; there must be room for it.
    r_data : ``Out(width)``
        The first word, from the cycle after it was written.
    r_en : ``In(1)``
        Strobe: from the next cycle on, the one behind it is the first.
    """

    def __init__(self, *, width: int, depth: int) -> None:
        self.width = width
        self.depth = depth
        super().__init__({"w_data": In(width), "w_en": In(1), "r_data": Out(width), "r_en": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = exact_log2(self.depth)
        pointers = {}
        parts = [slice(start, min(start + _PART, self.width)) for start in range(0, self.width, _PART)]
        for name, moves in (("written", self.w_en), ("read", self.r_en)):
            pointer, following = Signal(bits, name=name), Signal(bits, name=f"next_{name}")
            m.d.comb += following.eq(pointer + moves)
            m.d.sync += pointer.eq(following)
            # they are right a cycle after a reset, before which no word comes or leaves
            pointers[name] = copies(m, following, len(parts), name)
        for number, part in enumerate(parts):
            memory = Memory(shape=part.stop - part.start, depth=self.depth, init=[],
                            attrs={"ram_style": "distributed"})
            m.submodules[f"memory{number}"] = memory
            write, read = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [
                # where no word is, anything may be written as often as it likes
                write.en.eq(1),
                write.addr.eq(pointers["written"][number]),
                write.data.eq(self.w_data[part]),
                read.addr.eq(pointers["read"][number]),
                self.r_data[part].eq(read.data),
            ]
        return m
