"""The store unit: feature maps from the scratchpad to external memory (STORE in `docs/machine.md`)."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.axi import ADDRESS_WIDTH, BURST_INCR, ID_WIDTH, Response
from hw.block_queue import BlockQueue
from hw.bursts import BurstSplitter
from hw.copies import copies
from hw.isa import Opcode, layout_of
from hw.machine import Machine
from hw.scratchpad import place_at, place_layout
from hw.skid_buffer import SkidBuffer
from hw.tokens import TokenPort
from hw.walk import MEMORY_WALK, SCRATCH_WALK, RowWalker, WordWalker, beats_width

__all__ = ["DEPTH", "AXI4Write", "Store"]

#: Bits of a beat that are chosen by the same register.
_PIECE = 32
#: What the buffer holds unless its depth is given: words.
DEPTH = 512


class AXI4Write(wiring.Signature):
    """The AW, W and B channels of `hw.axi.AXI4`, under the same names."""

    def __init__(self, data_width: int) -> None:
        self.data_width = data_width
        super().__init__({
            "awid": Out(ID_WIDTH), "awaddr": Out(ADDRESS_WIDTH), "awlen": Out(8), "awsize": Out(3),
            "awburst": Out(2), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(data_width), "wstrb": Out(data_width // 8), "wlast": Out(1),
            "wvalid": Out(1), "wready": In(1),
            "bid": In(ID_WIDTH), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AXI4Write) and self.data_width == other.data_width


class Store(wiring.Component):
    """Reads words from the scratchpad and writes them to memory in rows.

    A burst's address is given when all its data is in the buffer, so that the accelerator never
    holds the bus in the middle of a burst.  A STORE gives its tokens when the memory has
    acknowledged its last burst; the next STORE may already be on its way then.

    Parameters
    ----------
    machine : Machine
    depth : int
        Words in the buffer between scratchpad and bus; room for two bursts.
    maximum_burst : int
        Most beats in a burst.
    outstanding : int
        Most bursts that the memory has not acknowledged.

    Members
    -------
    instructions : ``In(stream.Signature(layout_of(Opcode.STORE)))``
    tokens : ``Out(TokenPort)``
    read : ``Out(stream.Signature(place_layout(input_lanes)))``
        Where words are in the scratchpad.
    read_data, read_valid : ``In``
        Their words, in order, a fixed time later.
    axi : ``Out(AXI4Write(bus_width))``
    busy : ``Out(1)``
        A store is being executed.
    beat : ``Out(1)``
        Strobe: a beat was given to the bus.
    error : ``Out(1)``
        Strobe: the memory answered something other than OKAY.
    """

    def __init__(self, machine: Machine, *, depth: int = DEPTH, maximum_burst: int = 64,
                 outstanding: int = 16) -> None:
        if depth * machine.beats_per_word < 2 * maximum_burst:
            least = 2 * maximum_burst // machine.beats_per_word
            raise ValueError(f"depth must be at least {least}, not {depth!r}")
        self.machine = machine
        self.depth = depth
        self.maximum_burst = maximum_burst
        self.outstanding = outstanding
        super().__init__({
            "instructions": In(stream.Signature(layout_of(Opcode.STORE))),
            "tokens": Out(TokenPort),
            "read": Out(stream.Signature(place_layout(machine.input_lanes))),
            "read_data": In(8 * machine.word_bytes),
            "read_valid": In(1),
            "axi": Out(AXI4Write(machine.bus_width)),
            "busy": Out(1),
            "beat": Out(1),
            "error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine, axi = self.machine, self.axi
        parts = machine.beats_per_word
        m.submodules.rows = rows = RowWalker(machine)
        m.submodules.words = words = WordWalker()
        m.submodules.splitter = splitter = BurstSplitter(machine.bus_bytes, self.maximum_burst,
                                                         beats_width(machine), RowWalker.TAG)
        m.submodules.queue = queue = BlockQueue(width=8 * machine.word_bytes, depth=self.depth)
        wiring.connect(m, rows.rows, splitter.transfers)

        # A STORE takes its tokens when they are there and both loops are free, and starts a cycle later.
        # That they are free is a cycle old, so it does not count in the two that follow a start.
        start, started, free = Signal(), Signal(), Signal()
        for walker, shape in ((rows, MEMORY_WALK), (words, SCRATCH_WALK)):
            m.d.comb += [walker.walks.payload[name].eq(self.instructions.payload[name])
                         for name in shape.members if name != "narrow"]
            m.d.comb += walker.walks.valid.eq(start)
        m.d.comb += [
            self.tokens.wait.eq(self.instructions.payload.wait),
            self.tokens.wait_valid.eq(self.instructions.valid & free & ~start & ~started),
            self.instructions.ready.eq(start),
        ]
        m.d.sync += [
            start.eq(self.tokens.wait_valid & self.tokens.wait_ready),
            started.eq(start),
            free.eq(rows.walks.ready & words.walks.ready),
        ]

        # scratchpad to buffer: `room` counts words that have neither been asked for nor are held;
        # `more_room` is a cycle late, so it leaves one for what was asked in the meantime
        room = Signal(range(self.depth + 1), init=self.depth)
        more_room = Signal(init=1)
        asked = Signal()
        # between two block RAMs, which are slow and far from each other
        arrived = Signal(8 * machine.word_bytes, reset_less=True)
        arrived_valid = Signal()
        m.submodules.reads = reads = SkidBuffer(place_layout(machine.input_lanes))
        wiring.connect(m, reads.output, wiring.flipped(self.read))
        m.d.comb += [
            reads.input.payload.eq(place_at(m, words.words.payload.address, machine.input_lanes,
                                            wanted=reads.input.valid)),
            reads.input.valid.eq(words.words.valid & more_room),
            words.words.ready.eq(reads.input.ready & more_room),
            asked.eq(words.words.valid & words.words.ready),
            queue.w_data.eq(arrived),
            queue.w_en.eq(arrived_valid),
        ]
        m.d.sync += [arrived.eq(self.read_data), arrived_valid.eq(self.read_valid)]
        m.d.sync += [room.eq(room - asked + queue.gave), more_room.eq(room > 1)]

        # addresses: `held` counts beats in the buffer that no burst has claimed; that they are enough
        # is seen in one cycle and used in the next
        held = Signal(range(self.depth * parts + 1))
        address = Signal.like(axi.awaddr, reset_less=True)
        burst_length = Signal.like(axi.awlen, reset_less=True)
        claimed = Signal(range(self.maximum_burst + 1))
        enough, issue = Signal(), Signal()
        m.submodules.lengths = lengths = SyncFIFO(width=8, depth=self.outstanding)
        m.submodules.answers = answers = SyncFIFO(width=4, depth=self.outstanding)
        burst = splitter.bursts
        # a cycle late, so one less than there is
        open_for_more = Signal()
        m.d.sync += open_for_more.eq((lengths.level < self.outstanding - 1)
                                     & (answers.level < self.outstanding - 1))
        m.d.comb += [
            issue.eq(enough & (~axi.awvalid | axi.awready) & open_for_more),
            burst.ready.eq(issue),
            lengths.w_en.eq(issue),
            lengths.w_data.eq(burst.payload.length),
            answers.w_en.eq(issue),
            answers.w_data[0].eq(burst.payload.last & burst.payload.tag.last),
            answers.w_data[1:].eq(burst.payload.tag.signal),
            axi.awid.eq(0),
            axi.awaddr.eq(address),
            axi.awlen.eq(burst_length),
            axi.awburst.eq(BURST_INCR),
            axi.awsize.eq(exact_log2(machine.bus_bytes)),
        ]
        with m.If(issue):
            m.d.comb += claimed.eq(burst.payload.length + 1)
        m.d.sync += [
            held.eq(held - claimed + Mux(arrived_valid, parts, 0)),
            enough.eq(burst.valid & ~issue & (held > burst.payload.length)),
        ]
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(issue):
            m.d.sync += [
                axi.awvalid.eq(1),
                address.eq(burst.payload.address),
                burst_length.eq(burst.payload.length),
            ]

        # data: words into beats, each burst's beats counted
        pieces = [slice(low, low + _PIECE) for low in range(0, machine.bus_width, _PIECE)]
        m.submodules.length = length = SkidBuffer(8)
        m.submodules.output = output = SkidBuffer(data.StructLayout({"data": machine.bus_width, "last": 1}))
        part, next_part = Signal(range(parts)), Signal(range(parts))  # of the word, that is the next beat
        beats_left = Signal(8, reset_less=True)  # after the next one
        in_burst = Signal()
        step, burst_done = Signal(), Signal()
        chosen_parts = copies(m, next_part, len(pieces), "part", init=0)
        m.d.comb += [
            step.eq(queue.output.valid & in_burst & output.input.ready),
            burst_done.eq(step & (beats_left == 0)),
            queue.output.ready.eq(in_burst & output.input.ready & (part == parts - 1)),
            length.input.payload.eq(lengths.r_data),
            length.input.valid.eq(lengths.r_rdy),
            lengths.r_en.eq(length.input.ready),
            length.output.ready.eq(~in_burst | burst_done),
            output.input.valid.eq(step),
            *(output.input.payload.data[piece].eq(
                queue.output.payload.word_select(chosen, machine.bus_width)[piece])
              for piece, chosen in zip(pieces, chosen_parts, strict=True)),
            next_part.eq(part),
            output.input.payload.last.eq(beats_left == 0),
            axi.wvalid.eq(output.output.valid),
            axi.wdata.eq(output.output.payload.data),
            axi.wlast.eq(output.output.payload.last),
            output.output.ready.eq(axi.wready),
            axi.wstrb.eq(-1),
            self.beat.eq(axi.wvalid & axi.wready),
        ]
        m.d.sync += part.eq(next_part)
        with m.If(step):
            m.d.comb += next_part.eq(Mux(part == parts - 1, 0, part + 1))
            m.d.sync += beats_left.eq(beats_left - 1)
        with m.If(length.output.ready):
            m.d.sync += [in_burst.eq(length.output.valid), beats_left.eq(length.output.payload)]

        # answers
        answered, wrong = Signal(), Signal()
        m.d.comb += [
            axi.bready.eq(1),
            answers.r_en.eq(answered),
            self.error.eq(answered & wrong),
            self.busy.eq(~rows.walks.ready | ~splitter.idle | answers.r_rdy | self.tokens.signal_valid),
        ]
        m.d.sync += [
            answered.eq(axi.bvalid),
            wrong.eq(axi.bresp != Response.OKAY),
            self.tokens.signal.eq(answers.r_data[1:]),
            self.tokens.signal_valid.eq(answered & answers.r_rdy & answers.r_data[0]),
        ]
        return m
