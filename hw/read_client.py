"""What every reader of external memory has: bursts ahead of data, and room for all of it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.block_queue import BlockQueue
from hw.bursts import BurstSplitter, burst_layout, transfer_layout
from hw.repeating_fifo import repeat_layout
from hw.skid_buffer import SkidBuffer

__all__ = ["ReadClient", "ReadPortSignature", "beat_layout"]


def beat_layout(bus_width: int) -> data.StructLayout:
    """One beat of read data: ``data``, its transfer's ``tag``, ``error`` (the response was not OKAY)."""
    return data.StructLayout({"data": bus_width, "tag": 1, "error": 1})


class ReadPortSignature(wiring.Signature):
    """A client's side of the read port.

    Parameters
    ----------
    bus_width : int
        Bits of a beat.

    Members
    -------
    bursts : ``Out(stream.Signature(burst_layout(1)))``
        Bursts to be read.
    urgent : ``Out(1)``
        There is one, or will be in a few cycles, and it goes before those of clients that are not.
    beats : ``In(stream.Signature(beat_layout(bus_width), always_ready=True))``
        Their data, in order; a client asks for no more than it can take.
    """

    def __init__(self, bus_width: int) -> None:
        self.bus_width = bus_width
        super().__init__({
            "bursts": Out(stream.Signature(burst_layout(1))),
            "urgent": Out(1),
            "beats": In(stream.Signature(beat_layout(bus_width), always_ready=True)),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadPortSignature) and self.bus_width == other.bus_width


class ReadClient(wiring.Component):
    """Turns transfers into a stream of their beats.

    A burst is asked for only when the buffer has room for the whole of it, so that no client can
    hold up the data of another on the bus that they share.

    Parameters
    ----------
    bus_width : int
        Bits of a beat.
    depth : int
        Beats in the buffer: a power of two.
    maximum_burst : int
        Most beats in a burst, at most ``depth``.
    beats_width : int
        Bits of a transfer's number of beats.
    urgent_below : int
        Bursts are urgent while fewer beats are held or on their way; by default always.
    beats_together : int
        Beats that are given in one cycle, 1 or 2; every transfer's number is a multiple of it.
    repeats : bool
        What has been read may be given again.

    Members
    -------
    transfers : ``In(stream.Signature(transfer_layout(beats_width, 1)))``
    output : ``Out(stream.Signature(beat_layout(beats_together * bus_width)))``
        All beats of all transfers, in order.
    port : ``Out(ReadPortSignature(bus_width))``
    idle : ``Out(1)``
        No transfer is being cut, all beats that were asked for have come and have been taken; a
        cycle late.
    asked : ``Out(1)``
        There is room for all beats of the transfers that have been taken.
    repeats, drop : ``In``
        As those of `hw.repeating_fifo.RepeatingFIFO`, whose entries are ``beats_together`` beats; only with
        ``repeats``.
    """

    def __init__(self, bus_width: int, *, depth: int, maximum_burst: int, beats_width: int,
                 urgent_below: int | None = None, beats_together: int = 1, repeats: bool = False) -> None:
        if maximum_burst > depth:
            raise ValueError(f"maximum_burst must be at most depth ({depth}), not {maximum_burst!r}")
        self.bus_width = bus_width
        self.depth = depth
        self.maximum_burst = maximum_burst
        self.beats_width = beats_width
        self.beats_together = beats_together
        self.urgent_below = depth + 1 if urgent_below is None else urgent_below
        self.may_repeat = repeats
        again = {"repeats": In(stream.Signature(repeat_layout(depth // beats_together))), "drop": In(1)}
        super().__init__({
            "transfers": In(stream.Signature(transfer_layout(beats_width, 1))),
            "output": Out(stream.Signature(beat_layout(beats_together * bus_width))),
            "port": Out(ReadPortSignature(bus_width)),
            "idle": Out(1),
            "asked": Out(1),
            **(again if repeats else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.splitter = splitter = BurstSplitter(self.bus_width // 8, self.maximum_burst,
                                                         self.beats_width, 1)
        held = beat_layout(self.beats_together * self.bus_width)
        m.submodules.queue = queue = BlockQueue(width=held.size, depth=self.depth // self.beats_together,
                                                repeats=self.may_repeat)
        m.d.comb += [
            self.output.valid.eq(queue.output.valid),
            self.output.payload.eq(queue.output.payload),
            queue.output.ready.eq(self.output.ready),
        ]
        wiring.connect(m, splitter.transfers, wiring.flipped(self.transfers))

        # a burst's room is put aside before the burst goes to the port; that there is enough is seen in
        # one cycle and used in the next, so a burst is asked for in every second one
        m.submodules.reserved = reserved = SkidBuffer(burst_layout(1))
        wiring.connect(m, reserved.output, wiring.flipped(self.port.bursts))
        room = Signal(range(self.depth + 1), init=self.depth)  # neither asked for nor held
        enough = Signal()
        ask = Signal()
        asked = Signal(range(self.maximum_burst + 1))
        length = splitter.bursts.payload.length
        few: Value = room > self.depth - self.urgent_below  # beats are held or on their way
        if self.may_repeat:
            wiring.connect(m, wiring.flipped(self.repeats), queue.repeats)
            m.d.comb += queue.drop.eq(self.drop)
            # what is held to be given again later is not what comes next
            unread, more = Signal(range(2 * self.depth)), Signal(range(self.depth + 1))
            m.d.sync += [
                unread.eq(unread + asked + more - Mux(queue.gave, self.beats_together, 0)),
                more.eq(queue.again << exact_log2(self.beats_together)),
            ]
            few = unread < self.urgent_below
        m.d.comb += [
            reserved.input.payload.eq(splitter.bursts.payload),
            reserved.input.valid.eq(splitter.bursts.valid & enough),
            splitter.bursts.ready.eq(reserved.input.ready & enough),
            ask.eq(splitter.bursts.valid & splitter.bursts.ready),
        ]
        with m.If(ask):
            m.d.comb += asked.eq(length + 1)
        m.d.sync += [
            enough.eq(splitter.bursts.valid & ~ask & (room > length)),
            room.eq(room - asked + Mux(queue.freed, self.beats_together, 0)),
            self.port.urgent.eq(few & (
                reserved.output.valid | (~splitter.idle & (room >= self.maximum_burst)))),
            self.idle.eq(self.asked & ~splitter.transfers.valid & (room == self.depth)
                         & ~queue.waits),
        ]
        # a register, because the port is far away
        beat, beat_valid = Signal(beat_layout(self.bus_width), reset_less=True), Signal()
        m.d.sync += [beat.eq(self.port.beats.payload), beat_valid.eq(self.port.beats.valid)]
        arrived, arrives = Signal(held.size), Signal()
        m.d.comb += [
            self.asked.eq(splitter.idle),
            arrived.eq(beat),
            arrives.eq(beat_valid),
            queue.w_data.eq(arrived),
            queue.w_en.eq(arrives),
        ]
        if self.beats_together == 2:
            first = Signal(beat_layout(self.bus_width), reset_less=True)
            half = Signal()
            with m.If(beat_valid):
                m.d.sync += [first.eq(beat), half.eq(~half)]
            m.d.comb += [
                arrived.eq(Cat(first.data, beat.data, beat.tag, first.error | beat.error)),
                arrives.eq(beat_valid & half),
            ]
        return m
