"""A queue that can give some of its entries again."""

from __future__ import annotations

from functools import reduce

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Member, Out
from amaranth.utils import exact_log2

from hw.copies import copies
from hw.delay_line import delay_line

__all__ = ["SECTION", "RepeatingFIFO", "part_width", "repeat_layout", "repeat_members", "storage_name"]

#: Bits of an entry with the same address registers, in block RAM and in LUT memory: block RAMs of a large
#: queue lie far apart, and LUT memories have no choice among their inputs, so that many are hard to reach.
_BLOCK_RAM_PART, _LUT_PART = 36, 12

#: Most entries of a queue in LUT memory.
_LUT_DEPTH = 32

#: Entries that lie behind each other in one block RAM.
SECTION = 2048

#: Cycles from an entry's place to the entry: a block RAM, and the register behind it.
_READ_LATENCY = 2

#: Repeats that may be asked for ahead of the one whose entries are given.
_AHEAD = 4


def part_width(depth: int) -> int:
    """Bits of an entry that are one memory."""
    return _BLOCK_RAM_PART if depth > _LUT_DEPTH else _LUT_PART


def storage_name(depth: int, part: int, section: int) -> str:
    """The memory of a part of some of the entries of a queue."""
    return f"storage{part}_{section}" if depth > SECTION else f"storage{part}"


def repeat_layout(depth: int) -> data.StructLayout:
    """Entries that are given again: number ``first`` of all entries that are ever written, modulo twice
    the depth, and those behind it, ``entries`` in all, ``repeats`` times more."""
    bits = exact_log2(depth) + 1
    return data.StructLayout({"first": bits, "entries": bits, "repeats": 16})


def repeat_members(depth: int) -> dict[str, Member]:
    """The members of a queue of this depth that gives entries again."""
    return {
        "again": Out(exact_log2(depth) + 1),
        "repeats": In(stream.Signature(repeat_layout(depth))),
        "drop": In(1),
    }


