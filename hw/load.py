"""The load unit: feature maps from external memory to the scratchpad (LOAD in `docs/machine.md`)."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from hw.copies import copies
from hw.isa import NARROW_BYTES, Opcode, layout_of
from hw.machine import Machine
from hw.read_client import ReadClient, ReadPortSignature
from hw.scratchpad import place_at, place_layout
from hw.skid_buffer import SkidBuffer
from hw.tokens import TokenPort
from hw.walk import MEMORY_WALK, SCRATCH_WALK, RowWalker, WordWalker, beats_width
from hw.word_ring import WordRing

__all__ = ["DEPTH", "Load"]

#: Words between the queue of beats and the scratchpad.
_WORDS = 7
#: Bits of a word that the same register makes narrow.
_PART = 32
#: What the buffer holds unless its depth is given: beats.
DEPTH = 512


class Load(wiring.Component):
    """Reads rows of words from memory and writes them into the scratchpad.

    Addresses run ahead of data, also from one LOAD to the next: a LOAD that has its tokens may ask
    for its rows while the one before it still writes.  Words are written in order.  A narrow LOAD's beats
    have several words each, of which one is written in a cycle.

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

        # A LOAD takes its tokens when they are there and the row loops are free, and starts a cycle later.
        # That they are free is a cycle old, so it does not count in the two that follow a start.
        memory_walk, scratch_walk = Signal(MEMORY_WALK), Signal(SCRATCH_WALK)
        for walk in (memory_walk, scratch_walk):
            m.d.comb += [walk[name].eq(self.instructions.payload[name]) for name in walk.shape().members]
        start, started, free = Signal(), Signal(), Signal()
        m.d.comb += [
            self.tokens.wait.eq(self.instructions.payload.wait),
            self.tokens.wait_valid.eq(self.instructions.valid & free & ~start & ~started),
            self.instructions.ready.eq(start),
            rows.walks.valid.eq(start),
            rows.walks.payload.eq(memory_walk),
            walks.w_en.eq(start),
            walks.w_data.eq(scratch_walk.as_value()),
            words.walks.valid.eq(walks.r_rdy),
            words.walks.payload.eq(walks.r_data),
            walks.r_en.eq(words.walks.ready),
        ]
        m.d.sync += [
            start.eq(self.tokens.wait_valid & self.tokens.wait_ready),
            started.eq(start),
            free.eq(rows.walks.ready & walks.w_rdy),
        ]
        m.d.comb += [
            client.transfers.valid.eq(rows.rows.valid),
            client.transfers.payload.address.eq(rows.rows.payload.address),
            client.transfers.payload.beats.eq(rows.rows.payload.beats),
            client.transfers.payload.tag.eq(rows.rows.payload.tag.narrow),
            rows.rows.ready.eq(client.transfers.ready),
        ]

        # Beats become words.  These wait in a ring, two in step with their places and some more: nothing wide
        # hangs on port B's grant, and the queue only on the ring's room.
        word = Signal(8 * machine.word_bytes)
        completes, room = Signal(), Signal()
        if machine.word_bytes == NARROW_BYTES:  # a beat is a word, narrow or not
            m.d.comb += [word.eq(client.output.payload.data), completes.eq(client.output.valid & room),
                         client.output.ready.eq(room)]
        else:
            self._assemble(m, client, word, completes, room)
        m.submodules.ring = ring = WordRing(width=8 * machine.word_bytes, depth=_WORDS + 1)
        held, left = Signal(range(_WORDS + 1)), Signal()   # in the ring; one leaves it
        unplaced, next_unplaced = Signal.like(held), Signal.like(held)
        some_unplaced = Signal()
        # registers, so that port B's multiplexer and grant hang on nothing slower
        banks = machine.input_lanes
        m.submodules.output = output = SkidBuffer(data.StructLayout({
            "place": place_layout(banks), "last": 1, "signal": 3,
        }))
        m.d.comb += [
            ring.w_data.eq(word),
            ring.w_en.eq(completes),
            ring.r_en.eq(left),
            self.write_data.eq(ring.r_data),
            next_unplaced.eq(unplaced + completes - (output.input.valid & output.input.ready)),
            output.input.valid.eq(words.words.valid & some_unplaced),
            output.input.payload.place.eq(
                place_at(m, words.words.payload.address, banks, wanted=output.input.valid)),
            output.input.payload.last.eq(words.words.payload.last),
            output.input.payload.signal.eq(words.words.payload.signal),
            words.words.ready.eq(output.input.ready & some_unplaced),
            self.write.valid.eq(output.output.valid),
            self.write.payload.eq(output.output.payload.place),
            output.output.ready.eq(self.write.ready),
        ]
        m.d.sync += [
            left.eq(self.write.valid & self.write.ready),
            held.eq(held + completes - left),
            # a cycle late, so it leaves one for what came in the meantime
            room.eq(held < _WORDS - 1),
            unplaced.eq(next_unplaced),
            some_unplaced.eq(next_unplaced != 0),
        ]
        # given one cycle after the write; whoever takes the token in the next one sees the word
        m.d.sync += [
            self.tokens.signal.eq(output.output.payload.signal),
            self.tokens.signal_valid.eq(self.write.valid & self.write.ready & output.output.payload.last),
        ]
        m.d.comb += self.busy.eq(~rows.walks.ready | walks.r_rdy | words.words.valid | self.write.valid
                                 | self.tokens.signal_valid)
        return m

    def _assemble(self, m: Module, client: ReadClient, word: Signal, completes: Signal, room: Signal) -> None:
        """Beats to words: wide ones are gathered, the last of them going straight through; narrow ones are
        taken apart.

        Parameters
        ----------
        m : Module
        client : ReadClient
            Its beats' tags say which are narrow.
        word, completes : Signal
            Driven: the word, and that it is complete in this cycle.
        room : Signal
            A register: one may be.
        """
        machine, beat = self.machine, client.output
        parts, pieces = machine.beats_per_word, machine.bus_bytes // NARROW_BYTES
        held = Signal(machine.bus_width, reset_less=True)   # a beat; if narrow, the next word comes first
        full, narrow, next_narrow = Signal(), Signal(), Signal()
        more = Signal(pieces)  # a one for each word of the beat behind the next one
        moves, step = Signal(), Signal()
        m.d.comb += [
            step.eq(full & room),
            moves.eq(~full | room),
            beat.ready.eq(~full | (room & ~more[0])),
            next_narrow.eq(Mux(beat.ready, beat.payload.tag, narrow)),
        ]
        m.d.sync += narrow.eq(next_narrow)
        with m.If(beat.ready):
            m.d.sync += [full.eq(beat.valid),
                         more.eq(Mux(beat.valid & beat.payload.tag, (1 << pieces - 1) - 1, 0))]
        with m.Elif(step):
            m.d.sync += more.eq(more >> 1)
        with m.If(moves):
            m.d.sync += held.eq(Mux(more[0], held >> 8 * NARROW_BYTES, beat.payload.data))
        if parts == 1:
            whole = held
            m.d.comb += completes.eq(step)
        else:
            earlier = Signal((parts - 1) * machine.bus_width, reset_less=True)
            part = Signal(range(parts))  # of a wide word
            whole = Cat(earlier, held)
            m.d.comb += completes.eq(step & (narrow | (part == parts - 1)))
            with m.If(step):
                m.d.sync += earlier.eq(whole[machine.bus_width:])
                with m.If(~narrow):
                    m.d.sync += part.eq(part + 1)
        spread = held[:8 * NARROW_BYTES]  # of a narrow word
        starts = range(0, len(word), _PART)
        for start, chosen in zip(starts, copies(m, next_narrow, len(starts), "narrow"), strict=True):
            bits = slice(start, min(start + _PART, len(word)))
            m.d.comb += word[bits].eq(Mux(chosen, spread[bits], whole[bits]))
