"""Requests of the serial link, byte by byte: frames, escapes and checksums (`hw.serial_protocol`)."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from hw.serial_protocol import CRC_BYTES, ESCAPE, ESCAPE_MASK, FLAG, MAXIMUM_DATA, REQUEST_HEADER_BYTES

__all__ = ["RequestReceiver"]

#: Received bytes that may wait while a request is executed: those of a request that follows at once.
_WAITING_BYTES = 64
_LONGEST = REQUEST_HEADER_BYTES + MAXIMUM_DATA + CRC_BYTES


class RequestReceiver(wiring.Component):
    """Finds requests whose checksum is right; anything else is dropped silently.

    A byte is taken from those that wait in one cycle and looked at in the next: in every second cycle at
    most.

    Members
    -------
    received : ``In(8)``, received_valid : ``In(1)``
        Bytes from the line; they cannot wait.
    listens : ``In(1)``
        Bytes may be looked at: no request is being executed.
    forget : ``In(1)``
        Strobe, while it does not listen: the next byte is a frame's first.
    request : ``Out(1)``
        Strobe: a whole request has come.  ``header`` and ``frame_bytes`` stay as long as it does not listen.
    header : ``Out(8 * REQUEST_HEADER_BYTES)``
        The last bytes of headers.
    frame_bytes : ``Out``
        Bytes of the frame so far, without flags and escapes.
    data_valid : ``Out(1)``, data_byte : ``Out(8)``, data_place : ``Out``
        Strobe, a byte behind the header or of the checksum, and which one it is, counted from 0.
    in_word : ``Out(1)``
        With it: it is one of the first four.
    """

    def __init__(self) -> None:
        super().__init__({
            "received": In(8),
            "received_valid": In(1),
            "listens": In(1),
            "forget": In(1),
            "request": Out(1),
            "header": Out(8 * REQUEST_HEADER_BYTES),
            "frame_bytes": Out(range(_LONGEST + 1)),
            "data_valid": Out(1),
            "data_byte": Out(8),
            "data_place": Out(range(MAXIMUM_DATA)),
            "in_word": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.waiting = waiting = SyncFIFOBuffered(width=8, depth=_WAITING_BYTES)
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=8).create()
        header = Signal(8 * REQUEST_HEADER_BYTES)
        length, place = Signal.like(self.frame_bytes), Signal.like(self.data_place)
        escaped, too_long = Signal(), Signal()

        # what is known of `length` and the checksum, a cycle late
        settled, matches = Signal(), Signal()
        is_full, is_header, is_data, is_word, is_whole = (Signal() for _ in range(5))
        m.d.sync += [
            is_full.eq(length == _LONGEST),
            is_header.eq(length < REQUEST_HEADER_BYTES),
            is_data.eq(length < REQUEST_HEADER_BYTES + MAXIMUM_DATA),
            is_word.eq(length < REQUEST_HEADER_BYTES + 4),
            is_whole.eq(length >= REQUEST_HEADER_BYTES + CRC_BYTES),
            matches.eq(crc.match_detected),
        ]

        # a byte that finds no room is lost; the checksum will say so
        m.d.comb += [waiting.w_data.eq(self.received), waiting.w_en.eq(self.received_valid)]
        byte, flag, escape = Signal(8), Signal(), Signal()
        takes, taking = Signal(), Signal()
        m.d.sync += [
            byte.eq(waiting.r_data),
            flag.eq(waiting.r_data == FLAG),
            escape.eq(waiting.r_data == ESCAPE),
            taking.eq(takes),
            settled.eq(~takes),
        ]
        m.d.comb += [
            takes.eq(self.listens & waiting.r_rdy & settled),
            waiting.r_en.eq(takes),
            crc.data.eq(self.data_byte),
            self.header.eq(header),
            self.frame_bytes.eq(length),
            self.data_byte.eq(byte ^ (escaped * ESCAPE_MASK)),
            self.data_place.eq(place),
            self.in_word.eq(is_word),
        ]
        with m.If(taking):
            with m.If(flag):
                m.d.sync += [escaped.eq(0), too_long.eq(0)]
                with m.If(matches & ~escaped & ~too_long & is_whole):
                    m.d.comb += self.request.eq(1)
                with m.Else():
                    m.d.comb += crc.start.eq(1)
                    m.d.sync += [length.eq(0), place.eq(0)]
            with m.Elif(escape & ~escaped):
                m.d.sync += escaped.eq(1)
            with m.Elif(is_full):
                m.d.sync += too_long.eq(1)
            with m.Else():
                m.d.comb += crc.valid.eq(1)
                m.d.sync += [escaped.eq(0), length.eq(length + 1)]
                with m.If(is_header):
                    m.d.sync += header.eq(Cat(header[8:], self.data_byte))
                with m.Elif(is_data):
                    m.d.comb += self.data_valid.eq(1)
                    m.d.sync += place.eq(place + 1)
        with m.If(self.forget):
            m.d.comb += crc.start.eq(1)
            m.d.sync += [length.eq(0), place.eq(0), settled.eq(0)]
        return m
