"""The tiles of an output block as bytes, and how the weight decoder reads them.

Tiles are raw, or their weights are indices into a codebook of at most 16 values: dense ones of two or four
bits, or sparse ones.  A sparse stream is of bytes, four bits each for a gap and an index.  Byte s of a beat
belongs to *lane* s, which has a part of every tile (`lane_places`); so the decoder writes one weight of each
lane in a cycle.  Lanes whose weights are denser fall behind, the others wait with zero bytes: the encoder
knows when, because the decoder holds `WINDOW` tiles, which when a block begins may all be of the one before.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hw.machine import Machine

__all__ = ["CODEBOOK_ENTRIES", "CODEBOOK_FLAG", "WINDOW", "Encoding", "WeightStreamError", "decode_tiles",
           "encode_tiles", "encoding_of_header", "encodings_of", "header_bytes", "lane_places"]

#: Values in a codebook, each an int8; of a sparse stream's, entry 0 is no weight.
CODEBOOK_ENTRIES = 16

#: Tiles that the decoder of sparse streams has under way.
WINDOW = 4

#: Largest gap: zeros in front of a weight, or skipped without one.
_LARGEST_GAP = 15

#: Bit of a block's header: the block's tiles come behind a codebook; else that of the block before is valid.
CODEBOOK_FLAG = 4


class Encoding(IntEnum):
    """Of the tiles of an output block: bits 0 and 1 of its header, byte 7 of its parameter block."""

    RAW = 0
    TWO_BITS = 1
    FOUR_BITS = 2
    SPARSE = 3


class WeightStreamError(ValueError):
    """A weight stream that no encoder has made; the message says why."""


def header_bytes(encoding: Encoding, codebook: bool) -> int:
    """Byte 7 of a block's parameters: its encoding, and whether a codebook comes in front of its tiles."""
    return encoding | (CODEBOOK_FLAG if codebook else 0)


def encoding_of_header(header: int) -> tuple[Encoding, bool]:
    """What `header_bytes` was given.

    Raises
    ------
    WeightStreamError
        If other bits are set.
    """
    if header & ~7:
        raise WeightStreamError(f"the header {header:#04x} of a block has unknown bits")
    return Encoding(header & 3), bool(header & CODEBOOK_FLAG)


def encodings_of(tiles: NDArray[np.int8], machine: Machine) -> dict[Encoding, NDArray[np.int8]]:
    """Encodings that can hold these weights, and their codebooks (16 entries, int8; zeros for RAW).

    The sparse codebook holds the values besides 0 from entry 1 on.
    """
    found = {Encoding.RAW: np.zeros(CODEBOOK_ENTRIES, np.int8)}
    if not machine.weight_decoder:
        return found
    values = np.unique(tiles)
    others = values[values != 0]

    def codebook(entries: NDArray[np.int8]) -> NDArray[np.int8]:
        return np.pad(entries, (0, CODEBOOK_ENTRIES - len(entries)))

    if len(values) <= 4:
        found[Encoding.TWO_BITS] = codebook(values)
    if len(values) <= CODEBOOK_ENTRIES:
        found[Encoding.FOUR_BITS] = codebook(values)
    if len(others) < CODEBOOK_ENTRIES:
        found[Encoding.SPARSE] = codebook(np.concatenate([np.zeros(1, np.int8), others]))
    return found


