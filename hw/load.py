"""The load unit: feature maps from external memory to the scratchpad (LOAD in `docs/machine.md`)."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.copies import copies
from hw.isa import Opcode, layout_of
from hw.machine import Machine
from hw.read_client import ReadClient, ReadPortSignature
from hw.scratchpad import place_at, place_layout
from hw.stream_register import SkidBuffer
from hw.tokens import TokenPort
from hw.walk import MEMORY_WALK, SCRATCH_WALK, RowWalker, WordWalker, beats_width

__all__ = ["DEPTH", "Load"]

#: Bits of a word that are held and given by the same registers.
_PART = 32
#: What the buffer holds unless its depth is given: beats.
DEPTH = 512


class Load(wiring.Component):
    """Reads rows of words from memory and writes them into the scratchpad.

    Addresses run ahead of data, also from one LOAD to the next: a LOAD that has its tokens may ask
    for its rows while the one before it still writes.  Words are written in order.

    Parameters
    ----------
    machine : Machine
    depth : int
        Beats that may be asked for and not yet be in the scratchpad.
    maximum_burst : int
        Most beats in a burst.

    Members
    -------
    instructions : ``In(stream.Signature(layout_of(Opcode.LOAD)))``
    tokens : ``Out(TokenPort)``
    port : ``Out(ReadPortSignature(bus_width))``
    write : ``Out(stream.Signature(place_layout(input_lanes)))``
        Where words go in the scratchpad.
    write_data : ``Out(8 * output_lanes)``
        The word whose place was taken in the cycle before.
    busy : ``Out(1)``
        A load is being executed.
    """

    def __init__(self, machine: Machine, *, depth: int = DEPTH, maximum_burst: int = 64) -> None:
        self.machine = machine
        self.depth = depth
        self.maximum_burst = maximum_burst
        super().__init__({
            "instructions": In(stream.Signature(layout_of(Opcode.LOAD))),
            "tokens": Out(TokenPort),
            "port": Out(ReadPortSignature(machine.bus_width)),
            "write": Out(stream.Signature(place_layout(machine.input_lanes))),
            "write_data": Out(8 * machine.word_bytes),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        m.submodules.rows = rows = RowWalker(machine)
        m.submodules.words = words = WordWalker()
        m.submodules.client = client = ReadClient(machine.bus_width, depth=self.depth,
                                                  maximum_burst=self.maximum_burst,
                                                  beats_width=beats_width(machine))
        m.submodules.walks = walks = SyncFIFOBuffered(width=SCRATCH_WALK.size, depth=5)
        wiring.connect(m, client.port, wiring.flipped(self.port))

        # a LOAD takes its tokens when they are there and the row loops are free, and starts a cycle later
        memory_walk, scratch_walk = Signal(MEMORY_WALK), Signal(SCRATCH_WALK)
        for walk in (memory_walk, scratch_walk):
            m.d.comb += [walk[name].eq(self.instructions.payload[name]) for name in walk.shape().members]
        start = Signal()
        m.d.comb += [
            self.tokens.wait.eq(self.instructions.payload.wait),
            self.tokens.wait_valid.eq(self.instructions.valid & rows.walks.ready & walks.w_rdy & ~start),
            self.instructions.ready.eq(start),
            rows.walks.valid.eq(start),
            rows.walks.payload.eq(memory_walk),
            walks.w_en.eq(start),
            walks.w_data.eq(scratch_walk.as_value()),
            words.walks.valid.eq(walks.r_rdy),
            words.walks.payload.eq(walks.r_data),
            walks.r_en.eq(words.walks.ready),
        ]
        m.d.sync += start.eq(self.tokens.wait_valid & self.tokens.wait_ready)
        m.d.comb += [
            client.transfers.valid.eq(rows.rows.valid),
            client.transfers.payload.address.eq(rows.rows.payload.address),
            client.transfers.payload.beats.eq(rows.rows.payload.beats),
            rows.rows.ready.eq(client.transfers.ready),
        ]

        # beats are gathered into a word, the last of them going straight through
        word = Signal(8 * machine.word_bytes, reset_less=True)
        parts = machine.beats_per_word
        complete = Signal()
        beat = client.output
        if parts == 1:
            m.d.comb += [word.eq(beat.payload.data), complete.eq(1)]
        else:
            earlier = Signal((parts - 1) * machine.bus_width, reset_less=True)
            part = Signal(range(parts))
            m.d.comb += [word.eq(Cat(earlier, beat.payload.data)), complete.eq(part == parts - 1)]
            with m.If(beat.valid & beat.ready):
                m.d.sync += [part.eq(part + 1), earlier.eq(word[machine.bus_width:])]
        # registers, so that port B's multiplexer and grant hang on nothing slower
        banks = machine.input_lanes
        m.submodules.output = output = SkidBuffer(data.StructLayout({
            "place": place_layout(banks), "last": 1, "signal": 3,
        }))
        self._data(m, word, output.input.valid & output.input.ready, self.write.valid & self.write.ready)
        m.d.comb += [
            output.input.valid.eq(words.words.valid & beat.valid & complete),
            output.input.payload.place.eq(place_at(m, words.words.payload.address, banks)),
            output.input.payload.last.eq(words.words.payload.last),
            output.input.payload.signal.eq(words.words.payload.signal),
            words.words.ready.eq(output.input.ready & beat.valid & complete),
            beat.ready.eq(~complete | (words.words.valid & output.input.ready)),
            self.write.valid.eq(output.output.valid),
            self.write.payload.eq(output.output.payload.place),
            output.output.ready.eq(self.write.ready),
        ]
        # given one cycle after the write; whoever takes the token in the next one sees the word
        m.d.sync += [
            self.tokens.signal.eq(output.output.payload.signal),
            self.tokens.signal_valid.eq(self.write.valid & self.write.ready & output.output.payload.last),
        ]
        m.d.comb += self.busy.eq(rows.rows.valid | walks.r_rdy | words.words.valid | self.write.valid
                                 | self.tokens.signal_valid)
        return m

    def _data(self, m: Module, word: Value, written: Value, placed: Value) -> None:
        """Words from ``written`` until the cycle after ``placed``: two in step with their places and one
        more, so that nothing wide hangs on port B's grant."""
        leaves, place, following = Signal(), Signal(2), Signal(2)
        m.d.comb += following.eq(place + leaves)
        m.d.sync += [leaves.eq(placed), place.eq(following)]
        count = len(word)
        parts = [slice(first, min(first + _PART, count)) for first in range(0, count, _PART)]
        writing = Signal(2)
        next_writing = Signal(2)
        m.d.comb += next_writing.eq(writing + written)
        m.d.sync += writing.eq(next_writing)
        places = copies(m, following, len(parts), "place", init=0)
        rows = copies(m, next_writing, len(parts), "writing", init=0)
        for number, (part, read_place, row) in enumerate(zip(parts, places, rows, strict=True)):
            held = Memory(shape=part.stop - part.start, depth=4, init=[], attrs={"ram_style": "distributed"})
            m.submodules[f"held{number}"] = held
            write, read = held.write_port(), held.read_port(domain="comb")
            m.d.comb += [
                # what is not there yet may be written as often as it likes
                write.addr.eq(row), write.en.eq(1), write.data.eq(word[part]),
                read.addr.eq(read_place), self.write_data[part].eq(read.data),
            ]
