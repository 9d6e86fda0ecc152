"""The small core's only way to external memory: reads and writes of consecutive beats, one at a time."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.axi import AXI4, BURST_INCR, Response

__all__ = ["BURST_BEATS", "SmallMemoryPort"]

#: Bursts end where this number of beats divides the address, so that none crosses a page.
BURST_BEATS = 16


class SmallMemoryPort(wiring.Component):
    """Splits a transfer of up to 65,535 beats into bursts; a transfer begins where the one before ended,
    or at an address that was set meanwhile.

    Members
    -------
    m_axi : ``Out(AXI4(32))``
    value : ``In(16)``
        For the strobes ``set_low``, ``set_high`` (halves of the byte address), ``read``, ``load`` and
        ``store`` (begin, with so many beats, at least 1).
    drop : ``In(1)``
        Strobe: take the beats of a read that are left.
    idle : ``Out(1)``
    beat : ``Out(32)``, beat_valid : ``Out(1)``, take : ``In(1)``
        What `read` brings.
    step : ``Out(1)``
        A word has been moved from or to the scratchpad.
    write : ``Out(1)``
        The beat of a load goes into the scratchpad.
    fetch : ``Out(1)``
        A word of the scratchpad is to be read; it is in ``word`` from the next cycle on.
    word : ``In(32)``
    read_error, write_error, read_beat, write_beat : ``Out(1)``
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "m_axi": Out(AXI4(32)),
                "value": In(16),
                **{name: In(1) for name in ("set_low", "set_high", "read", "load", "store", "drop", "take")},
                "idle": Out(1),
                "beat": Out(32),
                "beat_valid": Out(1),
                "step": Out(1),
                "write": Out(1),
                "fetch": Out(1),
                "word": In(32),
                **{name: Out(1) for name in ("read_error", "write_error", "read_beat", "write_beat")},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi: Any = self.m_axi
        address = Signal(30)  # of the next beat, in words
        more = Signal(16)  # beats behind it
        loading, dropping = Signal(), Signal()
        place = address[:4]
        to_end = Signal(4)
        burst = Signal(4)  # beats behind the next one in its burst
        m.d.comb += [
            to_end.eq(~place),
            burst.eq(Mux((more[4:] != 0) | (more[:4] > to_end), to_end, more[:4])),
        ]
        for channel in ("aw", "ar"):
            m.d.comb += [
                getattr(axi, f"{channel}addr").eq(Cat(Const(0, 2), address)),
                getattr(axi, f"{channel}len").eq(burst),
                getattr(axi, f"{channel}size").eq(2),
                getattr(axi, f"{channel}burst").eq(BURST_INCR),
            ]
        last = Signal()  # of its burst
        moved = Signal()
        m.d.comb += [
            last.eq(burst == 0),
            axi.wdata.eq(self.word),
            axi.wstrb.eq(0xF),
            axi.wlast.eq(last),
            self.beat.eq(axi.rdata),
        ]
        with m.If(self.set_low):
            m.d.sync += address[:14].eq(self.value[2:])
        with m.If(self.set_high):
            m.d.sync += address[14:].eq(self.value)
        with m.If(moved):
            m.d.sync += [address.eq(address + 1), more.eq(more - 1)]
        with m.If(self.drop):
            m.d.sync += dropping.eq(1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += dropping.eq(0)
                with m.If(self.read | self.load | self.store):
                    m.d.sync += [more.eq(self.value - 1), loading.eq(self.load)]
                    m.next = "WRITE ADDRESS"
                    with m.If(~self.store):
                        m.next = "READ ADDRESS"
            with m.State("READ ADDRESS"):
                m.d.comb += axi.arvalid.eq(1)
                with m.If(axi.arready):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [
                    self.beat_valid.eq(axi.rvalid & ~loading & ~dropping),
                    axi.rready.eq(loading | dropping | self.take),
                    moved.eq(axi.rvalid & axi.rready),
                    self.write.eq(axi.rvalid & loading),
                    self.step.eq(axi.rvalid & loading),
                    self.read_beat.eq(moved),
                    self.read_error.eq(moved & (axi.rresp != Response.OKAY)),
                ]
                with m.If(moved & last):
                    m.next = "READ ADDRESS"
                    with m.If(more == 0):
                        m.next = "IDLE"
            with m.State("WRITE ADDRESS"):
                m.d.comb += axi.awvalid.eq(1)
                with m.If(axi.awready):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += self.fetch.eq(1)
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [
                    axi.wvalid.eq(1),
                    moved.eq(axi.wready),
                    self.step.eq(moved),
                    self.write_beat.eq(moved),
                ]
                with m.If(axi.wready):
                    m.next = "FETCH"
                    with m.If(last):
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [
                    axi.bready.eq(1),
                    self.write_error.eq(axi.bvalid & (axi.bresp != Response.OKAY)),
                ]
                with m.If(axi.bvalid):
                    m.next = "WRITE ADDRESS"
                    with m.If(more == 0xFFFF):  # the last one has been counted
                        m.next = "IDLE"
        return m
