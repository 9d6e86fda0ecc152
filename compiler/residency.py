"""Which feature maps stay in the scratchpad between layers, and where.

Every operation writes its result to external memory anyway (each layer can be checked there); a map
that also stays on chip spares the next operation the load and, above all, the wait for the store.
The choice is greedy: a map becomes resident if the modelled cycles of the operations that live through
it do not grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.operation import Operation, Storage
from compiler.tile import best_pitch, best_tiling, choose_tiling
from compiler.tiling import Tiling
from compiler.tiling_problem import TilingProblem
from hw.machine import Machine

__all__ = ["Plan", "Residency", "Step", "plan"]


@dataclass(frozen=True)
class Residency:
    """A storage whose words are all in the scratchpad from ``base`` on, in the layout of external memory
    but with rows ``pitch`` words apart, during the operations ``first`` … ``last``."""

    storage: Storage
    first: int
    last: int
    base: int
    pitch: int

    @property
    def words(self) -> int:
        """Words of the scratchpad that it takes."""
        return self.storage.planes * self.storage.rows * self.pitch


@dataclass(frozen=True)
class Step:
    """One operation, how it is tiled, where its slots begin, and whether its result goes to memory."""

    operation: Operation
    tiling: Tiling
    slots_base: int
    source: Residency | None
    destination: Residency | None
    residual: Residency | None
    stored: bool


@dataclass(frozen=True)
class Plan:
    """All operations in order."""

    steps: list[Step]
    residencies: list[Residency]


class _Planner:
    def __init__(self, operations: list[Operation], machine: Machine, outputs: set[Storage] | None) -> None:
        self.operations = operations
        self.machine = machine
        self.outputs = outputs
        self.residencies: list[Residency] = []
        self._tilings: dict[tuple, Tiling | None] = {}

    def resident(self, storage: Storage, number: int, residencies: list[Residency]) -> Residency | None:
        for residency in residencies:
            if residency.storage == storage and residency.first <= number <= residency.last:
                return residency
        return None

    def problem(self, number: int, residencies: list[Residency]) -> TilingProblem:
        operation = self.operations[number]
        source = self.resident(operation.source.storage, number, residencies)
        destination = self.resident(operation.destination.storage, number, residencies)
        residual_arrives = operation.residual is not None and self.residual(number, residencies) is None
        written = {other.destination.storage for other in self.operations[:number]}
        arrives = source is not None and (source.first == number or source.storage not in written)
        return TilingProblem(
            operation,
            self.machine,
            source.pitch if source is not None else 0,
            arrives,
            destination.pitch if destination is not None else 0,
            residual_arrives,
            self.stored(number, residencies),
        )

    def stored(self, number: int, residencies: list[Residency]) -> bool:
        """Whether an operation's result goes to memory: somebody else reads it there, or it is wanted."""
        storage = self.operations[number].destination.storage
        destination = self.resident(storage, number, residencies)
        return (
            self.outputs is None
            or self.machine.in_order  # maps share memory, so that places matter more than cycles
            or storage in self.outputs
            or destination is None
            or any(not self._reads(reader, destination, residencies) for reader in self.uses(storage))
        )

    def _reads(self, number: int, residency: Residency, residencies: list[Residency]) -> bool:
        """Whether an operation finds a map in the scratchpad."""
        operation, storage = self.operations[number], residency.storage
        if operation.residual is not None and operation.residual.view.storage == storage:
            return self.residual(number, residencies) == residency
        return self.resident(storage, number, residencies) == residency

    def residual(self, number: int, residencies: list[Residency]) -> Residency | None:
        """Where an operation's second operand is read, if not in the destination's place: its rows must lie
        as far apart as the destination's are, because one instruction walks through both."""
        operand = self.operations[number].residual
        destination = self.resident(self.operations[number].destination.storage, number, residencies)
        if operand is None or destination is None:
            return None
        found = self.resident(operand.view.storage, number, residencies)
        return found if found is not None and found.pitch == destination.pitch else None

    def gap(self, number: int, residencies: list[Residency]) -> tuple[int, int]:
        """Base and size of the largest free space during an operation."""
        taken = sorted(
            (residency.base, residency.base + residency.words)
            for residency in residencies
            if residency.first <= number <= residency.last
        )
        best, end = (0, 0), 0
        for low, high in [*taken, (self.machine.scratchpad_words,) * 2]:
            if low - end > best[1]:
                best = (end, low - end)
            end = max(end, high)
        return best

    def tiling(self, number: int, residencies: list[Residency]) -> Tiling | None:
        problem = self.problem(number, residencies)
        words = self.gap(number, residencies)[1]
        key = (
            number,
            words,
            problem.source_pitch,
            problem.source_arrives,
            problem.destination_pitch,
            problem.residual_arrives,
            problem.destination_stored,
        )
        if key not in self._tilings:
            self._tilings[key] = best_tiling(problem, words)
        return self._tilings[key]

    def cycles(self, first: int, last: int, residencies: list[Residency]) -> float:
        total = 0.0
        for number in range(first, last + 1):
            tiling = self.tiling(number, residencies)
            if tiling is None:
                return float("inf")
            total += tiling.cycles
        return total

    def uses(self, storage: Storage) -> list[int]:
        """Operations that read a storage."""
        return [
            number
            for number, operation in enumerate(self.operations)
            if operation.source.storage == storage
            or (operation.residual is not None and operation.residual.view.storage == storage)
        ]

    def _pitches(self, storage: Storage, first: int) -> list[int]:
        """Row pitches worth trying: the row itself, or what suits the first reader whose lanes are taps."""
        for number in self.uses(storage):
            operation = self.operations[number]
            if number >= first and operation.reads_taps and operation.source.storage == storage:
                return sorted({storage.columns, best_pitch(operation, self.machine, storage.columns)})
        return [storage.columns]

    def _bases(self, words: int, first: int, last: int) -> Iterator[int]:
        """Lowest and highest place that is free all the time."""
        taken = sorted(
            (residency.base, residency.base + residency.words)
            for residency in self.residencies
            if residency.first <= last and residency.last >= first
        )
        end, bases = 0, []
        for low, high in [*taken, (self.machine.scratchpad_words,) * 2]:
            if low - end >= words:
                bases += [end, low - words]
            end = max(end, high)
        if bases:
            yield from {min(bases), max(bases)}

    def consider(self, storage: Storage, first: int) -> None:
        """Make a storage resident from an operation on, if that pays, for as long as it pays most."""
        if storage.words > self.machine.scratchpad_words or self.resident(storage, first, self.residencies):
            return
        lasts = sorted({number for number in self.uses(storage) if number >= first}, reverse=True)
        best: Residency | None = None
        best_gain = -1.0
        for last in lasts[:8]:
            if last - first > 400:
                continue
            before = self.cycles(first, last, self.residencies)
            for pitch in self._pitches(storage, first):
                for base in self._bases(storage.planes * storage.rows * pitch, first, last):
                    residency = Residency(storage, first, last, base, pitch)
                    after = self.cycles(first, last, [*self.residencies, residency])
                    if after == float("inf"):
                        continue
                    gain = before - after
                    if gain > best_gain and gain >= 0:
                        best, best_gain = residency, gain
        if best is not None:
            self.residencies.append(best)


def plan(operations: list[Operation], machine: Machine, outputs: set[Storage] | None = None) -> Plan:
    """Choose residencies, then the tiling of every operation in the space that remains.

    ``outputs``: of all other storages only those that are read again are stored; None: every one is.

    Raises
    ------
    CompileError
        If an operation does not fit at all.
    """
    planner = _Planner(operations, machine, outputs)
    for number, operation in enumerate(operations):
        choose_tiling(planner.problem(number, []), machine.scratchpad_words)
        planner.consider(operation.source.storage, number)
        planner.consider(operation.destination.storage, number)
    steps = []
    for number, operation in enumerate(operations):
        base, words = planner.gap(number, planner.residencies)
        tiling = planner.tiling(number, planner.residencies) or choose_tiling(
            planner.problem(number, planner.residencies), words
        )
        steps.append(
            Step(
                operation,
                tiling,
                base,
                planner.resident(operation.source.storage, number, planner.residencies),
                planner.resident(operation.destination.storage, number, planner.residencies),
                planner.residual(number, planner.residencies),
                planner.stored(number, planner.residencies),
            )
        )
    return Plan(steps, planner.residencies)
