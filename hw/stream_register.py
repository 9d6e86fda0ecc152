"""Registers in a stream, to cut long paths."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.copies import copies

__all__ = ["PingPongBuffer", "SkidBuffer", "StreamRegister"]


class StreamRegister(wiring.Component):
    """One register for the payload and ``valid`` of a stream, at full throughput.

    ``ready`` passes through combinationally.

    Parameters
    ----------
    shape : ShapeLike
        The payload.

    Members
    -------
    input : ``In(stream.Signature(shape))``
    output : ``Out(stream.Signature(shape))``
    """

    def __init__(self, shape: ShapeLike) -> None:
        self.shape = shape
        super().__init__({"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(self.shape, reset_less=True)
        m.d.comb += [
            self.input.ready.eq(~self.output.valid | self.output.ready),
            self.output.payload.eq(held),
        ]
        with m.If(self.input.ready):
            m.d.sync += [self.output.valid.eq(self.input.valid), held.eq(self.input.payload)]
        return m


class SkidBuffer(wiring.Component):
    """Two registers for a stream at full throughput: ``ready`` is registered too.

    Parameters
    ----------
    shape : ShapeLike
        The payload.

    Members
    -------
    input : ``In(stream.Signature(shape))``
    output : ``Out(stream.Signature(shape))``
    """

    def __init__(self, shape: ShapeLike) -> None:
        self.shape = shape
        super().__init__({"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(self.shape, reset_less=True)
        spilled = Signal(self.shape, reset_less=True)  # what came while the output was full and not taken
        empty = Signal(init=1)                         # nothing has been spilled
        m.d.comb += [self.input.ready.eq(empty), self.output.payload.eq(held)]
        with m.If(~self.output.valid | self.output.ready):
            m.d.sync += [self.output.valid.eq(self.input.valid | ~empty), empty.eq(1)]
            with m.If(empty):
                m.d.sync += held.eq(self.input.payload)
            with m.Else():
                m.d.sync += held.eq(spilled)
        with m.Else():
            m.d.sync += empty.eq(empty & ~self.input.valid)
        with m.If(empty):
            m.d.sync += spilled.eq(self.input.payload)
        return m


class PingPongBuffer(wiring.Component):
    """As `SkidBuffer`, for wide payloads: what steers them are registers, never a handshake.

    The two registers are used in turn, with a multiplexer behind them.

    Parameters
    ----------
    shape : ShapeLike
        The payload.

    Members
    -------
    input : ``In(stream.Signature(shape))``
    output : ``Out(stream.Signature(shape))``
    """

    #: Bits of the payload that are steered by the same registers.
    PART = 32

    def __init__(self, shape: ShapeLike) -> None:
        self.shape = shape
        super().__init__({"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        level, room = Signal(range(3)), Signal(init=1)
        next_level, next_room = Signal.like(level), Signal()
        writing, reading = Signal(), Signal()  # which of the two
        next_writing, next_reading = Signal(), Signal()
        written, read = self.input.valid & room, self.output.valid & self.output.ready
        m.d.comb += [
            self.input.ready.eq(room),
            next_level.eq(level + written - read),
            next_room.eq(next_level != 2),
            next_writing.eq(writing ^ written),
            next_reading.eq(reading ^ read),
        ]
        m.d.sync += [
            level.eq(next_level),
            room.eq(next_room),
            self.output.valid.eq(next_level != 0),
            writing.eq(next_writing),
            reading.eq(next_reading),
        ]
        width = Shape.cast(self.shape).width
        parts = range(0, width, self.PART)
        # the register whose turn it is takes whatever is there, until it is something
        takes = [copies(m, next_room & (next_writing == number), len(parts), f"takes{number}",
                        init=int(number == 0)) for number in range(2)]
        chosen = copies(m, next_reading, len(parts), "reading", init=0)
        given, output = Value.cast(self.input.payload), Value.cast(self.output.payload)
        for number, first in enumerate(parts):
            part = slice(first, min(first + self.PART, width))
            held = [Signal(part.stop - first, reset_less=True, name=f"held{turn}_{number}")
                    for turn in range(2)]
            for turn, register in enumerate(held):
                with m.If(takes[turn][number]):
                    m.d.sync += register.eq(given[part])
            m.d.comb += output[part].eq(Mux(chosen[number], held[1], held[0]))
        return m
