"""Choosing a machine: candidates for a network on a part, each compiled and its cycles estimated.

Every array that the part holds is tried with the largest scratchpad that fits, then the best one with
other buffers and buses, one change at a time, until nothing gets better.  What `compiler.bounds` proves
slower than the best is not compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from compiler.bounds import least_cycles
from compiler.candidates import WHAT_LIMITS, Candidate, Target, arrays, changes
from compiler.compile import place_instructions
from compiler.error import CompileError
from compiler.estimate import estimate
from compiler.lower import lower
from compiler.operation import Operation
from hw.machine import Machine
from quant.fixed_model import FixedModel

__all__ = [
    "Choice",
    "Evaluator",
    "FitError",
    "Result",
    "choose_machine",
    "evaluate",
    "frames_per_second",
    "ranked",
    "read_model",
]

#: Cycles that differ by less than this are called equal, and the smaller machine comes first.
_EQUAL = 0.01
#: Rounds of changes to the best machine.
_ROUNDS = 2
#: Arrays that are compiled before bounds are compared with what came out.
_FIRST = 2


class FitError(ValueError):
    """No machine on this part runs the network; the message names the limit and what to change."""


@dataclass(frozen=True)
class Result:
    """A network on a candidate.

    Attributes
    ----------
    machine : Machine
    needs : dict
        ``luts``, ``ffs``, ``dsps``, ``block_rams`` of the whole design.
    cycles : int
        Of one image, of each but the first if the machine keeps weights; 0 if it does not fit.
    bottleneck : str
        What most of the cycles are spent on.
    shares : dict
        Share of the cycles by reason.
    memory_bytes : int
        External memory that the program takes.
    problem : str
        Why it does not fit; empty if it does.
    """

    machine: Machine
    needs: Mapping[str, int]
    cycles: int = 0
    bottleneck: str = ""
    shares: Mapping[str, float] | None = None
    memory_bytes: int = 0
    problem: str = ""

    def to_json(self, clock_mhz: float) -> dict[str, Any]:
        """For programs; ``frames_per_second`` at this clock."""
        entry = {**asdict(self), "machine": self.machine.to_json(), "needs": dict(self.needs)}
        entry["frames_per_second"] = frames_per_second(self, clock_mhz)
        return entry


def frames_per_second(result: Result, clock_mhz: float) -> float:
    """Images in a second, one after another; 0 for what does not fit."""
    return clock_mhz * 1e6 / result.cycles if result.cycles else 0.0


@lru_cache(maxsize=1)
def read_model(path: Path) -> FixedModel:
    """The fixed-point model of a file, read once in each process."""
    from quant.qdq_import import read_fixed_model

    return read_fixed_model(path)


def evaluate(model: FixedModel | Path, candidate: Candidate, target: Target) -> Result:
    """Compile for a candidate and estimate.  A `CompileError` becomes the result's ``problem``."""
    machine = candidate.machine
    fixed = read_model(model) if isinstance(model, Path) else model
    try:
        placed = place_instructions(fixed, machine)
    except CompileError as error:
        return Result(machine, candidate.needs, problem=str(error).splitlines()[0])
    needed = placed.memory_map.end
    if needed > target.memory_bytes:
        return Result(
            machine,
            candidate.needs,
            memory_bytes=needed,
            problem=f"the program takes {needed:,} bytes of memory, {target.name} has "
            f"{target.memory_bytes:,}; use a smaller network or input, or a board with more memory",
        )
    kept = placed.memory_map.weights if machine.kept_weight_words else None
    run = estimate(placed.instructions, machine, target.memory, kept_address=kept)
    useful = sum(layer.macs for layer in placed.lowered.layers) / machine.products
    reasons = run.total().reasons()
    array = reasons.pop("array")
    named = {"multipliers": useful, "multipliers: unused lanes": max(array - useful, 0.0)}
    named |= {WHAT_LIMITS[reason]: cycles for reason, cycles in reasons.items()}
    return Result(
        machine,
        candidate.needs,
        cycles=run.cycles,
        bottleneck=max(named, key=lambda reason: named[reason]),
        shares={reason: cycles / run.cycles for reason, cycles in named.items()},
        memory_bytes=needed,
    )


