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
        Go to the first word: ``base``.
    base, row_step, plane_step : ``In(16)``
        ``base`` while ``start`` is 1, the steps constant until the last word.
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
        m.d.comb += self.address.eq(address)
        with m.If(self.start):
            m.d.sync += [
                address.eq(self.base),
                next_row.eq(self.base + self.row_step),
                next_plane.eq(self.base + self.plane_step),
            ]
        with m.Elif(self.word.valid):
            with m.If(self.word.block_end):
                m.d.sync += [
                    address.eq(next_plane),
                    next_row.eq(next_plane + self.row_step),
                    next_plane.eq(next_plane + self.plane_step),
                ]
            with m.Elif(self.word.row_end):
                m.d.sync += [address.eq(next_row), next_row.eq(next_row + self.row_step)]
            with m.Else():
                m.d.sync += address.eq(address + 1)
        return m
