"""Cutting transfers into AXI4 bursts."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.axi import ADDRESS_WIDTH, MAXIMUM_BURST, PAGE_BYTES
from hw.skid_buffer import SkidBuffer

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
    transfer to the next.  ``ready`` is a register on both sides.

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
        low = slice(beat_bits, beat_bits + chunk_bits)  # of an address: the beat in its chunk
        high = slice(beat_bits + chunk_bits, None)      # the chunk
        m.submodules.input = waiting = SkidBuffer(self.transfers.payload.shape())
        wiring.connect(m, waiting.input, wiring.flipped(self.transfers))
        entry = waiting.output.payload
        tag = entry.shape()["tag"].shape

        # first stage: in which beat of which chunk, counted from the first one, the transfer ends
        first_valid = Signal()
        first_address = Signal(ADDRESS_WIDTH, reset_less=True)
        first_tag = Signal(tag, reset_less=True)
        end = Signal(max(len(entry.beats), chunk_bits) + 1, reset_less=True)
        first_moves = Signal()
        m.d.comb += waiting.output.ready.eq(~first_valid | first_moves)
        with m.If(waiting.output.ready):
            m.d.sync += [
                first_valid.eq(waiting.output.valid),
                first_address.eq(entry.address),
                first_tag.eq(entry.tag),
                end.eq(entry.beats + entry.address[low] - 1),
            ]

        # second stage: one burst after another; every one but the last ends with its chunk
        busy = Signal()
        address = Signal(ADDRESS_WIDTH, reset_less=True)
        last_beat = Signal(chunk_bits, reset_less=True)
        chunks_left = Signal(len(end) - chunk_bits, reset_less=True)  # after this one
        last = Signal(reset_less=True)
        held_tag = Signal(tag, reset_less=True)
        m.submodules.output = output = SkidBuffer(self.bursts.payload.shape())
        wiring.connect(m, output.output, wiring.flipped(self.bursts))
        advance = Signal()
        m.d.comb += [
            output.input.valid.eq(busy),
            advance.eq(busy & output.input.ready),
            output.input.payload.address.eq(address),
            output.input.payload.length.eq(Mux(last, last_beat, self.maximum_burst - 1) - address[low]),
            output.input.payload.last.eq(last),
            output.input.payload.tag.eq(held_tag),
            first_moves.eq(~busy | (advance & last)),
            self.idle.eq(~waiting.output.valid & ~first_valid & ~busy & ~self.bursts.valid),
        ]
        with m.If(first_moves):
            m.d.sync += [
                busy.eq(first_valid),
                address.eq(first_address),
                last_beat.eq(end[:chunk_bits]),
                chunks_left.eq(end[chunk_bits:]),
                last.eq(end[chunk_bits:] == 0),
                held_tag.eq(first_tag),
            ]
        with m.Elif(advance):
            m.d.sync += [
                address[low].eq(0),
                address[high].eq(address[high] + 1),
                chunks_left.eq(chunks_left - 1),
                last.eq(chunks_left == 1),
            ]
        return m
