"""The fetch unit: reads the program and hands each instruction to its unit's queue."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.instruction_queue import InstructionQueue
from hw.isa import INSTRUCTION_BYTES, Opcode, layout_of
from hw.machine import Machine
from hw.program_code import LEFT_OUT, WORD_BYTES
from hw.read_client import ReadClient, ReadPortSignature

__all__ = ["QUEUED", "READ_AHEAD", "Fetch"]

#: The opcodes that have a unit, and the instructions that wait for it, at most.  Few LOADs: with as many as
#: others, the instructions of low strips would be read long before the words that the first strips wait for.
QUEUED = {Opcode.LOAD: 4, Opcode.WEIGHTS: 16, Opcode.COMPUTE: 16, Opcode.STORE: 16}
#: How many times the bytes of a whole instruction are read ahead; past END they are read for nothing.
READ_AHEAD = 4


def _is_queued(opcode: Value) -> Value:
    """Whether an instruction has a unit."""
    return (opcode != Opcode.END.value) & (opcode <= max(code.value for code in QUEUED))


class Fetch(wiring.Component):
    """Reads instructions in order until END and queues them for their units.

    Words that the program leaves out (`hw.program_code`) are taken from a memory of the newest instruction
    of each opcode, one a cycle.

    Parameters
    ----------
    machine : Machine

    Members
    -------
    start : ``In(1)``
        Strobe: fetch from ``address`` on. Only while not ``busy``.
    address : ``In(32)``
        Byte address of the first instruction, a multiple of 64.
    port : ``Out(ReadPortSignature(bus_width))``
    load, weights, compute, store : ``Out(stream.Signature(layout_of(…)))``
        The queues' outputs.
    busy : ``Out(1)``
        END has not been reached, or data that was asked for is still to come.
    read_error : ``Out(1)``
        Strobe: an instruction was read with an error.
    bad_opcode : ``Out(1)``
        Strobe: an instruction's opcode is unknown; fetching stops.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "start": In(1),
            "address": In(32),
            "port": Out(ReadPortSignature(machine.bus_width)),
            **{opcode.name.lower(): Out(stream.Signature(layout_of(opcode))) for opcode in QUEUED},
            "busy": Out(1),
            "read_error": Out(1),
            "bad_opcode": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus_width = self.machine.bus_width
        beats = INSTRUCTION_BYTES // self.machine.bus_bytes
        m.submodules.client = client = ReadClient(bus_width, depth=READ_AHEAD * beats, maximum_burst=beats,
                                                  beats_width=beats.bit_length())
        wiring.connect(m, client.port, wiring.flipped(self.port))

        # reading: one burst after another, not too far ahead, until told to stop
        beat = client.output
        reading = Signal()
        address = Signal(32, reset_less=True)
        ahead = Signal(range(READ_AHEAD + 1))  # bursts that have been asked for and not been taken
        asked, taken = Signal(), Signal()
        number = Signal(range(beats))  # of the next beat in its burst
        m.d.sync += ahead.eq(ahead + asked - taken)
        m.d.comb += [
            asked.eq(client.transfers.valid & client.transfers.ready),
            taken.eq(beat.valid & beat.ready & (number == beats - 1)),
            client.transfers.valid.eq(reading & (ahead != READ_AHEAD)),
            client.transfers.payload.address.eq(address),
            client.transfers.payload.beats.eq(beats),
        ]
        with m.If(asked):
            m.d.sync += address.eq(address + INSTRUCTION_BYTES)
        with m.If(beat.valid & beat.ready):
            m.d.sync += number.eq(number + 1)
        word = stream.Signature(8 * WORD_BYTES).create()
        begins, drains = Signal(), Signal()
        self._words(m, word, beat, number, begins, drains)

        # gathering words, one cycle late, into an instruction, then handing it out
        words = Signal(8 * INSTRUCTION_BYTES, reset_less=True)
        part = Signal(range(INSTRUCTION_BYTES // WORD_BYTES))
        left_out = Signal(LEFT_OUT.stop - LEFT_OUT.start, reset_less=True)  # of the words from this one on
        kind = Signal(2)  # of the instruction, except in its first word
        m.submodules.newest = newest = Memory(
            shape=8 * WORD_BYTES, depth=4 * INSTRUCTION_BYTES // WORD_BYTES, init=[])
        write, read = newest.write_port(), newest.read_port(domain="comb")
        gathering, step, whole = Signal(), Signal(), Signal()
        all_there = Signal()  # the last word has come
        filled = left_out[0]
        # chosen behind registers, because the memory's address has a long way to all of it
        found, found_filled = Signal(8 * WORD_BYTES), Signal(reset_less=True)
        found_newest, found_word = Signal.like(found, reset_less=True), Signal.like(found, reset_less=True)
        found_error = Signal()
        found_part = Signal(INSTRUCTION_BYTES // WORD_BYTES)  # one bit for each
        damaged = Signal()
        accepted = Signal()
        m.d.comb += [
            read.addr.eq(Cat(part, kind)),
            write.addr.eq(read.addr),
            write.data.eq(word.payload),
            write.en.eq(step & ~filled),
            word.ready.eq(gathering & ~filled),
            found.eq(Mux(found_filled, found_newest, found_word)),
            step.eq(gathering & (filled | word.valid)),
            # of END, and of what is no instruction, there is no more
            whole.eq(found_part[-1] | (found_part[0] & ~_is_queued(found[:3]))),
        ]
        m.d.sync += [
            found_filled.eq(filled),
            found_newest.eq(read.data),
            found_word.eq(word.payload),
            found_error.eq(beat.valid & word.ready & beat.payload.error),
            found_part.eq(Mux(step, 1 << part, 0)),
        ]
        with m.If(step):
            m.d.sync += [part.eq(part + 1), all_there.eq(part == 7)]
            with m.If(part == 0):
                m.d.sync += [left_out.eq(word.payload[LEFT_OUT]), kind.eq(word.payload[:2])]
            with m.Else():
                m.d.sync += left_out.eq(left_out >> 1)
        for number, comes in enumerate(found_part):
            with m.If(comes):
                m.d.sync += words.word_select(number, 8 * WORD_BYTES).eq(found)

        queues = {opcode: InstructionQueue(opcode, depth=depth) for opcode, depth in QUEUED.items()}
        for known, queue in queues.items():
            m.submodules[f"{known.name.lower()}_queue"] = queue
            wiring.connect(m, queue.output, wiring.flipped(getattr(self, known.name.lower())))
            m.d.comb += queue.input.payload.eq(words)
        with m.FSM() as fsm:
            with m.State("IDLE"), m.If(self.start):
                m.d.comb += begins.eq(1)
                m.d.sync += [address.eq(self.address), reading.eq(1), damaged.eq(0)]
                m.d.sync += [part.eq(0), left_out.eq(0), all_there.eq(0)]
                m.next = "GATHER"
            with m.State("GATHER"):
                m.d.comb += gathering.eq(~all_there)
                with m.If(found_error):
                    m.d.sync += damaged.eq(1)
                with m.If(whole):
                    m.next = "DISPATCH"
            with m.State("DISPATCH"):
                with m.Switch(words[:3]):
                    with m.Case(Opcode.END):
                        m.d.comb += accepted.eq(1)
                        m.d.sync += reading.eq(0)
                        m.next = "DRAIN"
                    for known, queue in queues.items():
                        with m.Case(known):
                            m.d.comb += [queue.input.valid.eq(1), accepted.eq(queue.input.ready)]
                            with m.If(queue.input.ready):
                                m.next = "GATHER"
                    with m.Default():
                        m.d.comb += [accepted.eq(1), self.bad_opcode.eq(1)]
                        m.d.sync += reading.eq(0)
                        m.next = "DRAIN"
                with m.If(accepted):
                    m.d.comb += self.read_error.eq(damaged)
                    m.d.sync += [damaged.eq(0), all_there.eq(0)]
            with m.State("DRAIN"):
                # what was read ahead past the end
                m.d.comb += drains.eq(1)
                with m.If(ahead == 0):
                    m.next = "IDLE"
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m

    def _words(self, m: Module, word: stream.Interface, beat: stream.Interface, number: Signal,
               begins: Signal, drains: Signal) -> None:
        """Words of the program from beats.

        ``begins``: the next one is a program's first, ``drains``: they are thrown away.
        """
        width, bits = self.machine.bus_width, 8 * WORD_BYTES
        if width == bits:
            m.d.comb += [word.payload.eq(beat.payload.data), word.valid.eq(beat.valid),
                         beat.ready.eq(word.ready | drains)]
        elif width < bits:
            low = Signal(width, reset_less=True)
            m.d.comb += [
                word.payload.eq(Cat(low, beat.payload.data)),
                word.valid.eq(beat.valid & number[0]),
                beat.ready.eq(word.ready | drains),
            ]
            with m.If(~number[0]):
                m.d.sync += low.eq(beat.payload.data)
        else:
            upper = Signal()  # the next word is a beat's second half
            m.d.comb += [
                word.payload.eq(beat.payload.data.word_select(upper, bits)),
                word.valid.eq(beat.valid),
                beat.ready.eq((word.ready & upper) | drains),
            ]
            with m.If(begins):
                m.d.sync += upper.eq(0)
            with m.Elif(word.valid & word.ready):
                m.d.sync += upper.eq(~upper)
