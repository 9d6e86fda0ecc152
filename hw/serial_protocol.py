"""The serial protocol, declared once for the driver and the gateware of the boards.

Frames are delimited as in RFC 1662: a `FLAG` byte before and after, and inside the frame every
`FLAG` or `ESCAPE` byte is sent as `ESCAPE` followed by the byte exclusive-or `ESCAPE_MASK`.  Whatever
was lost or invented on the wire, the next `FLAG` starts afresh.  The last four bytes of a frame are
the CRC-32 (as in Ethernet and zlib, little-endian) of the bytes before them.

A request is ``sequence, command, address (4 bytes), count (2 bytes), data``; a response is
``sequence, status, data``; numbers are little-endian.  The board answers each whole request once, with
the request's sequence number, and says nothing to anything else: a host that hears nothing, or
something damaged, sends the same frame again.  A request with the sequence number of the one before it
is such a repetition: a register write is then acknowledged but not done a second time.

This module needs nothing but the standard library.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "CRC_BYTES",
    "DATA_ALIGNMENT",
    "ESCAPE",
    "ESCAPE_MASK",
    "FLAG",
    "IDENTITY_BYTES",
    "MAGIC",
    "MAXIMUM_DATA",
    "REGISTER_ADDRESS_BITS",
    "REQUEST_HEADER_BYTES",
    "RESPONSE_HEADER_BYTES",
    "VERSION",
    "Command",
    "FrameReader",
    "Identity",
    "MemoryState",
    "Request",
    "Response",
    "ResponseStatus",
    "encode_frame",
]

FLAG = 0x7E
ESCAPE = 0x7D
ESCAPE_MASK = 0x20

#: Most data bytes of one request or response: one block RAM of an ECP5.
MAXIMUM_DATA = 2048
#: Memory addresses and counts are multiples of this.
DATA_ALIGNMENT = 8
#: Registers lie below two to the power of this, unless a board has more of them.
REGISTER_ADDRESS_BITS = 8
#: Version of this protocol; part of the answer to `Command.IDENTIFY`.
VERSION = 1
#: First bytes of the answer to `Command.IDENTIFY`.
MAGIC = b"ptsh"

_REQUEST = struct.Struct("<BBIH")
_RESPONSE = struct.Struct("<BB")
_CRC = struct.Struct("<I")
_IDENTITY = struct.Struct("<4sBBHII")

CRC_BYTES = _CRC.size
REQUEST_HEADER_BYTES = _REQUEST.size
RESPONSE_HEADER_BYTES = _RESPONSE.size
IDENTITY_BYTES = _IDENTITY.size


class Command(IntEnum):
    """What a request asks for."""

    IDENTIFY = 0  #: answered with an `Identity`; address and count are 0
    READ_MEMORY = 1  #: answered with ``count`` bytes from ``address``
    WRITE_MEMORY = 2  #: ``count`` bytes of data follow
    READ_REGISTER = 3  #: answered with 4 bytes; ``count`` is 4
    WRITE_REGISTER = 4  #: 4 bytes of data follow; ``count`` is 4


class ResponseStatus(IntEnum):
    """How a request went."""

    OKAY = 0
    BAD_REQUEST = 1  #: unknown command, count out of range or not of the data's length, misaligned address
    NOT_READY = 2  #: the memory has not been initialised yet; ask again later
    BUS_ERROR = 3  #: the memory or the register bus answered with an error


class MemoryState(IntEnum):
    """What the board's memory waits for."""

    NOT_READY = 0  #: the board is starting it
    READY = 1
    WAITS_FOR_HOST = 2  #: the host must calibrate it: `hw.ddr3_description`


@dataclass(frozen=True)
class Request:
    """One request of the host."""

    sequence: int
    command: int
    address: int = 0
    count: int = 0
    data: bytes = b""

    def encode(self) -> bytes:
        """The bytes on the wire, flags included."""
        return encode_frame(_REQUEST.pack(self.sequence, self.command, self.address, self.count) + self.data)

    @classmethod
    def decode(cls, content: bytes) -> Request | None:
        """The request in a frame's content; None if it is too short for a header."""
        if len(content) < _REQUEST.size:
            return None
        return cls(*_REQUEST.unpack_from(content), content[_REQUEST.size :])


@dataclass(frozen=True)
class Response:
    """The board's answer to one request."""

    sequence: int
    status: int
    data: bytes = b""

    def encode(self) -> bytes:
        """The bytes on the wire, flags included."""
        return encode_frame(_RESPONSE.pack(self.sequence, self.status) + self.data)

    @classmethod
    def decode(cls, content: bytes) -> Response | None:
        """The response in a frame's content; None if it is too short for a header."""
        if len(content) < _RESPONSE.size:
            return None
        return cls(*_RESPONSE.unpack_from(content), content[_RESPONSE.size :])


@dataclass(frozen=True)
class Identity:
    """What a board says of itself: memory size in bytes, clock in Hz, the state of its memory."""

    memory_bytes: int
    clock_hz: int
    memory_state: MemoryState = MemoryState.READY
    version: int = VERSION
    maximum_data: int = MAXIMUM_DATA

    def encode(self) -> bytes:
        """The data of the answer to `Command.IDENTIFY`."""
        return _IDENTITY.pack(
            MAGIC, self.version, self.memory_state, self.maximum_data, self.memory_bytes, self.clock_hz
        )

    @classmethod
    def decode(cls, data: bytes) -> Identity | None:
        """The identity in such an answer; None if it is not one."""
        if len(data) != _IDENTITY.size:
            return None
        magic, version, state, maximum_data, memory_bytes, clock_hz = _IDENTITY.unpack(data)
        if magic != MAGIC or state not in tuple(MemoryState):
            return None
        return cls(memory_bytes, clock_hz, MemoryState(state), version, maximum_data)

    @property
    def memory_ready(self) -> bool:
        """Whether the memory may be used."""
        return self.memory_state == MemoryState.READY


def encode_frame(content: bytes) -> bytes:
    """The bytes on the wire for a frame with this content."""
    frame = bytearray([FLAG])
    for byte in content + _CRC.pack(zlib.crc32(content)):
        if byte in (FLAG, ESCAPE):
            frame += bytes((ESCAPE, byte ^ ESCAPE_MASK))
        else:
            frame.append(byte)
    frame.append(FLAG)
    return bytes(frame)


class FrameReader:
    """Finds whole frames in a stream of bytes, whatever surrounds them.

    Attributes
    ----------
    damaged : int
        Frames that were thrown away: too short, too long or with a wrong checksum.
    """

    def __init__(self, longest: int = REQUEST_HEADER_BYTES + MAXIMUM_DATA) -> None:
        self.damaged = 0
        self._longest = longest + _CRC.size
        self._content = bytearray()
        self._escaped = False
        self._too_long = False

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Take received bytes; yield the content of each whole frame, without its checksum."""
        for byte in received:
            if byte == FLAG:
                content, bad = bytes(self._content), self._escaped or self._too_long
                self._content.clear()
                self._escaped = self._too_long = False
                if not content and not bad:
                    continue
                body = content[: -_CRC.size]
                if bad or len(content) < _CRC.size or _CRC.pack(zlib.crc32(body)) != content[-_CRC.size :]:
                    self.damaged += 1
                else:
                    yield body
            elif self._escaped:
                self._escaped = False
                self._append(byte ^ ESCAPE_MASK)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                self._append(byte)

    def _append(self, byte: int) -> None:
        if len(self._content) == self._longest:
            self._too_long = True
        else:
            self._content.append(byte)
