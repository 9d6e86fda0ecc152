"""What the machine executes, before tiling: operations on feature maps in external memory.

An operation is one COMPUTE instruction of unlimited size: it reads some planes of one feature map and
writes a rectangle of some planes of another (`docs/machine.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hw.isa import NARROW_BYTES, Mode
from hw.machine import Machine

__all__ = ["BLOCK_LIMIT", "Average", "Operation", "Residual", "Storage", "Tail", "View", "WeightTiles"]

#: Most blocks of inputs or of outputs in one COMPUTE.
BLOCK_LIMIT = 4095


@dataclass(frozen=True)
class Storage:
    """A place in external memory for ``planes`` planes of ``rows`` x ``columns`` words.

    A tensor lives in a `View` of a storage; several inputs of a Concat may share one.

    A *narrow* one (`docs/machine.md`) has ``beat_pixels`` pixels in a beat of the bus, and whole beats in a
    row; others have 0.
    """

    name: str
    planes: int
    rows: int
    columns: int
    beat_pixels: int = 0

    @property
    def narrow(self) -> bool:
        """Whether a pixel takes `NARROW_BYTES` in memory, not a whole word."""
        return self.beat_pixels > 0

    def pixel_bytes(self, word_bytes: int) -> int:
        """Bytes of a pixel of a plane in memory."""
        return NARROW_BYTES if self.narrow else word_bytes

    def byte_count(self, word_bytes: int) -> int:
        """Bytes that the whole of it takes in memory."""
        return self.words * self.pixel_bytes(word_bytes)

    @property
    def words(self) -> int:
        """Scratchpad words that the whole of it takes."""
        return self.planes * self.rows * self.columns


@dataclass(frozen=True)
class View:
    """Consecutive planes of a storage; ``signed`` says how a reader takes their bytes."""

    storage: Storage
    first_plane: int
    planes: int
    signed: bool

    def part(self, first: int, count: int) -> View:
        """``count`` of its planes from its plane ``first`` on."""
        return View(self.storage, self.first_plane + first, count, self.signed)


@dataclass(frozen=True)
class Residual:
    """A second operand added after the first clip: fields of COMPUTE of the same names."""

    view: View
    own_shift: int
    residual_shift: int
    sum_shift: int
    sum_low: int
    sum_high: int


@dataclass(frozen=True)
class Average:
    """Division instead of a shift: accumulator * 2^divisor_shift / divisor."""

    divisor: int
    divisor_shift: int


class WeightTiles(Protocol):
    """Where an operation's weights come from, one output block at a time."""

    def source_blocks(self, block: int) -> tuple[int, int]:
        """First block of ``input_lanes`` channels that an output block reads, and how many; of twice as many
        channels where weights come in pairs."""
        ...

    def tiles(self, block: int, slot_columns: int) -> NDArray[np.int8]:
        """(tiles, output lane, input lane) weights of an output block in the order of its passes.

        ``slot_columns`` counts only where input lanes are taps: see `Operation.slot_columns`.
        """
        ...