def encode_tiles(
    tiles: NDArray[np.int8], encoding: Encoding, codebook: NDArray[np.int8], machine: Machine
) -> list[bytes]:
    """The tiles of each output block as bytes, whole weight words.

    Parameters
    ----------
    tiles : int8 array (blocks, tiles, tile_bytes)
    encoding : Encoding
    codebook : int8 array (16,)
        One of `encodings_of`.
    machine : Machine
    """
    if encoding is Encoding.RAW:
        return [block.tobytes() for block in tiles]
    # of equal entries the first: those behind the last value are zeros
    order = np.argsort(codebook, kind="stable")
    indices = order[np.searchsorted(codebook, tiles, sorter=order)].astype(np.uint8)
    if encoding is Encoding.SPARSE:
        return _encode_sparse(indices, machine)
    bits = 2 if encoding is Encoding.TWO_BITS else 4
    fields = indices.reshape(len(tiles), -1, 8 // bits)
    packed = np.bitwise_or.reduce(fields << (bits * np.arange(8 // bits, dtype=np.uint8)), axis=2)
    return [block.astype(np.uint8).tobytes() for block in packed]


def lane_places(machine: Machine) -> NDArray[np.int64]:
    """Where in a tile each lane's weights are: (lanes, weights of a lane).

    A lane goes through all output lanes and all input lanes, because some outputs and some inputs of a pruned
    layer have many weights and others few.
    """
    lanes = machine.bus_bytes
    row = np.arange(machine.tile_bytes // lanes)
    return row * lanes + (np.arange(lanes)[:, None] - row) % lanes


def _lanes(indices: NDArray[np.uint8], machine: Machine) -> NDArray[np.uint8]:
    """(blocks, tiles, tile_bytes) as (blocks, lanes, weights of a lane)."""
    blocks = len(indices)
    return indices[..., lane_places(machine)].transpose(0, 2, 1, 3).reshape(blocks, machine.bus_bytes, -1)


def _encode_sparse(indices: NDArray[np.uint8], machine: Machine) -> list[bytes]:
    """All blocks at once, a beat in each step, as the decoder takes them."""
    lanes = _lanes(indices, machine)
    blocks, count, total = lanes.shape
    part = machine.tile_bytes // count
    # where each lane's next weight is, from every position on; `total`: there is none
    places = np.where(lanes != 0, np.arange(total), total)
    following = np.full((blocks, count, total + 1), total)
    following[..., :total] = np.minimum.accumulate(places[..., ::-1], axis=2)[..., ::-1]
    rows, columns = np.indices((blocks, count))
    position = np.zeros((blocks, count), np.int64)
    given = np.full(blocks, -WINDOW)  # tiles that have left; below zero, of the block before
    beats = []
    while (position < total).any():
        limit = np.minimum((given[:, None] + WINDOW) * part, total)  # of positions
        target = following[rows, columns, position]
        gap = np.minimum(np.minimum(target, limit) - position, _LARGEST_GAP)
        arrives = (position + gap == target) & (target < limit)
        index = np.where(arrives, lanes[rows, columns, np.minimum(target, total - 1)], 0)
        beats.append((gap << 4 | index).astype(np.uint8))
        # a tile leaves in the cycle of the next beat, if all lanes are past it
        given += position.min(axis=1) >= (given + 1) * part
        position += gap + arrives
    content = np.stack(beats, axis=1) if beats else np.zeros((blocks, 0, count), np.uint8)
    streams = []
    for block in content:
        used = np.flatnonzero(block.any(axis=1))
        length = int(used[-1]) + 1 if len(used) else 0
        length += -length % (machine.weight_word_bytes // machine.bus_bytes)
        streams.append(np.pad(block, ((0, max(0, length - len(block))), (0, 0)))[:length].tobytes())
    return streams


def decode_tiles(
    content: bytes, encoding: Encoding, codebook: NDArray[np.int8], tiles: int, machine: Machine
) -> NDArray[np.int8]:
    """The tiles of one output block, (tiles, tile_bytes).

    Raises
    ------
    WeightStreamError
        If the bytes are too few, or a sparse stream leaves the decoder's window or ends elsewhere.
    """
    stream = np.frombuffer(content, np.uint8)
    size = tiles * machine.tile_bytes
    if encoding is Encoding.SPARSE:
        return codebook[_decode_sparse(stream, tiles, machine)]
    per_byte = {Encoding.RAW: 1, Encoding.TWO_BITS: 4, Encoding.FOUR_BITS: 2}[encoding]
    if len(stream) * per_byte != size:
        raise WeightStreamError(f"{len(stream)} bytes hold no {size} weights, {encoding.name}")
    if encoding is Encoding.RAW:
        return stream.view(np.int8).reshape(tiles, machine.tile_bytes)
    bits = 8 // per_byte
    fields = stream[:, None] >> (bits * np.arange(per_byte, dtype=np.uint8)) & ((1 << bits) - 1)
    return codebook[fields].reshape(tiles, machine.tile_bytes)


def _decode_sparse(stream: NDArray[np.uint8], tiles: int, machine: Machine) -> NDArray[np.uint8]:
    count = machine.bus_bytes
    part = machine.tile_bytes // count
    indices = np.zeros((count, tiles * part), np.uint8)
    position, given = np.zeros(count, np.int64), -WINDOW
    for number, beat in enumerate(stream.reshape(-1, count)):
        gap, index = (beat >> 4).astype(np.int64), beat & 15
        limit = min((given + WINDOW) * part, tiles * part)
        place, written = position + gap, index != 0
        if (place + written > limit).any():
            raise WeightStreamError(f"beat {number} of a sparse stream leaves the window")
        indices[written, place[written]] = index[written]
        given += position.min() >= (given + 1) * part
        position = place + written
    if (position != tiles * part).any():
        raise WeightStreamError("a sparse stream ends before its last tile")
    found = np.zeros((tiles, machine.tile_bytes), np.uint8)
    found[:, lane_places(machine)] = indices.reshape(count, tiles, part).transpose(1, 0, 2)
    return found
