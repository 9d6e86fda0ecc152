"""Addresses of output words, in the order in which they are written."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.requantize import OutputFlags

__all__ = ["Destination"]


class Destination(wiring.Component):
    """Steps through the words of rows and output blocks.

    Members
    -------
    start : ``In(1)``
        Go to the first word: ``base``; at least two cycles before it, after the last one of the
        instruction before.
    base, row_step, plane_step : ``In(16)``
        Constant from ``start`` until the last word.
    word : ``In(OutputFlags)``
        If valid, ``address`` is the address of this word, and of the next one in the next cycle.
    address : ``Out(16)``
    """

    def __init__(self) -> None:
        super().__init__({
            "start": In(1),
            "base": In(16),
            "row_step": In(16),
            "plane_step": In(16),
            "word": In(OutputFlags),
            "address": Out(16),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address = Signal(16, reset_less=True)
        next_row = Signal(16, reset_less=True)
        next_plane = Signal(16, reset_less=True)
        # the instruction's registers are far away
        start = Signal()
        base, row_step, plane_step = (Signal(16, reset_less=True, name=name)
                                      for name in ("near_base", "near_row_step", "near_plane_step"))
        m.d.comb += self.address.eq(address)
        m.d.sync += [
            start.eq(self.start), base.eq(self.base),
            row_step.eq(self.row_step), plane_step.eq(self.plane_step),
        ]
        with m.If(start):
            m.d.sync += [
                address.eq(base),
                next_row.eq(base + row_step),
                next_plane.eq(base + plane_step),
            ]
        with m.Elif(self.word.valid):
            with m.If(self.word.block_end):
                m.d.sync += [
                    address.eq(next_plane),
                    next_row.eq(next_plane + row_step),
                    next_plane.eq(next_plane + plane_step),
                ]
            with m.Elif(self.word.row_end):
                m.d.sync += [address.eq(next_row), next_row.eq(next_row + row_step)]
            with m.Else():
                m.d.sync += address.eq(address + 1)
        return m
