"""The least cycles that a network can take on a machine, however it is tiled: known without tiling it.

The array takes a word of each pass for every output pixel, and the weights of each rectangle of at most
``accumulator_depth`` pixels; the bus carries these, unless the weight FIFO can give them again, and every
result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.operation import Operation
from compiler.traffic import Bus, MemoryTiming
from compiler.weight_repeats import most_repeated_bytes
from hw.machine import Machine
from hw.pixel_loops import AVERAGE_CADENCE, RESIDUAL_CADENCE

__all__ = ["least_cycles", "stored_weight_bytes", "weight_bytes"]


@dataclass(frozen=True)
class _Weights:
    """Weights and parameters of an output block.

    Attributes
    ----------
    size : int
        Bytes.
    taken, read : int
        How often the array takes them, and how often the bus carries them, at least.
    """

    size: int
    taken: int
    read: int


def weight_bytes(operations: Sequence[Operation], machine: Machine) -> int:
    """Weights and parameters that the array takes, at least."""
    return sum(weights.size * weights.taken for weights in _weights(operations, machine))


def stored_weight_bytes(operations: Sequence[Operation], machine: Machine) -> int:
    """Weights and parameters in memory, at least."""
    return sum(weights.size for weights in _weights(operations, machine))


def _weights(operations: Sequence[Operation], machine: Machine) -> list[_Weights]:
    """Of each output block of each operation."""
    found = []
    for operation in operations:
        rectangles = -(-operation.rows * operation.columns // machine.accumulator_depth)
        for block in range(operation.destination.planes):
            tiles = 1 if operation.hold_weights else _passes(operation, machine, block)
            size = tiles * machine.tile_bytes + machine.parameter_bytes
            again = size > most_repeated_bytes(machine)
            found.append(_Weights(size, rectangles, rectangles if again else 1))
    return found


def _moved_bytes(operations: Sequence[Operation], machine: Machine) -> int:
    """Bytes of weights that cross the bus at least, with as many as possible of them kept."""
    moved, room = 0, machine.kept_weight_bytes
    for weights in sorted(_weights(operations, machine), key=lambda weights: -weights.read):
        kept = min(weights.size, room)
        room -= kept
        moved += (weights.size - kept) * weights.read
    return moved


def _passes(operation: Operation, machine: Machine, block: int) -> int:
    """Of an output block, with no slots beside the kernel's taps."""
    return operation.passes(machine, block, operation.kernel[1])


def least_cycles(operations: Sequence[Operation], machine: Machine, memory: MemoryTiming) -> int:
    """Cycles that no schedule of these operations, lowered for the machine's lanes, can undercut.

    Of a later inference, where a machine keeps weights.
    """
    array = maps = 0
    for operation in operations:
        pixels = operation.rows * operation.columns
        blocks = operation.destination.planes
        cadence = AVERAGE_CADENCE if operation.average else RESIDUAL_CADENCE if operation.residual else 1
        passes = sum(_passes(operation, machine, block) for block in range(blocks))
        array += (passes + blocks * (cadence - 1)) * pixels
        maps += blocks * pixels * machine.word_bytes
    beats = [_moved_bytes(operations, machine) // machine.bus_bytes, maps // machine.bus_bytes]
    bus = Bus(machine, memory)
    moved = sum(beats) if bus.one_direction else max(beats)
    return max(array, weight_bytes(operations, machine) // machine.bus_bytes, int(moved * bus.beat_cycles))
