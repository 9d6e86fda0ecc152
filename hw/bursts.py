"""Cutting transfers into AXI4 bursts."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.axi import ADDRESS_WIDTH, MAXIMUM_BURST, PAGE_BYTES

__all__ = ["BurstSplitter", "burst_layout", "transfer_layout"]


def transfer_layout(beats_width: int, tag: ShapeLike) -> data.StructLayout:
    """Consecutive beats: ``address`` (bytes, of a whole beat), ``beats`` (at least 1) and a ``tag``."""
    return data.StructLayout({"address": ADDRESS_WIDTH, "beats": beats_width, "tag": tag})


def burst_layout(tag: ShapeLike) -> data.StructLayout:
    """One AXI4 burst.

    ``address`` (bytes), ``length`` (beats less one, as in AxLEN), ``last`` (the last burst of its
    transfer), and the transfer's ``tag``.
    """
    return data.StructLayout({"address": ADDRESS_WIDTH, "length": 8, "last": 1, "tag": tag})


class BurstSplitter(wiring.Component):
    """Cuts transfers into bursts that end at multiples of the longest burst's size.

    That size divides 4 KB, so no burst crosses a 4 KB boundary.  One burst a cycle, also from one
    transfer to the next.

    Parameters
    ----------
    bus_bytes : int
        Bytes of a beat.
    maximum_burst : int
        Most beats in a burst: a power of two, at most 256 and at most 4,096 bytes.
    beats_width : int
        Bits of a transfer's number of beats.
    tag : ShapeLike
        Something that goes with a transfer and with each of its bursts.

    Members
    -------
    transfers : ``In(stream.Signature(transfer_layout(beats_width, tag)))``
    bursts : ``Out(stream.Signature(burst_layout(tag)))``
    idle : ``Out(1)``
        No transfer is being cut and no burst is waiting.
    """

    def __init__(self, bus_bytes: int, maximum_burst: int, beats_width: int, tag: ShapeLike = 0) -> None:
        limit = min(MAXIMUM_BURST, PAGE_BYTES // bus_bytes)
        if maximum_burst not in (1 << n for n in range(limit.bit_length())):
            raise ValueError(f"maximum_burst must be a power of two up to {limit}, not {maximum_burst!r}")
        self.bus_bytes = bus_bytes
        self.maximum_burst = maximum_burst
        super().__init__({
            "transfers": In(stream.Signature(transfer_layout(beats_width, tag))),
            "bursts": Out(stream.Signature(burst_layout(tag))),
            "idle": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat_bits = exact_log2(self.bus_bytes)
        chunk_bits = exact_log2(self.maximum_burst)
        transfer = Signal.like(self.transfers.payload)
        busy = Signal()

        offset = transfer.address[beat_bits:beat_bits + chunk_bits]  # of the first beat in its chunk
        to_boundary = Signal(range(self.maximum_burst + 1))
        last = Signal()
        advance = Signal()
        m.d.comb += [
            to_boundary.eq(self.maximum_burst - offset),
            last.eq(transfer.beats <= to_boundary),
            advance.eq(busy & (~self.bursts.valid | self.bursts.ready)),
            self.transfers.ready.eq(~busy | (advance & last)),
            self.idle.eq(~busy & ~self.bursts.valid),
        ]
        with m.If(self.bursts.ready):
            m.d.sync += self.bursts.valid.eq(0)
        with m.If(advance):
            m.d.sync += [
                self.bursts.valid.eq(1),
                self.bursts.payload.address.eq(transfer.address),
                self.bursts.payload.length.eq(Mux(last, transfer.beats[:chunk_bits + 1], to_boundary) - 1),
                self.bursts.payload.last.eq(last),
                self.bursts.payload.tag.eq(transfer.tag),
                # every burst but the last ends at a boundary, so the next one starts there
                transfer.address[:beat_bits + chunk_bits].eq(0),
                transfer.address[beat_bits + chunk_bits:].eq(transfer.address[beat_bits + chunk_bits:] + 1),
                transfer.beats.eq(transfer.beats - to_boundary),
            ]
        with m.If(self.transfers.ready):
            m.d.sync += busy.eq(self.transfers.valid)
        with m.If(self.transfers.ready & self.transfers.valid):
            m.d.sync += Cat(transfer.as_value()).eq(self.transfers.payload)
        return m
