"""Huffman codes over the bytes that the rest of the weight decoder reads.

A *step* is a code of each lane: lane s decodes byte s of every beat.  Lanes decode in lock-step, each from
beats of its own, which are interleaved in one stream in the order in which the lanes need them.  A lane has a
window of `CHUNK` bits that it decodes from, the next chunk, the rest of a beat and a whole beat.  It asks for
a beat when the last chunk of the one before has moved towards the window; lanes that ask in the same step are
served by their number.  So the order follows from the codes alone, and the encoder knows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from hw.machine import Machine

__all__ = ["CHUNK", "COUNT_BITS", "LONGEST_CODE", "TABLE_HEAD_BYTES", "HuffmanStreamError", "HuffmanTable",
           "huffman_decode", "huffman_encode"]

#: Bits of the longest code.
LONGEST_CODE = 10
#: Bits that move at once in a lane.
CHUNK = 16
#: Bytes of a table in front of its symbols: a limit for each length but the longest (uint16), an offset for
#: each length (uint8), symbols minus 1 (uint8), filled up.
TABLE_HEAD_BYTES = 32
#: Bits of the two numbers in front of a block: words of coded beats, and words that they stand for.
COUNT_BITS = 24

_LENGTHS = range(1, LONGEST_CODE + 1)


class HuffmanStreamError(ValueError):
    """A table or a stream that no encoder has made; the message says why."""


@dataclass(frozen=True)
class HuffmanTable:
    """What turns codes into bytes.

    The next `LONGEST_CODE` bits c, the first the most significant, are a code of the least length l with
    c < ``limits[l - 1]``, else of the longest one; its symbol is number (c >> (LONGEST_CODE - l)) +
    ``offsets[l - 1]``, modulo 256.

    Attributes
    ----------
    limits, offsets : tuple of int
    symbols : bytes
        In the order of their codes.
    """

    limits: tuple[int, ...]
    offsets: tuple[int, ...]
    symbols: bytes

    @classmethod
    def from_lengths(cls, lengths: NDArray[np.integer]) -> HuffmanTable:
        """The canonical code of bytes with these code lengths (256; 0 for those that do not occur).

        Raises
        ------
        HuffmanStreamError
            If there is none.
        """
        if lengths.shape != (256,) or lengths.min() < 0 or not 0 < lengths.max() <= LONGEST_CODE:
            raise HuffmanStreamError(f"a table must have 256 code lengths, the largest 1 to {LONGEST_CODE}")
        limits, offsets, first, before = [], [], 0, 0
        for length in _LENGTHS:
            count = int((lengths == length).sum())
            offsets.append((before - first) % 256)
            limits.append((first + count) << (LONGEST_CODE - length))
            before += count
            first = (first + count) << 1
        if limits[-1] > 1 << LONGEST_CODE:
            raise HuffmanStreamError("the code lengths of a table are over-subscribed")
        order = np.lexsort((np.arange(256), lengths))
        symbols = bytes(order[lengths[order] > 0].astype(np.uint8))
        return cls(tuple(limits[:-1]), tuple(offsets), symbols)

    def to_bytes(self, machine: Machine) -> bytes:
        """Whole weight words."""
        head = np.array(self.limits, "<u2").tobytes() + bytes(self.offsets) + bytes([len(self.symbols) - 1])
        content = head.ljust(TABLE_HEAD_BYTES, b"\0") + self.symbols
        return content + bytes(-len(content) % machine.weight_word_bytes)

    @classmethod
    def from_bytes(cls, content: bytes, machine: Machine) -> tuple[HuffmanTable, bytes]:
        """The table at the beginning, and what is behind it.

        Raises
        ------
        HuffmanStreamError
            If the content ends before the table.
        """
        if len(content) < TABLE_HEAD_BYTES:
            raise HuffmanStreamError("a block ends in its table")
        *limits, = np.frombuffer(content, "<u2", LONGEST_CODE - 1).tolist()
        at = 2 * len(limits)
        offsets, count = tuple(content[at : at + LONGEST_CODE]), content[at + LONGEST_CODE] + 1
        end = TABLE_HEAD_BYTES + count
        if len(content) < end:
            raise HuffmanStreamError("a block ends in its table")
        table = cls(tuple(limits), offsets, content[TABLE_HEAD_BYTES:end])
        return table, content[end + -end % machine.weight_word_bytes :]

    @cached_property
    def codes(self) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """Of every byte, its code with the first bit in front of `LONGEST_CODE` bits, and the code's length;
        0 if it has none."""
        codes, lengths = np.zeros(256, np.uint32), np.zeros(256, np.uint8)
        start = 0
        for length, limit in zip(_LENGTHS, (*self.limits, 1 << LONGEST_CODE), strict=True):
            shift = LONGEST_CODE - length
            for code in range(start >> shift, limit >> shift):
                index = (code + self.offsets[length - 1]) % 256
                if index < len(self.symbols) and not lengths[self.symbols[index]]:
                    codes[self.symbols[index]], lengths[self.symbols[index]] = code << shift, length
            start = max(start, limit)
        return codes, lengths

    @cached_property
    def lookup(self) -> tuple[list[int], list[int]]:
        """Symbol (-1: none) and length by the next bits, the first of them the least significant."""
        bits = np.arange(1 << LONGEST_CODE)
        code = sum((bits >> place & 1) << (LONGEST_CODE - 1 - place) for place in range(LONGEST_CODE))
        below = code[:, None] < np.array([*self.limits, 1 << LONGEST_CODE])
        which = below.argmax(axis=1)
        index = ((code >> (LONGEST_CODE - 1 - which)) + np.array(self.offsets)[which]) % 256
        padded = np.full(256, -1)
        padded[: len(self.symbols)] = np.frombuffer(self.symbols, np.uint8)
        return padded[index].tolist(), (which + 1).tolist()


def _chunks(machine: Machine) -> int:
    """Of a beat."""
    return machine.bus_width // CHUNK


def huffman_encode(content: bytes, table: HuffmanTable, machine: Machine) -> bytes:
    """The counts and the coded beats of a block, whole weight words.

    Parameters
    ----------
    content : bytes
        Whole weight words.
    table : HuffmanTable
    machine : Machine

    Raises
    ------
    HuffmanStreamError
        If a byte has no code, or there are too many words.
    """
    lanes, word = machine.bus_bytes, machine.weight_word_bytes
    symbols = np.frombuffer(content, np.uint8).reshape(-1, lanes)
    codes, lengths = table.codes
    taken = lengths[symbols].astype(np.int64)
    if not taken.all():
        raise HuffmanStreamError("a byte has no code in the table")
    ends = taken.cumsum(axis=0)
    beats = []  # of each lane
    for lane in range(lanes):
        bits = codes[symbols[:, lane], None] >> np.arange(LONGEST_CODE - 1, -1, -1, dtype=np.uint32) & 1
        used = bits[np.arange(LONGEST_CODE) < taken[:, lane, None]].astype(np.uint8)
        packed = np.packbits(used, bitorder="little").tobytes()
        packed += bytes(-len(packed) % lanes)
        beats.append([packed[at : at + lanes] for at in range(0, len(packed), lanes)])
    found = [(lane, beats[lane].pop(0) if beats[lane] else b"") for lane in _order(ends, machine)]
    while found and not found[-1][1]:
        found.pop()
    coded = b"".join(beat.ljust(lanes, b"\0") for _, beat in found)
    coded += bytes(-len(coded) % word)
    counts = len(coded) // word, len(content) // word
    if max(counts) >> COUNT_BITS:
        raise HuffmanStreamError(f"a block has {max(counts)} weight words, more than {COUNT_BITS} bits count")
    return np.array(counts, "<u4").tobytes().ljust(word, b"\0") + coded


def _order(ends: NDArray[np.int64], machine: Machine) -> list[int]:
    """Lanes as they ask for beats.  ``ends``: bits of each lane (steps, lanes) up to and with each step."""
    chunks = _chunks(machine)
    lanes = list(range(machine.bus_bytes))
    # at first two beats, and another if two chunks are a beat
    order = lanes * (2 + 2 // chunks)
    emptied = (2 + ends // CHUNK) // chunks
    asks = np.diff(emptied, axis=0, prepend=2 // chunks) > 0
    return order + np.nonzero(asks)[1].tolist()


@lru_cache(maxsize=1024)
def huffman_decode(content: bytes, table: HuffmanTable, machine: Machine) -> bytes:
    """The bytes of a block; zero words may follow it.

    Raises
    ------
    HuffmanStreamError
        If the stream is too short or has codes without a symbol, or something else follows it.
    """
    lanes, word = machine.bus_bytes, machine.weight_word_bytes
    width, chunks = machine.bus_width, _chunks(machine)
    if len(content) < word:
        raise HuffmanStreamError("a block ends in front of its coded words")
    coded, decoded = np.frombuffer(content, "<u4", 2).tolist()
    beats = content[word : word + coded * word]
    if len(beats) != coded * word or any(content[word + coded * word :]):
        raise HuffmanStreamError(f"{len(content) // word - 1} words are not {coded} words of codes")
    places = iter(range(0, len(beats), lanes))
    buffers, given, used = [0] * lanes, [0] * lanes, [0] * lanes

    def serve(lane: int) -> None:
        if (at := next(places, None)) is not None:
            beat = int.from_bytes(beats[at : at + lanes], "little")
            buffers[lane] |= beat << (width * given[lane] - used[lane])
            given[lane] += 1

    for _ in range(2 + 2 // chunks):
        for lane in range(lanes):
            serve(lane)
    symbols, lengths = table.lookup
    mask = (1 << LONGEST_CODE) - 1
    asked = [2 // chunks] * lanes
    found = bytearray()
    try:
        for _ in range(2 * decoded):
            for lane in range(lanes):
                bits = buffers[lane] & mask
                length = lengths[bits]
                found.append(symbols[bits])
                buffers[lane] >>= length
                used[lane] += length
                if (2 + used[lane] // CHUNK) // chunks > asked[lane]:
                    asked[lane] += 1
                    serve(lane)
    except ValueError:
        raise HuffmanStreamError("a code has no symbol") from None
    if any(taken > width * count for taken, count in zip(used, given, strict=True)):
        raise HuffmanStreamError("a lane's codes end before its last byte")
    return bytes(found)
