"""Cycles of an operation with a tiling, for comparison: on a memory as fast as the bus and on a slow one."""

from __future__ import annotations

from collections.abc import Callable

from compiler.tiling import Tiling
from compiler.tiling_problem import TilingProblem
from hw.isa import Mode, Opcode
from hw.pass_loops import taps_pass_cycles
from hw.small_cycles import (
    BLOCK_CYCLES,
    INSTRUCTION_CYCLES,
    TYPICAL_SHIFT,
    block_cycles,
    post_cycles,
    transfer_cycles,
)

__all__ = ["COMPUTE_OVERHEAD", "LEAST_PASS", "LEAST_PIXELS_OF_PARTS", "PARTS", "tile_cycles"]

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
#: How many cycles a bus beat takes, the weight of such a memory in the choice, and whether it reads and
#: writes at once: one that is nearly as fast as the bus, and a narrow SDRAM.  So little traffic is preferred
#: where it costs no cycles.
MEMORIES = ((1.3, 0.4, True), (4.0, 0.6, False))
#: Most parts of the inputs that the first tile of an operation is loaded and computed in, and the output
#: pixels from which on it is: with fewer the bus sets the pace, not the array.
PARTS = 8
LEAST_PIXELS_OF_PARTS = 16


def _load(problem: TilingProblem, rows: int, columns: int, planes: int, pitch: int) -> float:
    """Bus cycles that bring the input of a tile."""
    words = problem.extent(0, rows) * problem.extent(1, columns)
    whole = columns == problem.operation.columns and pitch <= problem.extent(1, columns)
    runs = 1 if whole else problem.extent(0, rows)
    return planes * (words * problem.source_beats + runs * ROW_OVERHEAD) + TRANSFER_OVERHEAD


def _cycles_in_order(problem: TilingProblem, tiling: Tiling) -> int:
    """Everything one after another."""
    operation = problem.operation
    columns, group, chunk = tiling.tile_columns, tiling.group_blocks, tiling.chunk_blocks
    blocks = operation.destination.planes
    across, groups = -(-operation.columns // columns), -(-blocks // group)
    planes = problem.planes(group)[1]
    whole = columns == operation.columns
    # of each output block alone, or of all blocks of a chunk
    instructions = blocks if groups > 1 or len(problem.groups) > 1 else -(-group // chunk)
    begin = INSTRUCTION_CYCLES[Opcode.WEIGHTS] + INSTRUCTION_CYCLES[Opcode.COMPUTE]
    inputs = operation.weights.source_blocks(0)[1] if operation.mode is Mode.DENSE else 1
    total = 0.0
    for rows in tiling.ramp(operation.rows, first=False, last=False):
        pixels = rows * columns
        block = block_cycles(pixels, inputs, operation.kernel, holds=operation.hold_weights)
        block += BLOCK_CYCLES
        block += post_cycles(pixels, TYPICAL_SHIFT, (1, 1) if operation.residual else None)
        tile = instructions * begin + blocks * block
        if not problem.source_resident:
            height, words = problem.extent(0, rows), problem.extent(1, columns)
            whole_rows = words == operation.source.storage.columns
            runs = (1, height * words) if whole_rows else (height, words)
            tile += planes * transfer_cycles(1, *runs, writes=False)
            tile += groups * INSTRUCTION_CYCLES[Opcode.LOAD]
        runs = (1, pixels) if whole else (rows, columns)
        chunks = groups * -(-group // chunk)
        tile += chunks * INSTRUCTION_CYCLES[Opcode.STORE]
        tile += blocks * transfer_cycles(1, *runs, writes=True)
        if problem.residual_arrives:
            tile += chunks * INSTRUCTION_CYCLES[Opcode.LOAD]
            tile += blocks * transfer_cycles(1, *runs, writes=False)
        total += across * tile
    if problem.source_arrives:
        words = problem.extent(0, operation.rows) * problem.extent(1, operation.columns)
        total += planes * words + INSTRUCTION_CYCLES[Opcode.LOAD]
    return int(total)


def tile_cycles(problem: TilingProblem, tiling: Tiling) -> int:
    """Modelled cycles of all tiles, the mean of two memories by their weights."""
    if problem.machine.in_order:
        return _cycles_in_order(problem, tiling)
    operation, machine = problem.operation, problem.machine
    columns, group, chunk = tiling.tile_columns, tiling.group_blocks, tiling.chunk_blocks
    blocks = operation.destination.planes
    across, groups = -(-operation.columns // columns), -(-blocks // group)
    width = operation.columns / across
    #: strips of each group
    strips = [tiling.ramp(operation.rows, number == 0, number == groups - 1)
              for number in {0, min(1, groups - 1), groups - 1}]
    times = [1, *([groups - 2] if groups > 2 else []), *([1] if groups > 1 else [])]
    tiles = across * sum(count * len(heights) for count, heights in zip(times, strips, strict=True))
    pitch = problem.source_pitch or tiling.source_pitch
    passes, share = problem.all_passes(pitch) / groups, blocks / groups
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
    most, planes = problem.planes(group)
    # before the array can begin, and what the second load takes longer than the first tile
    load, begin, second = 0.0, 0.0, 0.0
    first, last = strips[0][0], strips[-1][-1]
    following = first if across > 1 else strips[0][1] if len(strips[0]) > 1 else strips[-1][0]
    if not problem.source_resident:
        load = total(lambda rows: _load(problem, rows, columns, 1, pitch)) * planes / groups
        begin, second = (_load(problem, rows, columns, most, pitch) for rows in (first, following))
    elif problem.source_arrives:
        beats = problem.extent(1, operation.columns) * problem.source_beats
        load = planes * beats * problem.extent(0, operation.rows) + TRANSFER_OVERHEAD * tiles
        begin = most * beats * problem.extent(0, first)
        # of the next strip only the rows that are new
        second = most * beats * min(following * operation.stride[0], problem.extent(0, following))
    source = load
    parts, hidden = 1, 0.0
    if operation.mode is Mode.DENSE and first * width >= LEAST_PIXELS_OF_PARTS:
        # the first output blocks are computed plane by plane while the others arrive
        parts = min(most, PARTS)
        room = group if problem.destination_resident else tiling.destination_words // (first * columns)
        together = min(group, room, machine.accumulator_depth // (first * columns))
        hidden = together * passes / share * first * width * (parts - 1) / parts
    pixels = operation.rows * operation.columns
    store = blocks * pixels * machine.beats_per_word + TRANSFER_OVERHEAD * tiles * -(-group // chunk)
    if columns != operation.columns or problem.destination_pitch > operation.destination.storage.columns:
        store += across * blocks * operation.rows * ROW_OVERHEAD
    if problem.residual_arrives:
        load += store
    # what is stored when all has been computed, unless the next operation goes on meanwhile
    tail = 0.0
    if not problem.destination_resident:
        tail = last * width * machine.beats_per_word + LOAD_LATENCY
    if not problem.destination_stored:
        store = 0.0
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
        pace = max(slowness, 1 / problem.source_beats) if narrow else slowness
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
