"""Weights in the order in which the machine takes them (`docs/machine.md`, weight stream)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.operation import Operation
from hw.machine import Machine

__all__ = ["ChannelTaps", "DenseTaps", "weight_stream"]


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
    """

    machine: Machine
    values: NDArray[np.integer]
    first_channel: NDArray[np.int64]

    def _outputs(self, block: int) -> slice:
        lanes = self.machine.output_lanes
        return slice(block * lanes, min((block + 1) * lanes, len(self.values)))

    def source_blocks(self, block: int) -> tuple[int, int]:
        """See `compiler.operation.WeightTiles`."""
        outputs, lanes = self._outputs(block), self.machine.input_lanes
        channels = self.first_channel[outputs]
        if self.values.shape[1] == 1:  # single weights: leave out those that are zero
            channels = channels[self.values[outputs].reshape(len(channels), -1).any(axis=1)]
        if not len(channels):
            return 0, 1
        first = int(channels.min()) // lanes
        return first, (int(channels.max()) + self.values.shape[1] - 1) // lanes - first + 1

    def tiles(self, block: int) -> NDArray[np.int8]:
        """See `compiler.operation.WeightTiles`."""
        outputs, lanes = self._outputs(block), self.machine.input_lanes
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
        return blocked.transpose(1, 3, 4, 0, 2).reshape(-1, self.machine.output_lanes, lanes)


@dataclass(frozen=True)
class ChannelTaps:
    """Weights of depthwise and maximum passes: (channels, tiles) for tap after tap."""

    machine: Machine
    values: NDArray[np.integer]

    def source_blocks(self, block: int) -> tuple[int, int]:
        """See `compiler.operation.WeightTiles`; these modes always take one word."""
        return 0, 1

    def tiles(self, block: int) -> NDArray[np.int8]:
        """See `compiler.operation.WeightTiles`."""
        lanes = self.machine.output_lanes
        values = self.values[block * lanes : (block + 1) * lanes]
        tiles = np.zeros((values.shape[1], lanes, self.machine.input_lanes), np.int8)
        tiles[:, : len(values), 0] = values.T
        return tiles


def weight_stream(machine: Machine, operation: Operation, first_block: int, blocks: int) -> bytes:
    """The bytes that one COMPUTE takes: parameters and tiles of its output blocks."""
    parts: list[bytes] = []
    for block in range(first_block, first_block + blocks):
        parameters = np.zeros((machine.output_lanes, 8), np.uint8)
        parameters[:, :4] = operation.bias[block].astype("<i4").view(np.uint8).reshape(-1, 4)
        parameters[:, 4] = operation.shift[block].astype(np.int8).view(np.uint8)
        parts += [parameters.tobytes(), operation.weights.tiles(block).tobytes()]
    return b"".join(parts)