def ranked(results: Sequence[Result]) -> list[Result]:
    """Those that fit, best first: the fewest cycles, and the smaller machine where these are about equal."""
    left = sorted((result for result in results if not result.problem), key=lambda result: result.cycles)
    order: list[Result] = []
    while left:
        equal = [result for result in left if result.cycles <= left[0].cycles * (1 + _EQUAL)]
        best = min(equal, key=_size)
        order.append(best)
        left.remove(best)
    return order


def _size(result: Result) -> tuple[float, ...]:
    return (
        result.needs["luts"] + 100 * result.needs["block_rams"],
        result.cycles,
        *result.machine.to_json().values(),
    )


#: Evaluates candidates, in any order of its own, and gives the results in theirs.
Evaluator = Callable[[Sequence[Candidate]], Sequence[Result]]


class _Choice:
    """The search for one network and target."""

    def __init__(self, model: FixedModel, target: Target, evaluator: Evaluator) -> None:
        self.model = model
        self.target = target
        self.evaluator = evaluator
        self.results: list[Result] = []
        self.refused: list[Result] = []
        self.slower: list[Result] = []
        self._seen: set[Machine] = set()
        self._lowered: dict[tuple[int, int], list[Operation]] = {}
        self.average_pooling = True
        try:
            self.lowered(Machine(average_pooling=False))
            self.average_pooling = False
        except CompileError:
            self.lowered(Machine())  # raises, if there is another reason

    def lowered(self, machine: Machine) -> list[Operation]:
        """The network's operations for a machine's lanes."""
        key = (machine.input_lanes, machine.output_lanes)
        if key not in self._lowered:
            layers = lower(self.model, machine).layers
            self._lowered[key] = [operation for layer in layers for operation in layer.operations]
        return self._lowered[key]

    def bound(self, candidate: Candidate) -> int:
        """`least_cycles` of a candidate."""
        return least_cycles(self.lowered(candidate.machine), candidate.machine, self.target.memory)

    def best(self) -> Result | None:
        """The first of those that have been compiled."""
        return next(iter(ranked(self.results)), None)

    def compile(self, candidates: Sequence[Candidate]) -> None:
        """Evaluate those that fit, have not been seen, and might be better than the best."""
        best = self.best()
        chosen = []
        for candidate in candidates:
            if candidate.machine in self._seen:
                continue
            self._seen.add(candidate.machine)
            bound = self.bound(candidate)
            if best is not None and bound > best.cycles * (1 + _EQUAL):
                self.slower.append(Result(candidate.machine, candidate.needs, bound))
            else:
                chosen.append(candidate)
        for result in self.evaluator(chosen) if chosen else ():
            (self.refused if result.problem else self.results).append(result)


@dataclass(frozen=True)
class Choice:
    """What a search found.

    Attributes
    ----------
    order : list of Result
        Machines that run the network, best first.
    slower : list of Result
        Machines that fit and cannot be better than the best; ``cycles`` is what they take at least.
    refused : list of Result
        Machines that do not fit; ``problem`` says why.
    """

    order: list[Result]
    slower: list[Result]
    refused: list[Result]


def choose_machine(
    model: FixedModel,
    target: Target,
    evaluator: Evaluator,
    *,
    bus_widths: Sequence[int] = (32, 64, 128),
) -> Choice:
    """Search the machines for a network on a part.

    Raises
    ------
    CompileError
        If no machine can run the network.
    FitError
        If none fits; with the reason that holds for the smallest.
    """
    choice = _Choice(model, target, evaluator)
    first = list(arrays(target, average_pooling=choice.average_pooling, bus_widths=bus_widths))
    choice.refused += [
        Result(candidate.machine, candidate.needs, problem=candidate.problem)
        for candidate in first
        if candidate.problem
    ]
    fitting = sorted((candidate for candidate in first if not candidate.problem), key=choice.bound)
    choice.compile(fitting[:_FIRST])
    choice.compile(fitting[_FIRST:])
    for _ in range(_ROUNDS):
        before = choice.best()
        if before is None:
            break
        machine, shares = before.machine, before.shares or {}
        varied = changes(machine, shares, choice.lowered(machine), target, bus_widths)
        choice.compile([candidate for candidate in varied if not candidate.problem])
        after = choice.best()
        if after is None or after.machine == before.machine:
            break
    order = ranked(choice.results)
    if not order:
        least = choice.refused[-1] if fitting else choice.refused[0]
        raise FitError(f"{target.name}: no machine in {target.part} runs this network: {least.problem}")
    return Choice(order, sorted(choice.slower, key=lambda result: result.cycles), choice.refused)
