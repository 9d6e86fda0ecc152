"""The fetch unit: reads the program and hands each instruction to its unit's queue."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.copies import copies
from hw.isa import INSTRUCTION_BYTES, Opcode, layout_of
from hw.machine import Machine
from hw.program_code import LEFT_OUT, WORD_BYTES
from hw.read_client import ReadClient, ReadPortSignature

__all__ = ["QUEUED_OPCODES", "READ_AHEAD", "Fetch", "InstructionQueue"]

#: The opcodes that have a unit and a queue.
QUEUED_OPCODES = (Opcode.LOAD, Opcode.WEIGHTS, Opcode.COMPUTE, Opcode.STORE)

#: How many times the bytes of a whole instruction are read ahead; past END they are read for nothing.
READ_AHEAD = 4

#: Bits of an instruction that are read and held by the same registers.
_PART = 64


class InstructionQueue(wiring.Component):
    """Queue of one unit's instructions, only as wide as the fields that the unit uses.

    They are hundreds of bits wide and cycles apart: at most every second cycle takes one.  The output is a
    register, which is filled three cycles after an instruction has been taken.

    Parameters
    ----------
    opcode : Opcode
        Whose instructions.
    depth : int
        How many.

    Members
    -------
    input : ``In(stream.Signature(layout_of(opcode)))``
    output : ``Out(stream.Signature(layout_of(opcode)))``
        The same, with opcode and padding as they should be and, except for COMPUTE, ``layer`` zero.
    """

    def __init__(self, opcode: Opcode, *, depth: int = 16) -> None:
        self.opcode = opcode
        self.depth = depth
        self.layout = layout_of(opcode)
        unused = {"opcode"} if opcode is Opcode.COMPUTE else {"opcode", "layer"}
        if opcode is Opcode.WEIGHTS:
            unused |= {"wait", "signal"}
        members: dict[str, ShapeLike] = self.layout.members
        self.stored = data.StructLayout({name: shape for name, shape in members.items()
                                         if name not in unused and not name.startswith("_")})
        super().__init__({
            "input": In(stream.Signature(self.layout)),
            "output": Out(stream.Signature(self.layout)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        entry = Signal(self.stored)
        for name in self.stored.members:
            m.d.comb += entry[name].eq(self.input.payload[name])
        level = Signal(range(self.depth + 1))
        room = Signal(init=1)
        last = self.depth - 1
        writing, reading = Signal(range(self.depth)), Signal(range(self.depth))
        next_writing, next_reading = Signal.like(writing), Signal.like(reading)
        next_room = Signal()
        write, load, next_load = Signal(), Signal(), Signal()
        m.d.comb += [
            self.input.ready.eq(room),
            write.eq(self.input.valid & room),
            next_load.eq((level != 0) & ~load & ~self.output.valid),
            next_room.eq(~write & (level != self.depth)),  # without an adder before it
            next_writing.eq(writing),
            next_reading.eq(reading),
        ]
        m.d.sync += [
            level.eq(level + write - load),
            room.eq(next_room),
            load.eq(next_load),
            writing.eq(next_writing),
            reading.eq(next_reading),
        ]
        with m.If(write):
            m.d.comb += next_writing.eq(Mux(writing == last, 0, writing + 1))
        with m.If(load):
            m.d.comb += next_reading.eq(Mux(reading == last, 0, reading + 1))
            m.d.sync += self.output.valid.eq(1)
        with m.Elif(self.output.ready):
            m.d.sync += self.output.valid.eq(0)

        # distributed memory on an FPGA, 16 entries deep at no extra cost; parts of it have their own steers
        held = Signal(self.stored, reset_less=True)
        parts = range(0, self.stored.size, _PART)
        places = copies(m, next_writing, len(parts), "writing")
        rooms = copies(m, next_room, len(parts), "room")
        pointers = copies(m, next_reading, len(parts), "reading")
        loads = copies(m, next_load, len(parts), "load")
        for first, place, room_part, pointer, loads_part in zip(parts, places, rooms, pointers, loads,
                                                                strict=True):
            part = slice(first, min(first + _PART, self.stored.size))
            storage = Memory(shape=part.stop - first, depth=self.depth, init=[])
            m.submodules[f"storage{first // _PART}"] = storage
            write_port, read_port = storage.write_port(), storage.read_port(domain="comb")
            m.d.comb += [
                # while there is room nobody minds what is written
                write_port.addr.eq(place), write_port.en.eq(room_part),
                write_port.data.eq(entry.as_value()[part]),
                read_port.addr.eq(pointer),
            ]
            with m.If(loads_part):
                m.d.sync += held.as_value()[part].eq(read_port.data)
        m.d.comb += self.output.payload.opcode.eq(self.opcode)
        for name in self.stored.members:
            m.d.comb += self.output.payload[name].eq(held[name])
        return m


def _is_queued(opcode: Value) -> Value:
    """Whether an instruction has a unit."""
    return (opcode != Opcode.END.value) & (opcode <= max(code.value for code in QUEUED_OPCODES))


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
            **{opcode.name.lower(): Out(stream.Signature(layout_of(opcode))) for opcode in QUEUED_OPCODES},
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
        address = Signal(32)
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
        left_out = Signal(LEFT_OUT.stop - LEFT_OUT.start)  # of the words from this one on
        kind = Signal(2)  # of the instruction, except in its first word
        m.submodules.newest = newest = Memory(
            shape=8 * WORD_BYTES, depth=4 * INSTRUCTION_BYTES // WORD_BYTES, init=[])
        write, read = newest.write_port(), newest.read_port(domain="comb")
        gathering, step, whole = Signal(), Signal(), Signal()
        all_there = Signal()  # the last word has come
        filled = left_out[0]
        found = Signal(8 * WORD_BYTES, reset_less=True)
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
            step.eq(gathering & (filled | word.valid)),
            # of END, and of what is no instruction, there is no more
            whole.eq(found_part[-1] | (found_part[0] & ~_is_queued(found[:3]))),
        ]
        m.d.sync += [
            found.eq(Mux(filled, read.data, word.payload)),
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

        queues = {opcode: InstructionQueue(opcode) for opcode in QUEUED_OPCODES}
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
