"""Sparse weight streams: gaps and what follows them, in lanes that go through the tiles side by side.

An *entry* is a gap of 4 bits and a field: zeros to skip, and a weight if the field is not 0.  *Lane* s has
byte s of every beat and a part of every tile (`lane_places`), so that the decoder takes one entry of each
lane in a cycle, a *step*.  Narrow entries are bytes, with a field of 4 bits.  Wide ones have 8 bits: three
beats are two steps, the gaps of both and then the fields of each.

Lanes whose weights are denser fall behind, the others wait with zero entries: the encoder knows when,
because the decoder holds `WINDOW` tiles, which when a block begins may all be of the one before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw.machine import Machine

__all__ = ["LARGEST_GAP", "WINDOW", "SparseStreamError", "decode_sparse", "encode_sparse", "lane_places",
           "least_steps", "sparse_beats"]

#: Tiles that the decoder has under way.
WINDOW = 4

#: Zeros in front of a weight, or skipped without one.
LARGEST_GAP = 15

Bytes = NDArray[np.uint8]


class SparseStreamError(ValueError):
    """A stream that no encoder has made; the message says why."""


def lane_places(machine: Machine) -> NDArray[np.int64]:
    """Where in a tile each lane's weights are: (lanes, weights of a lane).

    A lane goes through all output lanes and all input lanes, because some outputs and some inputs of a pruned
    layer have many weights and others few.
    """
    lanes = machine.bus_bytes
    row = np.arange(machine.tile_bytes // lanes)
    return row * lanes + (np.arange(lanes)[:, None] - row) % lanes


def _lanes(fields: Bytes, machine: Machine) -> Bytes:
    """(blocks, tiles, tile_bytes) as (blocks, lanes, weights of a lane)."""
    blocks = len(fields)
    return fields[..., lane_places(machine)].transpose(0, 2, 1, 3).reshape(blocks, machine.bus_bytes, -1)


def sparse_beats(steps: int, *, wide: bool) -> int:
    """Beats of so many steps."""
    return steps + -(-steps // 2) if wide else steps


def least_steps(fields: Bytes, machine: Machine) -> int:
    """Steps that all blocks together take at least: a lower bound without encoding them."""
    return int((_lanes(fields, machine) != 0).sum(axis=2).max(axis=1, initial=0).sum())


def encode_sparse(fields: Bytes, machine: Machine, *, wide: bool) -> list[bytes]:
    """The stream of each block, whole weight words.

    All blocks are encoded at once, a step in each turn, as the decoder takes them.

    Parameters
    ----------
    fields : uint8 array (blocks, tiles, tile_bytes)
        Of each weight; 0 for no weight.  Narrow ones are below 16.
    machine : Machine
    wide : bool
    """
    lanes = _lanes(fields, machine)
    blocks, count, total = lanes.shape
    part = machine.tile_bytes // count
    # where each lane's next weight is, from every position on; `total`: there is none
    places = np.where(lanes != 0, np.arange(total), total)
    following = np.full((blocks, count, total + 1), total)
    following[..., :total] = np.minimum.accumulate(places[..., ::-1], axis=2)[..., ::-1]
    rows, columns = np.indices((blocks, count))
    position = np.zeros((blocks, count), np.int64)
    given = np.full(blocks, -WINDOW)  # tiles that have left; below zero, of the block before
    steps = []
    while (position < total).any():
        limit = np.minimum((given[:, None] + WINDOW) * part, total)  # of positions
        target = following[rows, columns, position]
        gap = np.minimum(np.minimum(target, limit) - position, LARGEST_GAP)
        arrives = (position + gap == target) & (target < limit)
        field = np.where(arrives, lanes[rows, columns, np.minimum(target, total - 1)], 0)
        steps.append(np.stack([gap, field], axis=1).astype(np.uint8))
        # a tile leaves in the cycle of the next step, if all lanes are past it
        given += position.min(axis=1) >= (given + 1) * part
        position += gap + arrives
    entries = np.stack(steps, axis=1) if steps else np.zeros((blocks, 0, 2, count), np.uint8)
    streams = []
    for block in entries:
        used = np.flatnonzero(block.any(axis=(1, 2)))
        block = block[: int(used[-1]) + 1 if len(used) else 0]
        stream = (_in_threes(block) if wide else block[:, 0] << 4 | block[:, 1]).tobytes()
        streams.append(stream + bytes(-len(stream) % machine.weight_word_bytes))
    return streams


def _in_threes(entries: Bytes) -> Bytes:
    """Beats of wide entries (steps, 2, lanes)."""
    odd = len(entries) % 2
    whole = np.pad(entries, ((0, odd), (0, 0), (0, 0)))
    gaps, fields = whole.reshape(-1, 2, *entries.shape[1:]).swapaxes(0, 2)
    beats = np.stack([gaps[0] | gaps[1] << 4, fields[0], fields[1]], axis=1)
    return beats.reshape(-1, entries.shape[2])[: sparse_beats(len(entries), wide=True)]


def _entries(stream: Bytes, *, wide: bool) -> tuple[Bytes, Bytes]:
    """Gaps and fields of each step, (steps, lanes), of beats (beats, lanes)."""
    if not wide:
        return (stream >> 4).astype(np.uint8), (stream & 15).astype(np.uint8)
    lanes = stream.shape[1]
    threes = np.pad(stream, ((0, -len(stream) % 3), (0, 0))).reshape(-1, 3, lanes)
    gaps = np.stack([threes[:, 0] & 15, threes[:, 0] >> 4], axis=1).astype(np.uint8)
    return gaps.reshape(-1, lanes), threes[:, 1:].reshape(-1, lanes)


def decode_sparse(content: bytes, tiles: int, machine: Machine, *, wide: bool) -> Bytes:
    """The fields of one block's weights, (tiles, tile_bytes); 0 for those without one.

    Raises
    ------
    SparseStreamError
        If the stream leaves the decoder's window or ends elsewhere than at the end of the last tile.
    """
    count = machine.bus_bytes
    part = machine.tile_bytes // count
    lanes = np.zeros((count, tiles * part), np.uint8)
    position, given = np.zeros(count, np.int64), -WINDOW
    gaps, fields = _entries(np.frombuffer(content, np.uint8).reshape(-1, count), wide=wide)
    for number, (gap, field) in enumerate(zip(gaps.astype(np.int64), fields, strict=True)):
        limit = min((given + WINDOW) * part, tiles * part)
        place, written = position + gap, field != 0
        if (place + written > limit).any():
            raise SparseStreamError(f"step {number} of a sparse stream leaves the window")
        lanes[written, place[written]] = field[written]
        given += position.min() >= (given + 1) * part
        position = place + written
    if (position != tiles * part).any():
        raise SparseStreamError("a sparse stream ends before its last tile")
    found = np.zeros((tiles, machine.tile_bytes), np.uint8)
    found[:, lane_places(machine)] = lanes.reshape(count, tiles, part).transpose(1, 0, 2)
    return found
