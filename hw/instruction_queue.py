"""The queues between fetch and the units."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.copies import copies
from hw.isa import Opcode, layout_of

__all__ = ["InstructionQueue"]

#: Bits of an instruction that are read and held by the same registers.
_PART = 32


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
