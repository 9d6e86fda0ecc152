"""Two registers in a stream, to cut long paths."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SkidBuffer"]


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
