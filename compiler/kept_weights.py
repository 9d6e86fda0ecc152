"""Which weights stay on the chip from one inference to the next: they come first in the weight area.

A machine with ``kept_weight_words`` keeps what lies at one range of addresses, so it is their order that
chooses.  On a narrow memory, where the bus is what limits, those are kept whose beats the array would wait
for longest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from compiler.memory_map import align
from compiler.schedule import Schedule
from compiler.traffic import transfer_of
from compiler.weight_area import WeightRun
from hw.compute_cycles import compute_cycles
from hw.isa import Opcode
from hw.machine import Machine

__all__ = ["keep_weights"]

#: Cycles of a bus beat: those of a narrow SDRAM.
_BEAT_CYCLES = 4.0


@dataclass
class _Work:
    """What one layer takes.

    Attributes
    ----------
    array : float
        Cycles of the array, as long as weights are there.
    maps, weights : float
        Beats of feature maps and of weights that cross the bus, or would.
    kept : float
        Those of the weights that do not.
    runs : deque of (WeightRun, int)
        Not yet kept, in their order, with the times that each is read.
    """

    array: float = 0.0
    maps: float = 0.0
    weights: float = 0.0
    kept: float = 0.0
    runs: deque[tuple[WeightRun, int]] = field(default_factory=deque)


def keep_weights(schedule: Schedule, machine: Machine) -> None:
    """Order the weight area so that those which should be kept come first; a schedule's addresses still count
    from the area's start."""
    if not machine.kept_weight_words:
        return
    works = _works(schedule, machine)
    left = machine.kept_weight_words
    order: list[WeightRun] = []
    while left > 0 and (candidates := [work for work in works if work.runs]):
        now = _cycles(works, machine)
        best = max(candidates, key=lambda work: _gain(work, works, now, left, machine))
        run, times = best.runs.popleft()
        best.kept += times * min(run.beats(machine), left)
        left -= align(run.beats(machine) * machine.bus_bytes) // machine.bus_bytes
        order.append(run)
    moved = schedule.weights.order(order)
    for scheduled in schedule.program:
        instruction = scheduled.instruction
        if instruction.opcode is Opcode.WEIGHTS:
            fields = {**instruction.fields, "memory_address": moved[instruction["memory_address"]]}
            instruction.fields = fields


def _gain(
    work: _Work, works: Sequence[_Work], now: float, room: int, machine: Machine
) -> tuple[float, float]:
    """Cycles won for each beat if the layer's next run is kept, and how much the array waits for weights."""
    run, times = work.runs[0]
    beats = min(run.beats(machine), room)
    work.kept += times * beats
    won = now - _cycles(works, machine)
    work.kept -= times * beats
    return won / beats, times * work.weights / max(work.array, 1.0)


def _works(schedule: Schedule, machine: Machine) -> list[_Work]:
    """The layers, in their order."""
    works: dict[int, _Work] = {}
    times: dict[int, int] = {}
    layer_of: dict[int, int] = {}
    for scheduled in schedule.program:
        instruction = scheduled.instruction
        work = works.setdefault(instruction.layer, _Work())
        match instruction.opcode:
            case Opcode.COMPUTE:
                work.array += compute_cycles(machine, instruction).words
            case Opcode.WEIGHTS:
                work.weights += transfer_of(instruction, machine).beats
                offset = instruction["memory_address"]
                times[offset] = times.get(offset, 0) + 1
                layer_of[offset] = instruction.layer
            case Opcode.LOAD | Opcode.STORE:
                work.maps += transfer_of(instruction, machine).beats
            case _:
                pass
    for run in schedule.weights.runs():
        if run.offset in times:
            works[layer_of[run.offset]].runs.append((run, times[run.offset]))
    return [works[layer] for layer in sorted(works)]


def _cycles(works: Sequence[_Work], machine: Machine) -> float:
    """Cycles of all layers: the bus brings weights ahead as far as the FIFO has room, the array goes on when
    weights and maps have come."""
    bus = array = 0.0
    held: deque[tuple[float, float]] = deque()  # of layers whose weights are in the FIFO: beats, end
    level = 0.0
    for work in works:
        size = min(work.weights, machine.weight_fifo_words)
        while held and level + size > machine.weight_fifo_words:
            beats, end = held.popleft()
            level -= beats
            bus = max(bus, end)
        bus += _BEAT_CYCLES * work.maps
        begins = max(array, bus)
        bus += _BEAT_CYCLES * (work.weights - work.kept)
        array = max(begins + max(work.array, work.weights), bus)
        held.append((size, array))
        level += size
    return max(bus, array)
