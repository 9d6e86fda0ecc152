"""Frames: encoding, finding them in noise, refusing damage."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.serial_protocol import (
    ESCAPE,
    FLAG,
    MAXIMUM_DATA,
    REQUEST_HEADER_BYTES,
    Command,
    FrameReader,
    Identity,
    MemoryState,
    Request,
    Response,
    encode_frame,
)


@settings(max_examples=100, deadline=None)
@given(
    contents=st.lists(st.binary(min_size=1, max_size=60), max_size=5),
    noise=st.binary(max_size=40),
    cuts=st.lists(st.integers(1, 30), max_size=20),
)
def test_frames_are_found_in_noise(contents: list[bytes], noise: bytes, cuts: list[int]) -> None:
    stream = noise + b"".join(encode_frame(content) for content in contents)
    reader, found, position = FrameReader(), [], 0
    for cut in [*cuts, len(stream)]:
        found += list(reader.feed(stream[position : position + cut]))
        position += cut
    # noise can swallow no frame: each begins with a flag of its own
    assert found[len(found) - len(contents) :] == contents


def test_wire_format_is_fixed() -> None:
    """Other programs may speak it, so it is written down byte by byte here."""
    content = bytes([7, 2, 0x40, 0, 0, 1, 8, 0]) + bytes([1, 2, 0x7E, 0x7D, 5, 6, 7, 8])
    crc = zlib.crc32(content).to_bytes(4, "little")
    expected = bytearray([0x7E])
    for byte in content + crc:
        expected += bytes([0x7D, byte ^ 0x20]) if byte in (0x7E, 0x7D) else bytes([byte])
    expected.append(0x7E)
    request = Request(7, Command.WRITE_MEMORY, 0x01000040, 8, bytes([1, 2, 0x7E, 0x7D, 5, 6, 7, 8]))
    assert request.encode() == bytes(expected)
    assert Identity(1 << 25, 50_000_000).encode() == (
        b"ptsh"
        + bytes([1, 1])
        + (2048).to_bytes(2, "little")
        + (1 << 25).to_bytes(4, "little")
        + (50_000_000).to_bytes(4, "little")
    )


@settings(max_examples=100, deadline=None)
@given(content=st.binary(min_size=8, max_size=60), bit=st.integers(0), second=st.integers(0))
def test_flipped_bits_are_never_taken_for_the_frame(content: bytes, bit: int, second: int) -> None:
    frame = bytearray(encode_frame(content))
    first = bit % (8 * (len(frame) - 2))
    other = second % (8 * (len(frame) - 2))
    for position in {first, other}:
        frame[1 + position // 8] ^= 1 << position % 8
    for found in FrameReader().feed(bytes(frame)):
        assert found == content  # possible only if the flips left the same content


def test_requests_and_responses_come_back() -> None:
    request = Request(255, Command.READ_MEMORY, 0xFFFFFFF8, MAXIMUM_DATA, b"abc")
    (content,) = FrameReader().feed(request.encode())
    assert Request.decode(content) == request
    response = Response(1, 3, b"\x7e\x7d")
    (content,) = FrameReader().feed(response.encode())
    assert Response.decode(content) == response
    assert Request.decode(b"1234567") is None
    assert Response.decode(b"1") is None
    assert Identity.decode(b"x" * 16) is None
    assert Identity.decode(b"ptsh") is None
    for state in MemoryState:
        assert Identity.decode(Identity(64, 1, state).encode()) == Identity(64, 1, state)
    assert Identity.decode(Identity(64, 1).encode().replace(b"\x01\x01\x00", b"\x01\x03\x00", 1)) is None


@pytest.mark.parametrize(
    "damaged",
    [
        bytes([FLAG, 1, 2, 3, FLAG]),
        bytes([FLAG, ESCAPE, FLAG]),
        bytes([FLAG, 1, 2, 3, 4, 5, 6, FLAG]),
        bytes([FLAG]) + bytes(MAXIMUM_DATA + REQUEST_HEADER_BYTES + 5) + bytes([FLAG]),
    ],
)
def test_damage_is_counted(damaged: bytes) -> None:
    reader = FrameReader()
    assert list(reader.feed(damaged)) == []
    assert reader.damaged == 1
    assert list(reader.feed(encode_frame(b"next"))) == [b"next"]


def test_longest_frame_is_found() -> None:
    content = bytes([FLAG]) * (REQUEST_HEADER_BYTES + MAXIMUM_DATA)
    assert list(FrameReader().feed(encode_frame(content))) == [content]
