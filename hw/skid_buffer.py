"""Two registers in a stream, to cut long paths."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.copies import copies

__all__ = ["SkidBuffer"]

#: Bits of a payload that are steered by the same register.
_PART = 36


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
        empty, next_empty = Signal(init=1), Signal()  # nothing has been spilled
        takes = Signal()                              # what is at the output may be another
        m.d.comb += [
            self.input.ready.eq(empty),
            takes.eq(~self.output.valid | self.output.ready),
            next_empty.eq(takes | (empty & ~self.input.valid)),
        ]
        m.d.sync += empty.eq(next_empty)
        with m.If(takes):
            m.d.sync += self.output.valid.eq(self.input.valid | ~empty)
        given, output = Value.cast(self.input.payload), Value.cast(self.output.payload)
        width = len(given)
        starts = range(0, width, _PART)
        empties = copies(m, next_empty, len(starts), "empty", init=1)
        for start, part_empty in zip(starts, empties, strict=True):
            part = slice(start, min(start + _PART, width))
            held = Signal(part.stop - start, reset_less=True, name=f"held{start}")
            spilled = Signal.like(held, reset_less=True, name=f"spilled{start}")  # while that is not taken
            m.d.comb += output[part].eq(held)
            with m.If(takes):
                m.d.sync += held.eq(Mux(part_empty, given[part], spilled))
            with m.If(part_empty):
                m.d.sync += spilled.eq(given[part])
        return m
