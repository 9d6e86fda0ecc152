"""How an operation is cut into pieces that fit the scratchpad and the accumulators.

The output is cut into rectangles of pixels (tiles).  For each of them the input planes are in the
scratchpad, and output blocks are computed in chunks: one or more COMPUTE instructions, then a STORE.
Operations that keep channels apart, and grouped ones, load only the planes of one group of blocks.
Slots are places in the scratchpad that take turns, so that loading, computing and storing overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from compiler.error import CompileError
from compiler.operation import Operation
from hw.isa import Mode
from hw.machine import Machine

__all__ = ["COMPUTE_OVERHEAD", "LEAST_PASS", "Tiling", "TilingProblem", "choose_tiling"]

#: Cycles between two COMPUTE instructions, while the pipeline runs empty and fills.
COMPUTE_OVERHEAD = 24
#: A pass lasts no less than the accumulators' read-add-write loop.
LEAST_PASS = 6
#: Cycles before the first word of a LOAD arrives, and between the rows of one that is not contiguous.
LOAD_LATENCY = 30
ROW_OVERHEAD = 3
#: How many cycles a bus beat takes, and the weight of such a memory in the choice: one that is nearly as
#: fast as the bus, and a narrow SDRAM.  So little traffic is preferred where it costs no cycles.
MEMORIES = ((1.3, 0.8), (4.5, 0.2))


@dataclass(frozen=True)
class Tiling:
    """Sizes of the pieces and of the places for them.

    Attributes
    ----------
    tile_rows, tile_columns : int
        Output pixels computed together, at most ``accumulator_depth``.
    group_blocks : int
        Output blocks that share the input planes of one load.
    chunk_blocks : int
        Output blocks between two stores.
    source_slots, source_words : int
        Places for input tiles in the scratchpad and the words of each; 0 if the whole map is there.
    destination_slots, destination_words : int
        The same for outputs.
    cycles : int
        Modelled duration, for comparison only.
    """

    tile_rows: int
    tile_columns: int
    group_blocks: int
    chunk_blocks: int
    source_slots: int
    source_words: int
    destination_slots: int
    destination_words: int
    cycles: int

    @property
    def words(self) -> int:
        """Scratchpad words of all slots."""
        return self.source_slots * self.source_words + self.destination_slots * self.destination_words


def _sizes(extent: int, most: int) -> list[int]:
    """Sizes of nearly equal pieces of ``extent``, from few pieces to many, none larger than ``most``."""
    sizes = {-(-extent // pieces) for pieces in range(1, min(extent, 64) + 1)}
    sizes |= {size for size in range(1, min(extent, most) + 1) if size <= 8 or size & (size - 1) == 0}
    return sorted((size for size in sizes if size <= most), reverse=True)


@dataclass(frozen=True)
class TilingProblem:
    """An operation with what is known of its surroundings.

    ``source_resident`` and ``destination_resident``: the whole map is in the scratchpad, so that no
    slots are needed.  ``source_arrives``: it is there, but this operation must load it.
    ``residual_arrives``: the second operand comes from memory.
    """

    operation: Operation
    machine: Machine
    source_resident: bool = False
    source_arrives: bool = False
    destination_resident: bool = False
    residual_arrives: bool = False

    @cached_property
    def _passes(self) -> list[int]:
        return [self.operation.passes(block) for block in range(self.operation.destination.planes)]

    @cached_property
    def _groups(self) -> list[int]:
        """Candidates for ``group_blocks``, largest first."""
        blocks, per_word = self.operation.destination.planes, self.machine.blocks_per_word
        planes = self.operation.source_planes(0, blocks, per_word)[1]
        most_of_one = max(self.operation.source_planes(block, 1, per_word)[1] for block in range(blocks))
        if most_of_one == planes:
            return [blocks]
        return _sizes(blocks, blocks)

    def _planes(self, group: int) -> tuple[int, int]:
        """Most input planes that a group loads, and those of all groups together."""
        blocks, per_word = self.operation.destination.planes, self.machine.blocks_per_word
        counts = [
            self.operation.source_planes(first, min(group, blocks - first), per_word)[1]
            for first in range(0, blocks, group)
        ]
        return max(counts), sum(counts)

    def _extent(self, axis: int, count: int) -> int:
        """Rows or columns of input, at most, for ``count`` outputs."""
        operation = self.operation
        size = (operation.source.storage.rows, operation.source.storage.columns)[axis]
        return min(
            size,
            (count - 1) * operation.stride[axis]
            + (operation.kernel[axis] - 1) * operation.dilation[axis]
            + 1,
        )

    def best(self, words: int) -> Tiling | None:
        """The tiling with the fewest modelled cycles in ``words`` of the scratchpad; None if none fits."""
        best: Tiling | None = None
        operation, depth = self.operation, self.machine.accumulator_depth
        for columns in _sizes(operation.columns, depth):
            for rows in _sizes(operation.rows, depth // columns):
                for group in self._groups:
                    for tiling in self._candidates(rows, columns, group, words):
                        if best is None or tiling.cycles < best.cycles:
                            best = tiling
            if best is not None and columns * 4 < operation.columns:
                break  # still narrower tiles only shorten bursts
        return best

    def least_words(self) -> int:
        """Words that the smallest possible tiling takes."""
        planes = min(self._planes(group)[0] for group in self._groups)
        source = 0 if self.source_resident else planes * self._extent(0, 1) * self._extent(1, 1)
        return source + (0 if self.destination_resident else 1)

    def _candidates(self, rows: int, columns: int, group: int, words: int) -> list[Tiling]:
        source_words = 0
        planes, all_planes = self._planes(group)
        if not self.source_resident:
            source_words = planes * self._extent(0, rows) * self._extent(1, columns)
            if source_words >= words:
                return []
        found = []
        channelwise = self.operation.mode is not Mode.DENSE
        chunks = [group] if channelwise else _sizes(group, group)
        for chunk in chunks:
            destination_words = 0 if self.destination_resident else chunk * rows * columns
            for source_slots, destination_slots in ((2, 2), (2, 1), (1, 2), (1, 1)):
                if (source_words == 0 and source_slots == 1) or (
                    destination_words == 0 and destination_slots == 1
                ):
                    continue
                if source_slots * source_words + destination_slots * destination_words > words:
                    continue
                found.append(
                    Tiling(
                        rows,
                        columns,
                        group,
                        chunk,
                        source_slots if source_words else 0,
                        source_words,
                        destination_slots if destination_words else 0,
                        destination_words,
                        self._cycles(
                            rows, columns, group, chunk, all_planes, source_slots, destination_slots
                        ),
                    )
                )
        return found

    def _cycles(
        self,
        rows: int,
        columns: int,
        group: int,
        chunk: int,
        all_planes: int,
        source_slots: int,
        destination_slots: int,
    ) -> int:
        operation, machine = self.operation, self.machine
        down, across = -(-operation.rows // rows), -(-operation.columns // columns)
        tiles, blocks = down * across, operation.destination.planes
        pixels = operation.rows * operation.columns / tiles
        tile_cycles = machine.tile_bytes // machine.bus_bytes
        per_pass = max(pixels, LEAST_PASS, 0 if operation.hold_weights else tile_cycles)
        last = pixels * (15 if operation.average else 1 if operation.residual else 0)
        passes = sum(self._passes)
        groups = -(-blocks // group)
        computes = tiles * groups * -(-group // chunk)
        compute = tiles * (passes * per_pass + blocks * last) + computes * COMPUTE_OVERHEAD
        # bus
        weight_tiles = blocks if operation.hold_weights else passes
        weights = (
            tiles
            * (weight_tiles * machine.tile_bytes + blocks * machine.parameter_bytes)
            // machine.bus_bytes
        )
        load, first_load = 0.0, 0.0
        if not self.source_resident:
            words = self._extent(0, rows) * self._extent(1, columns)
            row_count = 1 if columns == operation.columns else self._extent(0, rows)
            load = tiles * all_planes * (words * machine.beats_per_word + row_count * ROW_OVERHEAD)
            load += tiles * groups * LOAD_LATENCY
        elif self.source_arrives:
            load = (
                operation.source.planes * self._extent(0, operation.rows) * self._extent(1, operation.columns)
            )
            load = load * machine.beats_per_word + LOAD_LATENCY * tiles
        first_load = load / (tiles * groups)
        store = tiles * blocks * pixels * machine.beats_per_word
        if columns != operation.columns:
            store += tiles * blocks * rows * ROW_OVERHEAD
        if self.residual_arrives:
            load += store
        last_store = (
            0.0 if self.destination_resident else pixels * chunk * machine.beats_per_word + LOAD_LATENCY
        )
        # what cannot overlap is added
        serial, overlapped = 0.0, float(weights)
        for traffic, slots in ((load, source_slots), (store, destination_slots)):
            if slots == 1 and tiles * groups > 1:
                serial += traffic
            else:
                overlapped += traffic
        serial += first_load + last_store
        return int(
            sum(
                share * (max(compute, slowness * overlapped) + slowness * serial)
                for slowness, share in MEMORIES
            )
        )


def choose_tiling(problem: TilingProblem, words: int) -> Tiling:
    """The best tiling in ``words`` of the scratchpad.

    Raises
    ------
    CompileError
        If even the smallest tile does not fit; with the sizes.
    """
    tiling = problem.best(words)
    if tiling is None:
        operation, machine = problem.operation, problem.machine
        raise CompileError(
            f"{operation.name}: its smallest tile takes {problem.least_words()} words of "
            f"{machine.word_bytes} bytes ({operation.source.planes} input planes, kernel "
            f"{operation.kernel[0]}x{operation.kernel[1]}), the scratchpad has {words}; use a machine with "
            "more scratchpad_words"
        )
    return tiling
