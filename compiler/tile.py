"""How an operation is cut into pieces that fit the scratchpad and the accumulators.

The output is cut into rectangles of pixels (tiles).  For each of them the input planes are in the
scratchpad, and output blocks are computed in chunks: one or more COMPUTE instructions, then a STORE.
Operations that keep channels apart, and grouped ones, load only the planes of one group of blocks.
Slots are places in the scratchpad that take turns, so that loading, computing and storing overlap.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.error import CompileError
from compiler.operation import Operation
from compiler.strips import StripCosts, lower_strips
from compiler.tile_cycles import tile_cycles
from compiler.tiling import Tiling
from compiler.tiling_problem import TilingProblem, piece_sizes
from compiler.weight_repeats import most_repeated_bytes
from hw.machine import Machine

__all__ = ["MOST_SLOTS", "best_pitch", "best_tiling", "choose_tiling"]

#: Most places for inputs and for outputs of one operation.
MOST_SLOTS = 4
#: The same of outputs, where strips are low.
MOST_LOW_SLOTS = 8
#: Cycles between the words of two strips in the array; bytes of a strip's instructions, without the words
#: that are left out.
_STRIP_GAP = 1
_STRIP_BYTES = 48


def best_tiling(problem: TilingProblem, words: int) -> Tiling | None:
    """The tiling with the fewest modelled cycles in ``words`` of the scratchpad; None if none fits."""
    best: Tiling | None = None
    operation, depth = problem.operation, problem.machine.accumulator_depth
    for columns in piece_sizes(operation.columns, depth):
        for rows in piece_sizes(operation.rows, depth // columns):
            for group in problem.groups:
                for tiling in _candidates(problem, rows, columns, group, words):
                    if best is None or tiling.cycles < best.cycles:
                        best = tiling
        if best is not None and columns * 4 < operation.columns:
            break  # still narrower tiles only shorten bursts
    if best is None or problem.machine.in_order:
        return best
    return _lowered(problem, _widened(problem, _ramped(problem, best), words))


def _lowered(problem: TilingProblem, tiling: Tiling) -> Tiling:
    """The same with strips that become lower, where words are loaded, computed and stored in turn and the
    array is not what limits most."""
    operation, machine = problem.operation, problem.machine
    group, blocks = tiling.group_blocks, operation.destination.planes
    if (
        operation.mode.shares_inputs
        or operation.residual is not None
        or operation.average is not None
        or not problem.destination_stored
        or operation.source.storage.narrow  # loaded in less time than stored
        or tiling.tile_columns != operation.columns
        or tiling.chunk_blocks != group
        or tiling.source_slots == 1
        or tiling.destination_slots == 1
        or blocks % group
        or not (tiling.source_slots or problem.source_arrives)
    ):
        return tiling
    columns, groups = operation.columns, blocks // group
    passes = problem.all_passes(problem.source_pitch or tiling.source_pitch) / groups
    weights = (group if operation.hold_weights else passes) * machine.tile_bytes
    weights += group * machine.parameter_bytes
    kept = weights <= most_repeated_bytes(machine)
    weights /= machine.bus_bytes
    if groups * weights <= machine.kept_weight_words:
        weights = 0.0  # they are on the chip
    extent = problem.extent(0, operation.rows)
    costs = StripCosts(
        rows=operation.rows,
        groups=groups,
        most=tiling.tile_rows,
        new_rows=operation.stride[0],
        ahead=max(problem.extent(0, 1) - operation.stride[0] + operation.origin[0], 0),
        load_row=group * problem.extent(1, columns) * machine.beats_per_word * extent
        / (operation.rows * operation.stride[0]),
        store_row=group * columns * machine.beats_per_word,
        loads_whole=not problem.source_resident,
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
    if not problem.destination_resident:
        # the same room for more strips, so that none waits for a store that is late
        room = tiling.destination_slots * tiling.destination_words
        words = tiling.chunk_blocks * max(map(max, strips)) * columns
        slots = min(room // words, MOST_LOW_SLOTS)
        tiling = replace(tiling, destination_slots=slots, destination_words=words)
    return replace(tiling, strips=strips)


def _widened(problem: TilingProblem, tiling: Tiling, words: int) -> Tiling:
    """The same with more than two slots, as far as there is room, for memory that is late to answer."""
    for _ in range(MOST_SLOTS - 2):
        for slots, size in (("destination_slots", tiling.destination_words),
                            ("source_slots", tiling.source_words)):
            if getattr(tiling, slots) >= 2 and tiling.words + size <= words:
                tiling = replace(tiling, **{slots: getattr(tiling, slots) + 1})
    return tiling


def _ramped(problem: TilingProblem, tiling: Tiling) -> Tiling:
    """The same with a lower first and last strip, where that is better."""
    rows = problem.operation.rows
    lower = [
        0,
        *(height for height in (1, 2, 3, 4, 6, 8, 12, 16) if height < min(tiling.tile_rows, rows // 2)),
    ]
    for first in lower:
        for last in lower:
            changed = replace(tiling, first_rows=first, last_rows=last)
            changed = replace(changed, cycles=tile_cycles(problem, changed))
            if changed.cycles < tiling.cycles:
                tiling = changed
    return tiling


def _candidates(problem: TilingProblem, rows: int, columns: int, group: int, words: int) -> list[Tiling]:
    if problem.source_resident:
        return _with_source(problem, rows, columns, group, words, 0)
    pitches = {0}
    if problem.operation.reads_taps:
        extent = problem.extent(1, columns)
        pitches = {extent, best_pitch(problem.operation, problem.machine, extent)}
    return [tiling for pitch in sorted(pitches)
            for tiling in _with_source(problem, rows, columns, group, words, pitch)]


def _with_source(
    problem: TilingProblem, rows: int, columns: int, group: int, words: int, pitch: int
) -> list[Tiling]:
    source_words = 0
    planes = problem.planes(group)[0]
    if not problem.source_resident:
        source_words = planes * problem.extent(0, rows) * max(pitch, problem.extent(1, columns))
        if source_words >= words:
            return []
    found = []
    chunks = piece_sizes(group, group) if problem.operation.mode.shares_inputs else [group]
    slots = problem.operation.slot_columns(problem.machine, problem.source_pitch or pitch)
    if problem.operation.tail_passes(problem.machine, slots):
        # the sums of all blocks wait for the tail's
        chunks = piece_sizes(group, problem.machine.accumulator_depth // (rows * columns))
    for chunk in chunks:
        destination_words = 0 if problem.destination_resident else chunk * rows * columns
        turns = ((1, 1),) if problem.machine.in_order else ((2, 2), (2, 1), (1, 2), (1, 1))
        for source_slots, destination_slots in turns:
            if not problem.machine.in_order and (
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
            found.append(replace(tiling, cycles=tile_cycles(problem, tiling)))
    return found


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
    tiling = best_tiling(problem, words)
    if tiling is None:
        operation, machine = problem.operation, problem.machine
        raise CompileError(
            f"{operation.name}: its smallest tile takes {problem.least_words()} words of "
            f"{machine.word_bytes} bytes ({operation.source.planes} input planes, kernel "
            f"{operation.kernel[0]}x{operation.kernel[1]}), the scratchpad has {words}; use a machine with "
            "more scratchpad_words"
        )
    return tiling
