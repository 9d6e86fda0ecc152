"""External memory that is inside: AXI4 for the core and for the host's bridge, on SPRAM."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import Component, In

from boards.spram import BLOCK_BYTES, BLOCKS, SPRAM, SPRAMKind
from hw.axi import AXI4, Response

__all__ = ["HOST_WIDTH", "MEMORY_BYTES", "SPRAMMemory"]

MEMORY_BYTES = BLOCKS * BLOCK_BYTES
HOST_WIDTH = 64
_ADDRESS_BITS = MEMORY_BYTES.bit_length() - 1


class SPRAMMemory(Component):
    """Executes one burst at a time; managers that ask at the same time take turns.

    A burst moves a word in every cycle in which both sides are ready.  Bursts are INCR, of whole words,
    and cross no 4 KB boundary.  One that begins past the end is answered with DECERR and changes nothing.

    Parameters
    ----------
    width : int
        Bits of the core's bus: 32 or 64.
    kind : "portable" or "ice40"
        As for `boards.spram.SPRAM`.

    Members
    -------
    core : In(AXI4(width))
    host : In(AXI4(64))
        Single beats, as `hw.serial_bridge.SerialBridge` makes them.
    """

    def __init__(self, width: int, kind: SPRAMKind = "portable") -> None:
        if width not in (32, 64):
            raise ValueError(f"width must be 32 or 64, not {width!r}")
        self.width = width
        self.kind: SPRAMKind = kind
        super().__init__({"core": In(AXI4(width)), "host": In(AXI4(HOST_WIDTH))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = SPRAM(self.width, self.kind)
        bytes_bits = (self.width // 8).bit_length() - 1
        core, host = self.core, self.host
        word = Signal(range(ram.depth))  # of the beat under way
        beats = Signal(8)  # that follow it
        failed, writer_next = Signal(), Signal()
        m.d.comb += ram.address.eq(word)

        def begin(channel: Any, prefix: str, state: str) -> None:
            """Take an address."""
            m.d.comb += getattr(channel, f"{prefix}ready").eq(1)
            address = getattr(channel, f"{prefix}addr")
            m.d.sync += [
                word.eq(address[bytes_bits:]),
                beats.eq(getattr(channel, f"{prefix}len")),
                failed.eq(address[_ADDRESS_BITS:] != 0),
            ]
            answer = channel.bid if prefix == "aw" else channel.rid
            m.d.sync += answer.eq(getattr(channel, f"{prefix}id"))
            m.next = state

        for channel in (core, host):
            m.d.comb += [
                channel.rresp.eq(failed * Response.DECERR),
                channel.bresp.eq(failed * Response.DECERR),
            ]
        parts = HOST_WIDTH // self.width
        part = Signal(range(parts + 1))
        gathered = Signal(HOST_WIDTH)
        m.d.comb += [
            core.rdata.eq(ram.read_data),
            core.rlast.eq(beats == 0),
            host.rdata.eq(gathered),
            host.rlast.eq(1),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [part.eq(0), writer_next.eq(~writer_next)]
                with m.If(host.arvalid):  # rare, and short
                    begin(host, "ar", "HOST READ")
                with m.Elif(host.awvalid):
                    begin(host, "aw", "HOST WRITE")
                with m.Elif(core.awvalid & (writer_next | ~core.arvalid)):
                    begin(core, "aw", "WRITE")
                with m.Elif(core.arvalid):
                    begin(core, "ar", "READ")

            with m.State("READ"):
                m.next = "READ BEAT"
            with m.State("READ BEAT"):
                m.d.comb += core.rvalid.eq(1)
                with m.If(core.rready):
                    m.d.comb += ram.address.eq(word + 1)  # the next beat's word, in the next cycle
                    m.d.sync += [word.eq(word + 1), beats.eq(beats - 1)]
                    with m.If(beats == 0):
                        m.next = "IDLE"

            with m.State("WRITE"):
                m.d.comb += [core.wready.eq(1), ram.write_data.eq(core.wdata)]
                with m.If(core.wvalid):
                    m.d.comb += ram.strobes.eq(core.wstrb & (~failed).replicate(self.width // 8))
                    m.d.sync += [word.eq(word + 1), beats.eq(beats - 1)]
                    with m.If(beats == 0):
                        m.next = "WRITTEN"
            with m.State("WRITTEN"):
                m.d.comb += core.bvalid.eq(1)
                with m.If(core.bready):
                    m.next = "IDLE"

            with m.State("HOST READ"):
                # `part` words have come so far; the last one comes when none is asked for any more
                m.d.sync += [word.eq(word + 1), part.eq(part + 1)]
                with m.If(part != 0):
                    m.d.sync += gathered.eq(Cat(gathered, ram.read_data)[self.width :])
                with m.If(part == parts):
                    m.next = "HOST ANSWER"
            with m.State("HOST ANSWER"):
                m.d.comb += host.rvalid.eq(1)
                with m.If(host.rready):
                    m.next = "IDLE"

            with m.State("HOST WRITE"):
                m.d.comb += [
                    ram.write_data.eq(host.wdata.word_select(part, self.width)),
                    host.wready.eq(part == parts - 1),
                ]
                with m.If(host.wvalid):
                    strobes = host.wstrb.word_select(part, self.width // 8)
                    m.d.comb += ram.strobes.eq(strobes & (~failed).replicate(self.width // 8))
                    m.d.sync += [word.eq(word + 1), part.eq(part + 1)]
                    with m.If(part == parts - 1):
                        m.next = "HOST WRITTEN"
            with m.State("HOST WRITTEN"):
                m.d.comb += host.bvalid.eq(1)
                with m.If(host.bready):
                    m.next = "IDLE"
        return m
