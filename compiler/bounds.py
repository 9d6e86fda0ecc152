"""The least cycles that a network can take on a machine, however it is tiled: known without tiling it.

The array takes a word of each pass for every output pixel; the bus carries the weights of each rectangle
of at most ``accumulator_depth`` pixels, and every result.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.operation import Operation
from compiler.traffic import Bus, MemoryTiming
from hw.machine import Machine
from hw.pixel_loops import AVERAGE_CADENCE, RESIDUAL_CADENCE

__all__ = ["least_cycles", "stored_weight_bytes", "weight_bytes"]


def weight_bytes(operations: Sequence[Operation], machine: Machine) -> int:
    """Weights and parameters that the array takes, at least."""
    return sum(size * times for size, times in _weights(operations, machine))


def stored_weight_bytes(operations: Sequence[Operation], machine: Machine) -> int:
    """Weights and parameters in memory, at least."""
    return sum(size for size, _ in _weights(operations, machine))


def _weights(operations: Sequence[Operation], machine: Machine) -> list[tuple[int, int]]:
    """Bytes of each operation's weights, and how often they are taken: once for each rectangle."""
    found = []
    for operation in operations:
        rectangles = -(-operation.rows * operation.columns // machine.accumulator_depth)
        blocks = operation.destination.planes
        tiles = blocks if operation.hold_weights else _passes(operation, machine)
        found.append((tiles * machine.tile_bytes + blocks * machine.parameter_bytes, rectangles))
    return found


def _kept_bytes(operations: Sequence[Operation], machine: Machine) -> int:
    """Of `weight_bytes`, those that need not cross the bus again where they are kept, at most."""
    saved, left = 0, machine.kept_weight_bytes
    for size, times in sorted(_weights(operations, machine), key=lambda weights: -weights[1]):
        kept = min(size, left)
        saved += kept * times
        left -= kept
    return saved


def _passes(operation: Operation, machine: Machine) -> int:
    """Of all output blocks, with no slots beside the kernel's taps."""
    columns = operation.kernel[1]
    return sum(operation.passes(machine, block, columns) for block in range(operation.destination.planes))


def least_cycles(operations: Sequence[Operation], machine: Machine, memory: MemoryTiming) -> int:
    """Cycles that no schedule of these operations, lowered for the machine's lanes, can undercut.

    Of a later inference, where a machine keeps weights.
    """
    array = maps = 0
    for operation in operations:
        pixels = operation.rows * operation.columns
        blocks = operation.destination.planes
        cadence = AVERAGE_CADENCE if operation.average else RESIDUAL_CADENCE if operation.residual else 1
        array += (_passes(operation, machine) + blocks * (cadence - 1)) * pixels
        maps += blocks * pixels * machine.word_bytes
    weights = weight_bytes(operations, machine)
    moved_weights = weights - _kept_bytes(operations, machine)
    beats = [moved_weights // machine.bus_bytes, maps // machine.bus_bytes]
    bus = Bus(machine, memory)
    moved = sum(beats) if bus.one_direction else max(beats)
    return max(array, weights // machine.bus_bytes, int(moved * bus.beat_cycles))