@dataclass(frozen=True)
class Tail:
    """The source's last few channels, alone in their plane: THIN passes may take them, many taps in each,
    and continue the sums of the DENSE passes of the others.

    Attributes
    ----------
    channels : int
    weights : WeightTiles
        Of these channels only.
    pairs : bool
        As `Operation.pairs`.
    """

    channels: int
    weights: WeightTiles
    pairs: bool = False


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of a network on the machine.

    Attributes
    ----------
    name, kind : str
        The layer it belongs to, and what it is for people.
    source, destination : View
    first_row, first_column, rows, columns : int
        Rectangle of the destination that it writes.
    kernel, stride, dilation : (rows, columns)
    origin : (row, column)
        Corner of the window of the destination's pixel (0, 0): minus the padding.
    thin_channels : int
        Channels of the source in mode THIN.
    weights : WeightTiles
        One set of tiles for each plane of the destination.
    pairs : bool
        Its weights have 4 bits, two in a byte (`hw.weight_pairs`).
    tail : Tail or None
        Of a DENSE operation; ``weights`` have these channels, too.
    bias : int64 array (planes, output lanes)
    shift : int64 array (planes, output lanes)
        Right shifts, −9 … 40.
    low, high : int
        Clip bounds of the operation's own result.
    average : Average or None
    residual : Residual or None
    macs : int
        Products that the network asks for, without padding of lanes.
    """

    name: str
    kind: str
    mode: Mode
    source: View
    destination: View
    first_row: int
    first_column: int
    rows: int
    columns: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    origin: tuple[int, int] = (0, 0)
    thin_channels: int = 0
    weights: WeightTiles
    pairs: bool = False
    tail: Tail | None = None
    hold_weights: bool = False
    bias: NDArray[np.int64]
    shift: NDArray[np.int64]
    low: int
    high: int
    average: Average | None = None
    residual: Residual | None = None
    macs: int = 0

    @property
    def taps(self) -> int:
        """Positions of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def reads_taps(self) -> bool:
        """Whether input lanes are taps in some of its passes, so that their number depends on the pitch."""
        return self.mode.reads_taps or self.tail is not None

    def blocks_per_word(self, machine: Machine) -> int:
        """Blocks of channels, as ``weights.source_blocks`` counts them, in one word."""
        return machine.blocks_per_word // (2 if self.pairs else 1)

    def source_planes(self, first_block: int, blocks: int, machine: Machine) -> tuple[int, int]:
        """First plane of ``source`` that these output blocks read, and how many."""
        blocks_per_word = self.blocks_per_word(machine)
        if not self.mode.shares_inputs:
            return first_block, blocks
        ranges = [self.weights.source_blocks(block) for block in range(first_block, first_block + blocks)]
        first = min(start for start, _ in ranges) // blocks_per_word
        last = max(start + count - 1 for start, count in ranges) // blocks_per_word
        return first, last - first + 1

    def slot_columns(self, machine: Machine, pitch: int) -> int:
        """Taps of a kernel row, with those that count as zero, for words ``pitch`` apart from row to row.

        Where input lanes are taps, consecutive ones must lie in consecutive banks of the scratchpad, the
        first of a row behind the last of the row before it (`docs/machine.md`).
        """
        rows, columns = self.kernel
        return columns if rows == 1 else columns + (pitch - columns) % machine.input_lanes

    def passes(self, machine: Machine, block: int, slot_columns: int) -> int:
        """Passes over the tile's pixels that an output block takes."""
        if self.mode.reads_taps:
            return self._slot_passes(machine, slot_columns, max(self.thin_channels, 1), self.pairs)
        dense = self.taps * (self.weights.source_blocks(block)[1] if self.mode is Mode.DENSE else 1)
        tail = self.tail_passes(machine, slot_columns)
        return dense - self.taps + tail if tail else dense

    def tail_passes(self, machine: Machine, slot_columns: int) -> int:
        """THIN passes of the tail; 0 if there is none, or if DENSE passes take it as well."""
        if self.tail is None:
            return 0
        passes = self._slot_passes(machine, slot_columns, self.tail.channels, self.tail.pairs)
        return passes if passes < self.taps and passes <= BLOCK_LIMIT else 0

    def _slot_passes(self, machine: Machine, slot_columns: int, channels: int, pairs: bool) -> int:
        slots = (self.kernel[0] - 1) * slot_columns + self.kernel[1]
        return -(-slots * channels // (machine.input_lanes * (2 if pairs else 1)))

    def window(self, axis: int, first: int, count: int) -> tuple[int, int]:
        """Rows (axis 0) or columns (1) of the source, [low, high), that ``count`` outputs from ``first``
        (counted in the destination) read.  At least one, so that an image part is never empty; of a narrow
        map whole beats."""
        size = (self.source.storage.rows, self.source.storage.columns)[axis]
        start = self.origin[axis] + first * self.stride[axis]
        end = start + (count - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
        low = min(max(start, 0), size - 1)
        high = max(min(end, size), low + 1)
        if axis == 1 and (together := self.source.storage.beat_pixels):
            return low // together * together, -(-high // together) * together
        return low, high
