"""Weights that stay on the chip from one inference to the next: a memory between weights unit and bus.

The memory holds what is at one range of addresses.  A run fills it with the beats that it reads there; the
runs after it, if the host says so, read the range from it, one beat a cycle, and not over the bus.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from hw.axi import ADDRESS_WIDTH
from hw.bursts import burst_layout
from hw.delay_line import delay_line
from hw.dual_port_memory import MemoryKind
from hw.kept_memory import KEPT_LATENCY, KeptMemory
from hw.machine import Machine
from hw.read_client import ReadPortSignature
from hw.skid_buffer import SkidBuffer

__all__ = ["KeptWeights"]

#: Most bursts whose beats have not come.
_OUTSTANDING = 32
#: Cycles by which beats of the bus are late at the memory: their bursts are known by then.
_LATE = 3


class KeptWeights(wiring.Component):
    """Answers the bursts of one client, in order, from the memory or from the bus.

    Bursts end at multiples of `Machine.kept_alignment`, so each lies in the range or outside.

    Parameters
    ----------
    machine : Machine
        With ``kept_weight_words``.
    memory : "portable" or "ecp5"
        See `hw.kept_memory.KeptMemory`.

    Members
    -------
    client, port : ``In``, ``Out(ReadPortSignature(bus_width))``
        On the side of the weights unit and on that of the bus.
    address : ``In(32)``
        First byte of the range: a multiple of `Machine.kept_alignment`.
    kept : ``In(1)``
        The range is read from the memory; else from the bus, and into the memory.  It stays the same as long
        as there are bursts.
    """

    def __init__(self, machine: Machine, *, memory: MemoryKind = "portable") -> None:
        self.machine = machine
        self.memory: MemoryKind = memory
        super().__init__({
            "client": In(ReadPortSignature(machine.bus_width)),
            "port": Out(ReadPortSignature(machine.bus_width)),
            "address": In(ADDRESS_WIDTH),
            "kept": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine, client, port = self.machine, self.client, self.port
        words = machine.kept_weight_words
        beat_bits, chunk_bits = exact_log2(machine.bus_bytes), exact_log2(machine.kept_alignment)
        place_bits = ceil_log2(words)
        shape = burst_layout(1)
        m.submodules.waiting = waiting = SkidBuffer(shape)
        wiring.connect(m, waiting.input, wiring.flipped(client.bursts))

        # where a burst lies in the range, is known in two steps
        first, first_valid, first_moves = Signal(shape, reset_less=True), Signal(), Signal()
        distance = Signal(ADDRESS_WIDTH - chunk_bits, reset_less=True)
        burst, burst_valid, burst_leaves = Signal(shape, reset_less=True), Signal(), Signal()
        place = Signal(place_bits, reset_less=True)
        inside, from_memory = Signal(reset_less=True), Signal()
        m.d.comb += [
            first_moves.eq(~burst_valid | burst_leaves),
            waiting.output.ready.eq(~first_valid | first_moves),
        ]
        with m.If(waiting.output.ready):
            m.d.sync += [
                first_valid.eq(waiting.output.valid),
                first.eq(waiting.output.payload),
                distance.eq(waiting.output.payload.address[chunk_bits:] - self.address[chunk_bits:]),
            ]
        is_inside = Signal()
        m.d.comb += is_inside.eq(distance < words * machine.bus_bytes >> chunk_bits)
        with m.If(first_moves):
            m.d.sync += [
                burst_valid.eq(first_valid),
                burst.eq(first),
                place[chunk_bits - beat_bits:].eq(distance),
                place[:chunk_bits - beat_bits].eq(first.address[beat_bits:chunk_bits]),
                inside.eq(is_inside),
                from_memory.eq(is_inside & self.kept),
            ]

        # to the bus, when nothing from the memory is on its way
        reading, last = Signal(), Signal()
        comes = delay_line(m, reading, 1 + KEPT_LATENCY, "comes", init=0)
        asks, starts = Signal(), Signal()
        # registers, because all that waits for its turn hangs on them
        none_comes, none_owed = Signal(init=1), Signal(init=1)
        m.submodules.asked = asked = SkidBuffer(shape)
        wiring.connect(m, asked.output, wiring.flipped(port.bursts))
        coming = data.StructLayout({"place": place_bits, "length": len(burst.length), "inside": 1})
        m.submodules.order = order = SyncFIFOBuffered(width=coming.size, depth=_OUTSTANDING)
        entry = Signal(coming)
        m.d.comb += [
            asks.eq(burst_valid & ~from_memory & none_comes & asked.input.ready & order.w_rdy),
            burst_leaves.eq(asks | starts),
            asked.input.valid.eq(asks),
            asked.input.payload.eq(burst),
            entry.place.eq(place),
            entry.length.eq(burst.length),
            entry.inside.eq(inside),
            order.w_en.eq(asks),
            order.w_data.eq(entry.as_value()),
        ]
        # urgent as long as the client was when it gave the last burst
        urgent, quiet = Signal(), Signal()
        m.d.comb += quiet.eq(~waiting.output.valid & ~first_valid & ~burst_valid & ~asked.output.valid)
        with m.If(client.bursts.valid | client.urgent | quiet):
            m.d.sync += urgent.eq(client.urgent)
        m.d.sync += port.urgent.eq(urgent & ~(burst_valid & from_memory) & ~reading)

        # beats of the bus, late, and which of the range they are
        arrives = delay_line(m, port.beats.valid, _LATE, "arrives", init=0)[-1]
        arrived = delay_line(m, port.beats.payload.data, _LATE, "arrived")[-1]
        now = Signal(coming, reset_less=True)
        now_valid, now_last = Signal(), Signal()
        owed = Signal(range(_OUTSTANDING + 1))  # bursts
        following = Signal(coming)
        m.d.comb += [
            following.eq(order.r_data),
            now_last.eq(arrives & (now.length == 0)),
            order.r_en.eq(~now_valid | now_last),
        ]
        m.d.sync += [
            owed.eq(owed + asks - now_last),
            none_owed.eq((owed == 0) & ~asks),
            none_comes.eq(~(Cat(comes[:-1]).any() | starts)),
        ]
        with m.If(order.r_en):
            m.d.sync += [now.eq(following), now_valid.eq(order.r_rdy)]
        with m.Elif(arrives):
            m.d.sync += [now.place.eq(now.place + 1), now.length.eq(now.length - 1)]

        # from the memory, when nothing from the bus is on its way
        read_place, left = Signal(place_bits, reset_less=True), Signal(len(burst.length), reset_less=True)
        tag = Signal(reset_less=True)
        m.d.comb += starts.eq(burst_valid & from_memory & none_owed & (~reading | last))
        with m.If(starts):
            m.d.sync += [reading.eq(1), read_place.eq(place), left.eq(burst.length), tag.eq(burst.tag),
                         last.eq(burst.length == 0)]
        with m.Else():
            m.d.sync += [read_place.eq(read_place + 1), left.eq(left - 1), last.eq(left == 1)]
            with m.If(last):
                m.d.sync += reading.eq(0)
        m.submodules.memory = memory = KeptMemory(machine.bus_width, words, kind=self.memory)
        m.d.sync += [
            memory.address.eq(Mux(self.kept, read_place, now.place)),
            memory.write.eq(arrives & now.inside & ~self.kept),
            memory.write_data.eq(arrived),
        ]
        tag_comes = delay_line(m, tag, 1 + KEPT_LATENCY, "tag")[-1]
        bus = port.beats
        m.d.comb += [
            client.beats.valid.eq(bus.valid | comes[-1]),
            client.beats.payload.data.eq(Mux(comes[-1], memory.data, bus.payload.data)),
            client.beats.payload.tag.eq(Mux(comes[-1], tag_comes, bus.payload.tag)),
            client.beats.payload.error.eq(bus.payload.error & ~comes[-1]),
        ]
        return m
