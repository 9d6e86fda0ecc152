"""Weights in the order in which the machine takes them (`docs/machine.md`, weight stream)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.operation import Operation, WeightTiles
from hw.machine import Machine
from hw.weight_pairs import pair_tiles
from hw.weight_stream import BlockHeader

__all__ = ["ChannelTaps", "DenseTaps", "DiagonalWeight", "SameWeight", "ThinTaps", "block_tiles", "folded",
           "weight_stream"]


@dataclass(frozen=True)
class DenseTaps:
    """Weights of dense, grouped and permuting convolutions.

    Attributes
    ----------
    machine : Machine
    values : int array (outputs, k, rows, columns)
        Output o multiplies the ``k`` channels of the source from ``first_channel[o]`` on; rows of
        zeros read nothing.
    first_channel : int array (outputs,)
    pairs : bool
        Two weights in a byte (`hw.weight_pairs`): blocks have twice as many channels.
    """

    machine: Machine
    values: NDArray[np.integer]
    first_channel: NDArray[np.int64]
    pairs: bool = False

    @property
    def lanes(self) -> int:
        """Channels of a block."""
        return self.machine.input_lanes * (2 if self.pairs else 1)

    def _outputs(self, block: int) -> slice:
        lanes = self.machine.output_lanes
        return slice(block * lanes, min((block + 1) * lanes, len(self.values)))

    def source_blocks(self, block: int) -> tuple[int, int]:
        """See `compiler.operation.WeightTiles`."""
        outputs, lanes = self._outputs(block), self.lanes
        channels = self.first_channel[outputs]
        if self.values.shape[1] == 1:  # single weights: leave out those that are zero
            channels = channels[self.values[outputs].reshape(len(channels), -1).any(axis=1)]
        if not len(channels):
            return 0, 1
        first = int(channels.min()) // lanes
        return first, (int(channels.max()) + self.values.shape[1] - 1) // lanes - first + 1

    def tiles(self, block: int, slot_columns: int = 0) -> NDArray[np.int8]:
        """See `compiler.operation.WeightTiles`."""
        outputs, lanes = self._outputs(block), self.lanes
        first, count = self.source_blocks(block)
        values = self.values[outputs]
        _, taken, rows, columns = values.shape
        full = np.zeros((self.machine.output_lanes, count * lanes, rows, columns), np.int8)
        starts = self.first_channel[outputs] - first * lanes
        used = np.flatnonzero(values.reshape(len(values), -1).any(axis=1))
        for start in np.unique(starts[used]):
            chosen = used[starts[used] == start]
            full[chosen, start : start + taken] = values[chosen]
        blocked = full.reshape(self.machine.output_lanes, count, lanes, rows, columns)
        tiles = blocked.transpose(1, 3, 4, 0, 2).reshape(-1, self.machine.output_lanes, lanes)
        return pair_tiles(tiles, self.machine) if self.pairs else tiles


def _in_lanes(
    machine: Machine, products: NDArray[np.integer], *, pairs: bool = False
) -> NDArray[np.int8]:
    """(outputs, products of a window) as tiles: product k on input lane k mod ``input_lanes``, or of twice as
    many with ``pairs``."""
    lanes = machine.input_lanes * (2 if pairs else 1)
    passes = -(-products.shape[1] // lanes)
    full = np.zeros((machine.output_lanes, passes * lanes), np.int8)
    full[: len(products), : products.shape[1]] = products
    tiles = full.reshape(machine.output_lanes, passes, lanes).transpose(1, 0, 2)
    return pair_tiles(tiles, machine) if pairs else tiles


def _in_slots(values: NDArray[np.integer], slot_columns: int) -> NDArray[np.integer]:
    """(..., rows, columns) as (..., slots) up to the last tap, zero where a slot is no tap."""
    *others, rows, columns = values.shape
    slots = np.zeros((*others, rows, slot_columns), values.dtype)
    slots[..., :columns] = values
    return slots.reshape(*others, -1)[..., : (rows - 1) * slot_columns + columns]


class _WordsOfOnePlane:
    """Modes that take whole words of one plane, not groups of their channels."""

    def source_blocks(self, block: int) -> tuple[int, int]:
        """See `compiler.operation.WeightTiles`."""
        return 0, 1


@dataclass(frozen=True)
class ChannelTaps(_WordsOfOnePlane):
    """Weights of depthwise convolutions.

    Attributes
    ----------
    machine : Machine
    values : int array (channels, rows, columns)
    """

    machine: Machine
    values: NDArray[np.integer]

    def tiles(self, block: int, slot_columns: int) -> NDArray[np.int8]:
        """See `compiler.operation.WeightTiles`."""
        lanes = self.machine.output_lanes
        values = self.values[block * lanes : (block + 1) * lanes]
        return _in_lanes(self.machine, _in_slots(values, slot_columns))


@dataclass(frozen=True)
class ThinTaps(_WordsOfOnePlane):
    """Weights of a dense convolution of few channels.

    Attributes
    ----------
    machine : Machine
    values : int array (outputs, channels, rows, columns)
    pairs : bool
        Two weights in a byte (`hw.weight_pairs`); of two channels or more.
    """

    machine: Machine
    values: NDArray[np.integer]
    pairs: bool = False

    def tiles(self, block: int, slot_columns: int) -> NDArray[np.int8]:
        """See `compiler.operation.WeightTiles`."""
        lanes = self.machine.output_lanes
        slots = _in_slots(self.values[block * lanes : (block + 1) * lanes], slot_columns)
        products = slots.transpose(0, 2, 1).reshape(len(slots), -1)
        return _in_lanes(self.machine, products, pairs=self.pairs)


@dataclass(frozen=True)
class SameWeight(_WordsOfOnePlane):
    """One weight for every tap of a channel, held for all passes: poolings and copies.

    Attributes
    ----------
    machine : Machine
    values : int array (channels,)
    taps_on_lanes : bool
        Input lanes are taps; else only the first one counts.
    """

    machine: Machine
    values: NDArray[np.integer]
    taps_on_lanes: bool

    def tiles(self, block: int, slot_columns: int) -> NDArray[np.int8]:
        """See `compiler.operation.WeightTiles`."""
        lanes = self.machine.output_lanes
        values = self.values[block * lanes : (block + 1) * lanes]
        tile = np.zeros((1, lanes, self.machine.input_lanes), np.int8)
        tile[0, : len(values), : None if self.taps_on_lanes else 1] = values[:, None]
        return tile


@dataclass(frozen=True)
class DiagonalWeight:
    """`SameWeight` as a dense convolution that leaves each channel to itself, for machines with as many input
    lanes as output lanes.

    Attributes
    ----------
    machine : Machine
    values : int array (channels,)
    """

    machine: Machine
    values: NDArray[np.integer]

    def source_blocks(self, block: int) -> tuple[int, int]:
        """See `compiler.operation.WeightTiles`."""
        return block, 1

    def tiles(self, block: int, slot_columns: int) -> NDArray[np.int8]:
        """See `compiler.operation.WeightTiles`."""
        lanes = self.machine.output_lanes
        values = np.zeros(lanes, np.int8)
        own = self.values[block * lanes : (block + 1) * lanes]
        values[: len(own)] = own
        return np.diag(values)[None]


def block_tiles(machine: Machine, operation: Operation, first_block: int, blocks: int,
                slot_columns: int = 0, part: slice | None = None,
                weights: WeightTiles | None = None) -> NDArray[np.int8]:
    """Tiles, or a ``part`` of them, of the output blocks of one COMPUTE: (blocks, tiles, tile_bytes).

    ``weights``: the operation's tail; by default its own.
    """
    found = [(weights or operation.weights).tiles(block, slot_columns)
             for block in range(first_block, first_block + blocks)]
    tiles = np.stack(found).reshape(blocks, -1, machine.tile_bytes)
    return tiles if part is None else tiles[:, part]


def folded(machine: Machine, operation: Operation, first_block: int, tiles: NDArray[np.int8],
           rows_adjoin: bool) -> NDArray[np.int8]:
    """`block_tiles` of whole words, in the order of a COMPUTE with ``fold``: by part of the word, kernel row
    unless ``rows_adjoin``, plane, the others."""
    per_word = operation.blocks_per_word(machine)
    start, count = operation.weights.source_blocks(first_block)
    planes = -(-(start + count) // per_word) - start // per_word
    before = start % per_word
    blocks = tiles.reshape(len(tiles), count, *operation.kernel, -1)
    behind = planes * per_word - before - count
    whole = np.pad(blocks, ((0, 0), (before, behind), (0, 0), (0, 0), (0, 0)))
    whole = whole.reshape(len(tiles), planes, per_word, *operation.kernel, -1)
    order = (0, 2, 1, 3, 4, 5) if rows_adjoin else (0, 2, 3, 1, 4, 5)
    return whole.transpose(order).reshape(len(tiles), -1, machine.tile_bytes)


def weight_stream(machine: Machine, operation: Operation, first_block: int, tiles: list[bytes],
                  headers: Sequence[BlockHeader] | None = None) -> bytes:
    """What WEIGHTS reads for consecutive output blocks: parameters, and ``tiles`` as their headers say, by
    default raw."""
    parts: list[bytes] = []
    for block, (content, header) in enumerate(
            zip(tiles, headers or [BlockHeader()] * len(tiles), strict=True), first_block):
        parameters = np.zeros((machine.output_lanes, 8), np.uint8)
        parameters[:, :4] = operation.bias[block].astype("<i4").view(np.uint8).reshape(-1, 4)
        parameters[:, 4] = operation.shift[block].astype(np.int8).view(np.uint8)
        parameters[0, 7] = header.to_byte()
        parts += [parameters.tobytes(), content]
    return b"".join(parts)
