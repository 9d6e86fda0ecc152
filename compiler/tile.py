"""How an operation is cut into pieces that fit the scratchpad and the accumulators.

The output is cut into rectangles of pixels (tiles).  For each of them the input planes are in the
scratchpad, and output blocks are computed in chunks: one or more COMPUTE instructions, then a STORE.
Operations that keep channels apart, and grouped ones, load only the planes of one group of blocks.
Slots are places in the scratchpad that take turns, so that loading, computing and storing overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from compiler.error import CompileError
from compiler.operation import Operation
from compiler.strips import StripCosts, Strips, lower_strips
from compiler.weight_repeats import most_repeated_bytes
from hw.isa import Mode, Opcode
from hw.machine import Machine
from hw.pass_loops import taps_pass_cycles
from hw.small_cycles import (
    BLOCK_CYCLES,
    INSTRUCTION_CYCLES,
    TYPICAL_SHIFT,
    block_cycles,
    post_cycles,
    transfer_cycles,
)

__all__ = [
    "COMPUTE_OVERHEAD",
    "LEAST_PASS",
    "MOST_SLOTS",
    "Tiling",
    "TilingProblem",
    "best_pitch",
    "choose_tiling",
]

#: Cycles that may pass between two COMPUTE instructions: the next one's tokens come late, or its first
#: results wait for the last ones before.
COMPUTE_OVERHEAD = 6
#: A pass lasts no less than the accumulators' read-add-write loop.
LEAST_PASS = 6
#: Cycles before the first word of a LOAD arrives, between two transfers, and between the rows of one that is
#: not contiguous.
LOAD_LATENCY = 40
TRANSFER_OVERHEAD = 4
ROW_OVERHEAD = 3
#: The last stores of an operation are made smaller down to so many words.
LEAST_LAST_WORDS = 8
#: Most places for inputs and for outputs of one operation.
MOST_SLOTS = 4
#: The same of outputs, where strips are low.
MOST_LOW_SLOTS = 8
#: How many cycles a bus beat takes, the weight of such a memory in the choice, and whether it reads and
#: writes at once: one that is nearly as fast as the bus, and a narrow SDRAM.  So little traffic is preferred
#: where it costs no cycles.
MEMORIES = ((1.3, 0.4, True), (4.0, 0.6, False))
#: Cycles between the words of two strips in the array; bytes of a strip's instructions, without the words
#: that are left out.
_STRIP_GAP = 1
_STRIP_BYTES = 48
#: Most parts of the inputs that the first tile of an operation is loaded and computed in, and the output
#: pixels from which on it is: with fewer the bus sets the pace, not the array.
PARTS = 8
LEAST_PIXELS_OF_PARTS = 16


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
    first_rows, last_rows : int
        Rows of the first group's first and the last group's last strip of tiles where they are lower, so
        that less of loading and storing stands alone; 0 where not.
    source_pitch : int
        Least words from row to row in a source slot; 0: as many as the row has.
    strips : Strips
        Rows of each strip of each group, where they are of many heights (`compiler.strips`); else empty.
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
    first_rows: int = 0
    last_rows: int = 0
    source_pitch: int = 0
    strips: Strips = ()

    def heights(self, rows: int, group: int, groups: int) -> Sequence[int]:
        """Rows of each strip of tiles of an output of ``rows`` rows, from the top, for one of the groups."""
        return self.strips[group] if self.strips else self.ramp(rows, group == 0, group == groups - 1)

    def ramp(self, rows: int, first: bool, last: bool) -> list[int]:
        """Those without ``strips``, for the first, the last or another group."""
        return _heights(rows, self.tile_rows, first * self.first_rows, last * self.last_rows)

    def chunks(self, blocks: int, together: int, last: bool) -> list[int]:
        """Output blocks of each store of a tile, the first one of ``together`` if that is not 0; the ``last``
        tile of an operation ends with fewer and fewer, so that little is left to store in the end."""
        whole, rest = divmod(blocks - together, self.chunk_blocks)
        sizes = [together] * (together > 0) + [self.chunk_blocks] * whole + [rest] * (rest > 0)
        if last and (len(sizes) > 1 or not together):
            left = sizes.pop()
            least = LEAST_LAST_WORDS // (self.tile_rows * self.tile_columns)
            while left > max(least, 1):
                sizes.append(-(-left // 2))
                left //= 2
            sizes.append(left)
        return sizes

    @property
    def words(self) -> int:
        """Scratchpad words of all slots."""
        return self.source_slots * self.source_words + self.destination_slots * self.destination_words


def _heights(rows: int, tile_rows: int, first: int, last: int) -> list[int]:
    whole, rest = divmod(rows - first - last, tile_rows)
    return [height for height in (first, *[tile_rows] * whole, rest, last) if height]


def _sizes(extent: int, most: int) -> list[int]:
    """Sizes of nearly equal pieces of ``extent``, from few pieces to many, none larger than ``most``."""
    sizes = {-(-extent // pieces) for pieces in range(1, min(extent, 64) + 1)}
    sizes |= {size for size in range(1, min(extent, most) + 1) if size <= 8 or size & (size - 1) == 0}
    return sorted((size for size in sizes if size <= most), reverse=True)


@dataclass(frozen=True)
class TilingProblem:
    """An operation with what is known of its surroundings.

    ``source_pitch`` and ``destination_pitch``: the whole map is in the scratchpad, so that no slots are
    needed, with rows so many words apart; else 0.  ``source_arrives``: it is there, but this operation
    must load it.  ``residual_arrives``: the second operand comes from memory.
    """

    operation: Operation
    machine: Machine
    source_pitch: int = 0
    source_arrives: bool = False
    destination_pitch: int = 0
    residual_arrives: bool = False

    @property
    def source_resident(self) -> bool:
        """Whether the source needs no slots."""
        return self.source_pitch > 0

    @property
    def destination_resident(self) -> bool:
        """Whether the destination needs no slots."""
        return self.destination_pitch > 0

    @cached_property
    def _passes_by_slots(self) -> dict[int, int]:
        return {}

    def _all_passes(self, pitch: int) -> int:
        """Passes of all output blocks, with the source's rows ``pitch`` words apart."""
        slots = self.operation.slot_columns(self.machine, pitch) if self.operation.reads_taps else 0
        if slots not in self._passes_by_slots:
            self._passes_by_slots[slots] = sum(
                self.operation.passes(self.machine, block, slots)
                for block in range(self.operation.destination.planes)
            )
        return self._passes_by_slots[slots]

    @cached_property
    def _planes_of_groups(self) -> dict[int, tuple[int, int]]:
        return {}

    @cached_property
    def _groups(self) -> list[int]:
        """Candidates for ``group_blocks``, largest first."""
        operation, machine = self.operation, self.machine
        blocks = operation.destination.planes
        planes = operation.source_planes(0, blocks, machine)[1]
        most_of_one = max(operation.source_planes(block, 1, machine)[1] for block in range(blocks))
        if most_of_one == planes:
            return [blocks]
        return _sizes(blocks, blocks)

    def _planes(self, group: int) -> tuple[int, int]:
        """Most input planes that a group loads, and those of all groups together."""
        if group not in self._planes_of_groups:
            blocks = self.operation.destination.planes
            counts = [
                self.operation.source_planes(first, min(group, blocks - first), self.machine)[1]
                for first in range(0, blocks, group)
            ]
            self._planes_of_groups[group] = (max(counts), sum(counts))
        return self._planes_of_groups[group]

    def _extent(self, axis: int, count: int) -> int:
        """Rows or columns of input, at most, for ``count`` outputs."""
        operation, storage = self.operation, self.operation.source.storage
        size = (storage.rows, storage.columns)[axis]
        kernel = (operation.kernel[axis] - 1) * operation.dilation[axis] + 1
        extent = (count - 1) * operation.stride[axis] + kernel
        if axis == 1 and storage.narrow:  # whole beats, also where the first pixel is the last of its beat
            extent = ((extent - 2) // storage.beat_pixels + 2) * storage.beat_pixels
        return min(size, extent)

    @property
    def _source_beats(self) -> float:
        """Beats of a word of the source in memory."""
        return self.operation.source.storage.pixel_bytes(self.machine.word_bytes) / self.machine.bus_bytes

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
        if best is None or self.machine.in_order:
            return best
        return self._lowered(self._widened(self._ramped(best), words))

    def _lowered(self, tiling: Tiling) -> Tiling:
        """The same with strips that become lower, where words are loaded, computed and stored in turn and the
        array is not what limits most."""
        operation, machine = self.operation, self.machine
        group, blocks = tiling.group_blocks, operation.destination.planes
        if (
            operation.mode.shares_inputs
            or operation.residual is not None
            or operation.average is not None
            or operation.source.storage.narrow  # loaded in less time than stored
            or tiling.tile_columns != operation.columns
            or tiling.chunk_blocks != group
            or tiling.source_slots == 1
            or tiling.destination_slots == 1
            or blocks % group
            or not (tiling.source_slots or self.source_arrives)
        ):
            return tiling
        columns, groups = operation.columns, blocks // group
        passes = self._all_passes(self.source_pitch or tiling.source_pitch) / groups
        weights = (group if operation.hold_weights else passes) * machine.tile_bytes
        weights += group * machine.parameter_bytes
        kept = weights <= most_repeated_bytes(machine)
        weights /= machine.bus_bytes
        if groups * weights <= machine.kept_weight_words:
            weights = 0.0  # they are on the chip
        extent = self._extent(0, operation.rows)
        costs = StripCosts(
            rows=operation.rows,
            groups=groups,
            most=tiling.tile_rows,
            new_rows=operation.stride[0],
            ahead=max(self._extent(0, 1) - operation.stride[0] + operation.origin[0], 0),
            load_row=group * self._extent(1, columns) * machine.beats_per_word * extent
            / (operation.rows * operation.stride[0]),
            store_row=group * columns * machine.beats_per_word,
            loads_whole=not self.source_resident,
            compute_row=passes * columns,
            compute_strip=_STRIP_GAP,
            strip=_STRIP_BYTES / machine.bus_bytes + (0.0 if kept else weights),
            group=weights if kept else 0.0,
            slots=MOST_LOW_SLOTS if tiling.destination_slots else 0,
        )
        present = tuple(tuple(tiling.heights(operation.rows, number, groups)) for number in range(groups))
        strips = lower_strips(costs, present)
        if strips is None:
            return tiling
        if not self.destination_resident:
            # the same room for more strips, so that none waits for a store that is late
            room = tiling.destination_slots * tiling.destination_words
            words = tiling.chunk_blocks * max(map(max, strips)) * columns
            slots = min(room // words, MOST_LOW_SLOTS)
            tiling = replace(tiling, destination_slots=slots, destination_words=words)
        return replace(tiling, strips=strips)

    def _widened(self, tiling: Tiling, words: int) -> Tiling:
        """The same with more than two slots, as far as there is room, for memory that is late to answer."""
        for _ in range(MOST_SLOTS - 2):
            for slots, size in (("destination_slots", tiling.destination_words),
                                ("source_slots", tiling.source_words)):
                if getattr(tiling, slots) >= 2 and tiling.words + size <= words:
                    tiling = replace(tiling, **{slots: getattr(tiling, slots) + 1})
        return tiling

    def _ramped(self, tiling: Tiling) -> Tiling:
        """The same with a lower first and last strip, where that is better."""
        rows = self.operation.rows
        lower = [
            0,
            *(height for height in (1, 2, 3, 4, 6, 8, 12, 16) if height < min(tiling.tile_rows, rows // 2)),
        ]
        for first in lower:
            for last in lower:
                changed = replace(tiling, first_rows=first, last_rows=last)
                changed = replace(changed, cycles=self._cycles(changed))
                if changed.cycles < tiling.cycles:
                    tiling = changed
        return tiling

    def least_words(self) -> int:
        """Words that the smallest possible tiling takes."""
        planes = min(self._planes(group)[0] for group in self._groups)
        source = 0 if self.source_resident else planes * self._extent(0, 1) * self._extent(1, 1)
        return source + (0 if self.destination_resident else 1)

    def _candidates(self, rows: int, columns: int, group: int, words: int) -> list[Tiling]:
        if self.source_resident:
            return self._with_source(rows, columns, group, words, 0)
        pitches = {0}
        if self.operation.reads_taps:
            extent = self._extent(1, columns)
            pitches = {extent, best_pitch(self.operation, self.machine, extent)}
        return [tiling for pitch in sorted(pitches)
                for tiling in self._with_source(rows, columns, group, words, pitch)]

    def _with_source(self, rows: int, columns: int, group: int, words: int, pitch: int) -> list[Tiling]:
        source_words = 0
        planes = self._planes(group)[0]
        if not self.source_resident:
            source_words = planes * self._extent(0, rows) * max(pitch, self._extent(1, columns))
            if source_words >= words:
                return []
        found = []
        chunks = _sizes(group, group) if self.operation.mode.shares_inputs else [group]
        slots = self.operation.slot_columns(self.machine, self.source_pitch or pitch)
        if self.operation.tail_passes(self.machine, slots):
            # the sums of all blocks wait for the tail's
            chunks = _sizes(group, self.machine.accumulator_depth // (rows * columns))
        for chunk in chunks:
            destination_words = 0 if self.destination_resident else chunk * rows * columns
            turns = ((1, 1),) if self.machine.in_order else ((2, 2), (2, 1), (1, 2), (1, 1))
            for source_slots, destination_slots in turns:
                if not self.machine.in_order and (
                    (source_words == 0 and source_slots == 1)
                    or (destination_words == 0 and destination_slots == 1)
                ):
                    continue
                if source_slots * source_words + destination_slots * destination_words > words:
                    continue
                tiling = Tiling(
                    rows,
                    columns,
                    group,
                    chunk,
                    source_slots if source_words else 0,
                    source_words,
                    destination_slots if destination_words else 0,
                    destination_words,
                    0,
                    source_pitch=pitch,
                )
                found.append(replace(tiling, cycles=self._cycles(tiling)))
        return found

    def _load(self, rows: int, columns: int, planes: int, pitch: int) -> float:
        """Bus cycles that bring the input of a tile."""
        words = self._extent(0, rows) * self._extent(1, columns)
        whole = columns == self.operation.columns and pitch <= self._extent(1, columns)
        runs = 1 if whole else self._extent(0, rows)
        return planes * (words * self._source_beats + runs * ROW_OVERHEAD) + TRANSFER_OVERHEAD

    def _cycles_in_order(self, tiling: Tiling) -> int:
        """Everything one after another."""
        operation = self.operation
        columns, group, chunk = tiling.tile_columns, tiling.group_blocks, tiling.chunk_blocks
        blocks = operation.destination.planes
        across, groups = -(-operation.columns // columns), -(-blocks // group)
        planes = self._planes(group)[1]
        whole = columns == operation.columns
        # of each output block alone, or of all blocks of a chunk
        instructions = blocks if groups > 1 or len(self._groups) > 1 else -(-group // chunk)
        begin = INSTRUCTION_CYCLES[Opcode.WEIGHTS] + INSTRUCTION_CYCLES[Opcode.COMPUTE]
        inputs = operation.weights.source_blocks(0)[1] if operation.mode is Mode.DENSE else 1
        total = 0.0
        for rows in tiling.ramp(operation.rows, first=False, last=False):
            pixels = rows * columns
            block = block_cycles(pixels, inputs, operation.kernel, holds=operation.hold_weights)
            block += BLOCK_CYCLES
            block += post_cycles(pixels, TYPICAL_SHIFT, (1, 1) if operation.residual else None)
            tile = instructions * begin + blocks * block
            if not self.source_resident:
                height, words = self._extent(0, rows), self._extent(1, columns)
                whole_rows = words == operation.source.storage.columns
                runs = (1, height * words) if whole_rows else (height, words)
                tile += planes * transfer_cycles(1, *runs, writes=False)
                tile += groups * INSTRUCTION_CYCLES[Opcode.LOAD]
            runs = (1, pixels) if whole else (rows, columns)
            chunks = groups * -(-group // chunk)
            tile += chunks * INSTRUCTION_CYCLES[Opcode.STORE]
            tile += blocks * transfer_cycles(1, *runs, writes=True)
            if self.residual_arrives:
                tile += chunks * INSTRUCTION_CYCLES[Opcode.LOAD]
                tile += blocks * transfer_cycles(1, *runs, writes=False)
            total += across * tile
        if self.source_arrives:
            words = self._extent(0, operation.rows) * self._extent(1, operation.columns)
            total += planes * words + INSTRUCTION_CYCLES[Opcode.LOAD]
        return int(total)

    def _cycles(self, tiling: Tiling) -> int:
        if self.machine.in_order:
            return self._cycles_in_order(tiling)
        operation, machine = self.operation, self.machine
        columns, group, chunk = tiling.tile_columns, tiling.group_blocks, tiling.chunk_blocks
        blocks = operation.destination.planes
        across, groups = -(-operation.columns // columns), -(-blocks // group)
        width = operation.columns / across
        #: strips of each group
        strips = [tiling.ramp(operation.rows, number == 0, number == groups - 1)
                  for number in {0, min(1, groups - 1), groups - 1}]
        times = [1, *([groups - 2] if groups > 2 else []), *([1] if groups > 1 else [])]
        tiles = across * sum(count * len(heights) for count, heights in zip(times, strips, strict=True))
        pitch = self.source_pitch or tiling.source_pitch
        passes, share = self._all_passes(pitch) / groups, blocks / groups
        least = taps_pass_cycles(machine) if operation.mode.reads_taps else LEAST_PASS
        least = max(least, 0 if operation.hold_weights else machine.tile_bytes // machine.bus_bytes)

        def compute_of(rows: int) -> float:
            """A tile of one group."""
            pixels = rows * width
            last = pixels * (15 if operation.average else 1 if operation.residual else 0)
            return passes * max(pixels, least) + share * last + -(-group // chunk) * COMPUTE_OVERHEAD

        def total(of: Callable[[int], float]) -> float:
            """Of all tiles."""
            return across * sum(count * sum(map(of, heights))
                                for count, heights in zip(times, strips, strict=True))

        compute = total(compute_of)
        weights = (share if operation.hold_weights else passes) * machine.tile_bytes
        weights = (weights + share * machine.parameter_bytes) / machine.bus_bytes  # of one tile
        most, planes = self._planes(group)
        # before the array can begin, and what the second load takes longer than the first tile
        load, begin, second = 0.0, 0.0, 0.0
        first, last = strips[0][0], strips[-1][-1]
        following = first if across > 1 else strips[0][1] if len(strips[0]) > 1 else strips[-1][0]
        if not self.source_resident:
            load = total(lambda rows: self._load(rows, columns, 1, pitch)) * planes / groups
            begin, second = (self._load(rows, columns, most, pitch) for rows in (first, following))
        elif self.source_arrives:
            beats = self._extent(1, operation.columns) * self._source_beats
            load = planes * beats * self._extent(0, operation.rows) + TRANSFER_OVERHEAD * tiles
            begin = most * beats * self._extent(0, first)
            # of the next strip only the rows that are new
            second = most * beats * min(following * operation.stride[0], self._extent(0, following))
        source = load
        parts, hidden = 1, 0.0
        if operation.mode is Mode.DENSE and first * width >= LEAST_PIXELS_OF_PARTS:
            # the first output blocks are computed plane by plane while the others arrive
            parts = min(most, PARTS)
            room = group if self.destination_resident else tiling.destination_words // (first * columns)
            together = min(group, room, machine.accumulator_depth // (first * columns))
            hidden = together * passes / share * first * width * (parts - 1) / parts
        pixels = operation.rows * operation.columns
        store = blocks * pixels * machine.beats_per_word + TRANSFER_OVERHEAD * tiles * -(-group // chunk)
        if columns != operation.columns or self.destination_pitch > operation.destination.storage.columns:
            store += across * blocks * operation.rows * ROW_OVERHEAD
        if self.residual_arrives:
            load += store
        # what is stored when all has been computed, unless the next operation goes on meanwhile
        tail = 0.0
        if not self.destination_resident:
            tail = last * width * machine.beats_per_word + LOAD_LATENCY
        reads, writes, serial = tiles * weights, 0.0, 0.0
        if tiling.source_slots == 1 and tiles > 1:
            serial += load
        else:
            reads += load
        if tiling.destination_slots == 1 and tiles > 1:
            serial += store
        else:
            writes += store

        narrow = operation.source.storage.narrow

        def duration(slowness: float, fast: bool) -> float:
            # the words of a narrow beat are written one after another, however fast the memory
            pace = max(slowness, 1 / self._source_beats) if narrow else slowness
            before = gap = 0.0
            if begin:
                before = LOAD_LATENCY + max(pace * begin / parts, pace * begin - hidden)
            if begin and tiles > 1:
                gap = max(0.0, slowness * (second + weights) + (pace - slowness) * second - compute_of(first))
            bound_by_array = before + gap + slowness * tail + compute
            bound_by_bus = compute_of(last) + slowness * (reads + tail)
            if narrow:
                bound_by_bus = max(bound_by_bus, compute_of(last) + pace * source)
            after_first = before + slowness * writes + compute_of(first)
            if not fast:  # reads and writes share it
                bound_by_bus = after_first = compute_of(last) + slowness * (reads + writes)
            return max(bound_by_array, bound_by_bus, after_first) + slowness * serial

        return int(sum(weight * duration(slowness, fast) for slowness, weight, fast in MEMORIES))


def best_pitch(operation: Operation, machine: Machine, columns: int) -> int:
    """Words from row to row, at least ``columns``, with which input lanes that are taps take the fewest
    passes; the least such."""
    pitches = range(columns, columns + machine.input_lanes)

    def passes(pitch: int) -> int:
        return operation.passes(machine, 0, operation.slot_columns(machine, pitch))

    return min(pitches, key=passes)


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