class RepeatingFIFO(wiring.Component):
    """A queue in block RAM that keeps entries as long as they are to be given again.

    Nobody may write more entries than there is room for: ``depth`` less those that have been written and not
    freed.

    Parameters
    ----------
    width : int
        Bits of an entry.
    depth : int
        Most entries: a power of two.
    repeats : bool
        Without it, this is a plain queue.

    Members
    -------
    w_data : ``In(width)``, w_en : ``In(1)``
        An entry to be written.
    room : ``In(1)``
        An entry may be read.
    reads : ``Out(1)``
        Strobe: one is, and is given in the second cycle after.
    r_valid : ``Out(1)``
        An entry is given in the next cycle.
    frees : ``Out(1)``
        With it: it makes room for another, because it is given for the last time.
    r_data : ``Out(width)``
        The entry, in the cycle in which it is given.
    again : ``Out``
        With ``repeats``, as all that follows.  In the cycle in which a turn ends and another begins: how many
        entries come again; else 0.
    repeats : ``In(stream.Signature(repeat_layout(depth)))``
        In the order of the entries; each before its first one is written, and when there is room for all in
        front of it.  1 to ``depth`` entries.
    drop : ``In(1)``
        Entries are given no more than once again.
    """

    def __init__(self, *, width: int, depth: int, repeats: bool = True) -> None:
        self.width = width
        self.depth = depth
        self.may_repeat = repeats
        super().__init__({
            "w_data": In(width),
            "w_en": In(1),
            "room": In(1),
            "reads": Out(1),
            "r_data": Out(width),
            "r_valid": Out(1),
            "frees": Out(1),
            **(repeat_members(depth) if repeats else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = exact_log2(self.depth)
        written, place = Signal(bits + 1), Signal(bits + 1)  # entries written; the next one to be read
        next_place = Signal(bits + 1)
        step = Signal()
        following = Signal(bits + 1)  # the place after this one, known before the step
        succeeding = Signal(bits + 1, init=1)  # the same if no entry comes again
        m.d.comb += next_place.eq(Mux(step, following, place))
        m.d.sync += [written.eq(written + self.w_en), place.eq(next_place), self.r_valid.eq(step)]
        width = part_width(self.depth)
        parts = [slice(start, min(start + width, self.width)) for start in range(0, self.width, width)]
        # An entry is written a cycle late, from registers that lie at the memory; nobody reads it sooner.
        writes = copies(m, self.w_en, len(parts), "writes")
        write_places = copies(m, written[:bits], len(parts), "written")
        read_places = copies(m, next_place[:bits], len(parts), "place")
        for number, part in enumerate(parts):
            [word] = copies(m, self.w_data[part], 1, f"data{number}")
            m.d.comb += self.r_data[part].eq(
                self._storage(m, number, writes[number], write_places[number], word, read_places[number]))

        # entries that may be read, as they were a cycle ago: one is seen a cycle late
        some, several, stepped = Signal(), Signal(), Signal()
        readable = several | (some & ~stepped)
        m.d.sync += [
            some.eq(written != place),
            several.eq((written != place) & (written != succeeding)),
        ]
        m.d.comb += self.reads.eq(step)
        if self.may_repeat:
            self._repeats(m, place, following, succeeding, step, readable & self.room, stepped)
        else:
            with m.If(step):
                m.d.sync += succeeding.eq(succeeding + 1)
            m.d.comb += [following.eq(succeeding), step.eq(readable & self.room), self.frees.eq(1)]
            m.d.sync += stepped.eq(step)
        return m

    def _storage(self, m: Module, part: int, enable: Signal, write_place: Signal, word: Signal,
                 read_place: Signal) -> Value:
        """One part of all entries, in sections as deep as a block RAM: what is in a place, later.

        An entry is never read in the cycle in which it is written; that is left open, and so are the
        registers behind the memories, because synthesis would build a way around both otherwise.  Each block
        RAM has its register, which moves into it (`boards.output_registers`), and the choice comes behind.
        """
        depth = min(self.depth, SECTION)
        inside = exact_log2(depth)
        given: list[Value] = []
        for number in range(self.depth // depth):
            storage = Memory(shape=len(word), depth=depth, init=[], attrs={"no_rw_check": "1"})
            m.submodules[storage_name(self.depth, part, number)] = storage
            write, read = storage.write_port(), storage.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(write_place[:inside]),
                write.data.eq(word),
                write.en.eq(enable & (write_place[inside:] == number)),
                read.addr.eq(read_place[:inside]),
            ]
            # any entry where none is given
            given.append(delay_line(m, read.data, _READ_LATENCY, f"given{part}_{number}")[-1])
        if len(given) == 1:
            return given[0]
        section = delay_line(m, read_place[inside:], _READ_LATENCY, f"section{part}")[-1]
        return reduce(lambda others, number: Mux(section == number, given[number], others),
                      range(1, len(given)), given[0])

    def _repeats(self, m: Module, place: Signal, following: Signal, succeeding: Signal, step: Signal,
                 may_step: Value, stepped: Signal) -> None:
        """Which entry comes next; that this one is the first or the last of a repeat is known before."""
        bits = exact_log2(self.depth)
        layout = repeat_layout(self.depth)
        m.submodules.ahead = ahead = SyncFIFO(width=layout.size, depth=_AHEAD)
        coming = Signal(layout)
        m.d.comb += [
            ahead.w_data.eq(self.repeats.payload.as_value()),
            ahead.w_en.eq(self.repeats.valid),
            self.repeats.ready.eq(ahead.w_rdy),
            coming.eq(ahead.r_data),
        ]
        # the repeat whose entries come next, or are being given
        active, inside = Signal(), Signal()
        first, second, last, entries = (Signal(bits + 1, reset_less=True, name=name)
                                        for name in ("first", "second", "last", "entries"))
        single = Signal(reset_less=True)    # there is one entry
        at_first, at_last = Signal(reset_less=True), Signal(reset_less=True)
        left = Signal(16)  # times that they are still to be given after this time
        enters, ends = Signal(), Signal()
        again = Signal(reset_less=True)     # that is not zero
        m.d.comb += [
            ahead.r_en.eq(~active),
            enters.eq(inside | (active & at_first)),
            ends.eq(enters & at_last),
            following.eq(Mux(ends & again, first, succeeding)),
            # not past the first entry of a repeat that is not seen yet
            step.eq(may_step & (active | ~ahead.r_rdy)),
        ]
        m.d.sync += stepped.eq(step & ~(ends & again))
        with m.If(step):
            m.d.sync += [inside.eq(enters & ~ends), self.frees.eq(~(enters & again))]
            with m.If(ends & again):
                m.d.comb += self.again.eq(entries)
                m.d.sync += [
                    left.eq(left - 1),
                    again.eq(left != 1),
                    succeeding.eq(second),
                    at_first.eq(1),
                    at_last.eq(single),
                ]
            with m.Else():
                m.d.sync += [
                    succeeding.eq(succeeding + 1),
                    at_first.eq(succeeding == first),
                    at_last.eq(succeeding == last),
                ]
            with m.If(ends & ~again):
                m.d.sync += active.eq(0)
        with m.If(~active):
            m.d.sync += [
                active.eq(ahead.r_rdy),
                first.eq(coming.first),
                second.eq(coming.first + 1),
                entries.eq(coming.entries),
                last.eq(coming.first + coming.entries - 1),
                single.eq(coming.entries == 1),
                left.eq(coming.repeats),
                again.eq(coming.repeats != 0),
                # nobody looks at the last one before the first
                at_first.eq(place == coming.first), at_last.eq(coming.entries == 1),
            ]
        with m.If(self.drop & (left > 1)):
            m.d.sync += [left.eq(1), again.eq(1)]  # the next turn frees all
