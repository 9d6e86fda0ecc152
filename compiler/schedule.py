"""Tiled operations → instructions, in an order that is right when executed one after another.

Loads, computations and stores of a tile follow one another; slots take turns, and the units' own
queues let them overlap.  `compiler.dependencies` adds the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.compute_work import ComputeWork, output_runs
from compiler.dependencies import Box, Scheduled
from compiler.map_packing import packed_offsets
from compiler.memory_map import MapArea
from compiler.operation import Operation, Storage, View
from compiler.residency import Plan, Residency, Step
from compiler.scratch import ADDRESS_MASK, Rectangle, Scratch, window_of
from compiler.tile_cycles import LEAST_PIXELS_OF_PARTS, PARTS
from compiler.weight_area import WeightArea
from compiler.weight_repeats import repeat_weights
from compiler.weight_request import InputPart
from hw.isa import Instruction, Mode, Opcode
from hw.machine import Machine

__all__ = ["Schedule", "schedule"]

_RUN_LIMIT = 65535


@dataclass
class Schedule:
    """Instructions without tokens and addresses of areas, and the areas they refer to.

    ``stored`` are the storages whose contents are in memory after a run.
    """

    program: list[Scheduled]
    weights: WeightArea
    maps: MapArea
    stored: set[Storage]


class _Emitter:
    def __init__(self, machine: Machine, maps: MapArea) -> None:
        self.machine = machine
        self.maps = maps
        self.weights = WeightArea(machine)
        self.program: list[Scheduled] = []
        self.loaded: set[Storage] = set()
        #: instruction numbers of the STOREs of a storage
        self.stores: dict[Storage, list[int]] = {}
        #: words of resident maps that are in the scratchpad: (planes, rows, columns)
        self._present: dict[Residency, NDArray[np.bool_]] = {}
        self.step_number = 0
        self.layer = 0
        self._source_turn = 0
        self._destination_turn = 0

    # memory transfers

    def transfer(
        self, opcode: Opcode, storage: Storage, plane: int, planes: int, area: Rectangle, scratch: Scratch
    ) -> None:
        """LOAD or STORE of a rectangle of some planes; contiguous runs are merged.

        ``scratch`` is where the rectangle's first word goes.
        """
        offset = self.maps.offset_of(storage, plane, area.row, area.column)
        pixel_bytes = storage.pixel_bytes(self.machine.word_bytes)
        memory_plane, memory_row = storage.rows * storage.columns, storage.columns
        scratch_plane, scratch_row = scratch.plane_step, scratch.row_step
        rows, words = area.rows, area.columns
        if (rows == 1 or memory_row == scratch_row == words) and rows * words <= _RUN_LIMIT:
            rows, words = 1, rows * words
        if (
            rows == 1
            and (planes == 1 or memory_plane == scratch_plane == words)
            and planes * words <= _RUN_LIMIT
        ):
            planes, words = 1, planes * words
        memory = []
        if not storage.narrow:  # which no instruction writes
            first = offset // self.machine.word_bytes
            memory = [Box(first, planes, memory_plane, rows, memory_row, words)]
        place = Box(scratch.base, planes, scratch_plane, rows, scratch_row, words)
        instruction = Instruction(
            opcode,
            {
                "memory_address": offset,
                "memory_plane_step": memory_plane * pixel_bytes if planes > 1 else 0,
                "memory_row_step": memory_row * pixel_bytes if rows > 1 else 0,
                "scratch_address": scratch.base,
                "scratch_plane_step": scratch_plane & ADDRESS_MASK if planes > 1 else 0,
                "scratch_row_step": scratch_row & ADDRESS_MASK if rows > 1 else 0,
                "planes": planes,
                "rows": rows,
                "words": words,
            },
            layer=self.layer,
        )
        if opcode is Opcode.LOAD:
            if storage.narrow:
                instruction.fields["narrow"] = 1
            self.loaded.add(storage)
            self.program.append(Scheduled(instruction, "maps", map_reads=memory, scratch_writes=[place]))
        else:
            self.stores.setdefault(storage, []).append(len(self.program))
            self.program.append(Scheduled(instruction, "maps", scratch_reads=[place], map_writes=memory))

    @staticmethod
    def map_scratch(residency: Residency) -> Scratch:
        """Where a resident map is."""
        return Scratch(residency.base, residency.storage.rows * residency.pitch, residency.pitch)

    def present(self, residency: Residency) -> NDArray[np.bool_]:
        """Which words of a resident map have been brought or computed."""
        storage = residency.storage
        return self._present.setdefault(
            residency, np.zeros((storage.planes, storage.rows, storage.columns), np.bool_)
        )

    def require(self, residency: Residency, plane: int, planes: int, area: Rectangle) -> None:
        """Load those rows of a resident map that are not there yet."""
        present = self.present(residency)
        wanted = present[
            plane : plane + planes, area.row : area.row + area.rows, area.column : area.column + area.columns
        ]
        missing = ~wanted.all(axis=2)
        if not missing.any():
            return
        rows = np.flatnonzero(missing.any(axis=0))
        which = np.flatnonzero(missing.any(axis=1))
        storage, scratch = residency.storage, self.map_scratch(residency)
        first_row, first_plane = area.row + int(rows[0]), plane + int(which[0])
        whole = Rectangle(first_row, 0, int(rows[-1] - rows[0]) + 1, storage.columns)
        count = int(which[-1] - which[0]) + 1
        base = scratch.base + first_plane * scratch.plane_step + first_row * scratch.row_step
        self.transfer(
            Opcode.LOAD,
            storage,
            first_plane,
            count,
            whole,
            Scratch(base, scratch.plane_step, scratch.row_step),
        )
        present[first_plane : first_plane + count, whole.row : whole.row + whole.rows] = True

    # operations

    def step(self, step_number: int, step: Step) -> None:
        """All instructions of one operation."""
        self.step_number = step_number
        operation, tiling = step.operation, step.tiling
        blocks = operation.destination.planes
        begun = False
        stored_late = step.stored and not self.machine.in_order  # while the next chunk is computed
        groups = -(-blocks // tiling.group_blocks)
        for number in range(groups):
            group = number * tiling.group_blocks
            count = min(tiling.group_blocks, blocks - group)
            row = operation.first_row
            for height in tiling.heights(operation.rows, number, groups):
                for column in range(0, operation.columns, tiling.tile_columns):
                    width = min(tiling.tile_columns, operation.columns - column)
                    tile = Rectangle(row, operation.first_column + column, height, width)
                    source = self._place_source(step, tile, group, count)
                    pieces = self._pieces(step, tile, group, count, split=not begun)
                    begun = True
                    self._bring(step, tile, source, *pieces[0])
                    last = (group + count, row + height, column + width) == (
                        blocks, operation.first_row + operation.rows, operation.columns)
                    together = self._together(step, tile, group, count) if len(pieces) > 1 else 0
                    chunk = group
                    for size in tiling.chunks(count, together, last and stored_late):
                        self._chunk(step, tile, source, chunk, size, pieces)
                        pieces = [(pieces[0][0], sum(planes for _, planes in pieces))]  # all are there
                        chunk += size
                row += height

    def _place_source(self, step: Step, tile: Rectangle, group: int, blocks: int) -> Scratch:
        """Where the view's plane 0 and the map's pixel (0, 0) are or would be, so that it may be negative."""
        operation, view = step.operation, step.operation.source
        if step.source is not None:
            scratch = self.map_scratch(step.source)
            return Scratch(
                scratch.base + view.first_plane * scratch.plane_step, scratch.plane_step, scratch.row_step
            )
        window = window_of(operation, tile)
        plane, _ = operation.source_planes(group, blocks, self.machine)
        slot = step.slots_base + self._source_turn % step.tiling.source_slots * step.tiling.source_words
        self._source_turn += 1
        pitch = max(step.tiling.source_pitch, window.columns)
        plane_step = window.rows * pitch
        return Scratch(slot - plane * plane_step - window.row * pitch - window.column, plane_step, pitch)

    def _pieces(
        self, step: Step, tile: Rectangle, group: int, blocks: int, *, split: bool
    ) -> list[tuple[int, int]]:
        """The source's planes in the order in which they are brought: (first, count).

        With ``split`` the array begins with the first piece while the others arrive.
        """
        operation, machine = step.operation, self.machine
        plane, planes = operation.source_planes(group, blocks, machine)
        whole = [(plane, planes)]
        if (
            not split
            or self.machine.in_order  # nothing runs meanwhile
            or operation.mode is not Mode.DENSE
            or operation.hold_weights
            or tile.rows * tile.columns < LEAST_PIXELS_OF_PARTS
            or operation.weights.source_blocks(group)[1] <= operation.blocks_per_word(machine)
            or operation.source_planes(group, 1, machine) != (plane, planes)
            or (step.source is not None and not self._missing(step.source, *whole[0], step, tile).any())
        ):
            return whole
        count = -(-planes // PARTS)
        return [(first, min(count, plane + planes - first)) for first in range(plane, plane + planes, count)]

    def _missing(
        self, residency: Residency, plane: int, planes: int, step: Step, tile: Rectangle
    ) -> NDArray[np.bool_]:
        window, first = window_of(step.operation, tile), step.operation.source.first_plane + plane
        rows, columns = slice(window.row, window.row + window.rows), slice(window.column, None)
        return ~self.present(residency)[first : first + planes, rows, columns][..., : window.columns]

    def _bring(self, step: Step, tile: Rectangle, source: Scratch, plane: int, planes: int) -> None:
        """Load some planes of a tile's input, if they are not there."""
        view, window = step.operation.source, window_of(step.operation, tile)
        if step.source is not None:
            self.require(step.source, view.first_plane + plane, planes, window)
            return
        base = source.base + plane * source.plane_step + window.row * source.row_step + window.column
        place = Scratch(base, source.plane_step, source.row_step)
        self.transfer(Opcode.LOAD, view.storage, view.first_plane + plane, planes, window, place)

    def _chunk(
        self,
        step: Step,
        tile: Rectangle,
        source: Scratch,
        first: int,
        blocks: int,
        pieces: list[tuple[int, int]],
    ) -> None:
        """COMPUTE and STORE of some output blocks; of ``pieces`` of the source the first has been brought."""
        operation, tiling, view = step.operation, step.tiling, step.operation.destination
        if step.destination is not None:
            whole = self.map_scratch(step.destination)
            base = (
                whole.base
                + (view.first_plane + first) * whole.plane_step
                + tile.row * whole.row_step
                + tile.column
            )
            place = Scratch(base, whole.plane_step, whole.row_step)
        else:
            slots = step.slots_base + tiling.source_slots * tiling.source_words
            slot = slots + self._destination_turn % tiling.destination_slots * tiling.destination_words
            self._destination_turn += 1
            place = Scratch(slot, tile.rows * tile.columns, tile.columns)
        offset = self._residual(step, tile, first, blocks, place)
        if step.destination is not None:
            self.present(step.destination)[
                view.first_plane + first : view.first_plane + first + blocks,
                tile.row : tile.row + tile.rows,
                tile.column : tile.column + tile.columns,
            ] = True
        parts = self._parts(operation, first, pieces, source)
        if len(parts) > 1:
            for number, (piece, part) in enumerate(parts):
                if number and piece != parts[number - 1][0]:
                    self._bring(step, tile, source, *piece)
                self._compute(step, tile, source, first, blocks, place, offset, part)
        else:
            for run, count in output_runs(operation, first, blocks):
                base = place.base + (run - first) * place.plane_step
                here = Scratch(base, place.plane_step, place.row_step)
                self._compute(step, tile, source, run, count, here, offset, None)
        self.transfer(Opcode.STORE, view.storage, view.first_plane + first, blocks, tile, place)

    def _together(self, step: Step, tile: Rectangle, first: int, blocks: int) -> int:
        """Output blocks whose sums are kept while pieces of the input arrive."""
        pixels = tile.rows * tile.columns
        most = self.machine.accumulator_depth // pixels
        if step.destination is None:
            most = min(most, step.tiling.destination_words // pixels)
        return min(next(output_runs(step.operation, first, blocks))[1], most)

    def _parts(
        self, operation: Operation, block: int, pieces: list[tuple[int, int]], source: Scratch
    ) -> list[tuple[tuple[int, int], InputPart]]:
        """What each COMPUTE for an output block takes, if there are several, and of which piece."""
        per_word = operation.blocks_per_word(self.machine)
        start, count = operation.weights.source_blocks(block)
        slot_columns = operation.slot_columns(self.machine, source.row_step)
        tail = operation.tail_passes(self.machine, slot_columns) > 0
        end = start + count - tail
        ranges = []
        for piece in pieces:
            low, high = max(start, piece[0] * per_word), min(end, (piece[0] + piece[1]) * per_word)
            if low < high:
                ranges.append((piece, low, high - low, False))
        if tail:
            ranges.append((pieces[-1], end, 1, True))
        return [
            (piece, InputPart(low, size, number > 0, number < len(ranges) - 1, of_tail))
            for number, (piece, low, size, of_tail) in enumerate(ranges)
        ]

    def _residual(self, step: Step, tile: Rectangle, first: int, blocks: int, place: Scratch) -> int:
        """Bring the second operand; the result is its offset from the destination in the scratchpad."""
        residual = step.operation.residual
        if residual is None:
            return 0
        view = residual.view
        if step.residual is not None:
            self.require(step.residual, view.first_plane + first, blocks, tile)
            whole = self.map_scratch(step.residual)
            base = (
                whole.base
                + (view.first_plane + first) * whole.plane_step
                + tile.row * whole.row_step
                + tile.column
            )
            return base - place.base
        self.transfer(Opcode.LOAD, view.storage, view.first_plane + first, blocks, tile, place)
        return 0

    def _compute(
        self,
        step: Step,
        tile: Rectangle,
        source: Scratch,
        first: int,
        blocks: int,
        place: Scratch,
        residual_offset: int,
        part: InputPart | None,
    ) -> None:
        """WEIGHTS and COMPUTE of some output blocks, or of a part of their input."""
        work = ComputeWork(
            self.machine, step.operation, step.source is not None, tile, source, first, blocks, place,
            residual_offset, part,
        )  # fmt: skip
        runs, fold = self.weights.place(work.weight_request(self.step_number))
        for run in runs:
            fields = {"memory_address": run.offset, "blocks": run.blocks, "words": run.words}
            self.program.append(
                Scheduled(Instruction(Opcode.WEIGHTS, fields, layer=self.layer), "weights")
            )
        self.program.append(work.scheduled(self.layer, fold=fold))


def _emitted(plan: Plan, layer_of_step: list[int], machine: Machine, maps: MapArea) -> _Emitter:
    emitter = _Emitter(machine, maps)
    for number, step in enumerate(plan.steps):
        emitter.layer = layer_of_step[number]
        emitter.step(number, step)
    return emitter


def schedule(
    plan: Plan,
    layer_of_step: list[int],
    views: list[View],
    machine: Machine,
    outputs: set[Storage] | None = None,
) -> Schedule:
    """Instructions of a whole plan; ``views`` are all tensors, in the order in which memory holds them.

    ``outputs``: of all other storages only those that are read again are stored; where the machine executes
    in order, they share memory, so that only the outputs are there after a run.  None: every one is stored.
    """
    maps = MapArea(machine)
    maps.place(view.storage for view in views)
    emitter = _emitted(plan, layer_of_step, machine, maps)
    stored = set(emitter.stores)
    if outputs is not None:
        stored &= emitter.loaded | outputs
    if outputs is not None and machine.in_order:
        # the same again, now that it is known which maps are in memory, and when
        operations = [step.operation for step in plan.steps]
        needed = stored | emitter.loaded
        inputs = needed - {operation.destination.storage for operation in operations}
        maps = MapArea(machine)
        maps.place_at(packed_offsets(operations, needed, inputs, outputs, machine.word_bytes),
                      {view.storage for view in views})
        emitter = _emitted(plan, layer_of_step, machine, maps)
        stored = {storage for storage in stored if storage in outputs}
        kept = needed
    else:
        kept = stored
    left_out = {number for storage in set(emitter.stores) - kept for number in emitter.stores[storage]}
    program = [entry for number, entry in enumerate(emitter.program) if number not in left_out]
    return Schedule(repeat_weights(program, machine), emitter.weights, maps, stored)
