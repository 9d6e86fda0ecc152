"""Machines that `compiler.fit` tries: every array that a part holds, and changes of one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from compiler.bounds import stored_weight_bytes, weight_bytes
from compiler.operation import Operation
from compiler.traffic import MemoryTiming
from hw.machine import KEPT_STEP, MOST_KEPT_WORDS, Machine, MachineError

__all__ = ["WHAT_LIMITS", "Candidate", "Target", "arrays", "changes", "check"]

_LEAST_SCRATCHPAD, _MOST_SCRATCHPAD = 256, 65536
#: Share of the cycles in which weights are missing, and of weights that need not cross the bus, which
#: make other buffers for weights worth a try.
_WORTH = 0.02

#: What cycles are spent on besides products, by the reasons of `compiler.layer_estimate`.
WHAT_LIMITS = {
    "weights in": "bus: weights in",
    "maps in": "bus: activations in",
    "maps out": "bus: results out",
    "maps in and out": "bus: activations in and out",
    "gaps": "pipeline between instructions",
}


@dataclass(frozen=True)
class Target:
    """What a machine is chosen for.

    Attributes
    ----------
    name, part : str
        The board and its FPGA.
    resources : dict
        What the part has: ``luts``, ``ffs``, ``dsps``, ``block_rams``.
    area : callable
        What the whole design needs of these with a machine.
    memory : MemoryTiming
        How the external memory behaves.
    memory_bytes : int
        Its size.
    clock_mhz : float
    """

    name: str
    part: str
    resources: Mapping[str, int]
    area: Callable[[Machine], Mapping[str, int]]
    memory: MemoryTiming
    memory_bytes: int
    clock_mhz: float


@dataclass(frozen=True)
class Candidate:
    """A machine with what its design needs; ``problem`` says why it does not fit, or is empty."""

    machine: Machine
    needs: Mapping[str, int]
    problem: str = ""


def _names(resource: str) -> str:
    return {"luts": "LUTs", "ffs": "flip-flops", "dsps": "DSP blocks", "block_rams": "block RAMs"}[resource]


def check(machine: Machine, target: Target) -> Candidate:
    """A machine's needs, and whether the part has them."""
    needs = target.area(machine)
    short = [
        f"{needs[name]:,} {_names(name)} of {target.resources[name]:,}"
        for name in ("dsps", "block_rams", "luts", "ffs")
        if needs[name] > target.resources[name]
    ]
    return Candidate(machine, needs, f"needs {', '.join(short)}" if short else "")


def _with(machine: Machine, **changes: int | bool) -> Machine | None:
    try:
        return replace(machine, **changes)
    except MachineError:
        return None


def arrays(target: Target, *, average_pooling: bool, bus_widths: Sequence[int]) -> Iterator[Candidate]:
    """Every array with the widest bus it takes and the largest scratchpad that fits.

    Those that do not fit come with the smallest buffers.
    """
    for inputs, outputs in product((4, 8, 16), (4, 8, 16, 32, 64)):
        widths = [width for width in bus_widths if width <= 8 * outputs]
        if inputs > outputs or not widths:
            continue
        fifo = max(512, 4 * inputs * outputs * 8 // max(widths))
        smallest = _with(
            Machine(average_pooling=average_pooling),
            input_lanes=inputs,
            output_lanes=outputs,
            bus_width=max(widths),
            scratchpad_words=_LEAST_SCRATCHPAD,
            weight_fifo_words=fifo,
        )
        if smallest is not None:
            yield _largest_scratchpad(smallest, target)


def _largest_scratchpad(machine: Machine, target: Target) -> Candidate:
    found = check(replace(machine, scratchpad_words=_LEAST_SCRATCHPAD), target)
    words = _LEAST_SCRATCHPAD
    while not found.problem and words < _MOST_SCRATCHPAD:
        words *= 2
        larger = check(replace(machine, scratchpad_words=words), target)
        if larger.problem:
            break
        found = larger
    return found


def changes(
    machine: Machine,
    shares: Mapping[str, float],
    operations: Sequence[Operation],
    target: Target,
    bus_widths: Sequence[int],
) -> Iterator[Candidate]:
    """A machine with one buffer or the bus changed; the scratchpad gives way if it must.

    Where the bus is waited for, as many weights are kept as the part has block RAMs for, beside the buffers
    as they are, or with one of them half as large.
    """
    varied = [_with(machine, scratchpad_words=machine.scratchpad_words // step) for step in (2, 4)]
    varied += [_with(machine, bus_width=width) for width in bus_widths]
    if shares.get(WHAT_LIMITS["weights in"], 0) > _WORTH:
        varied.append(_with(machine, weight_fifo_words=4 * machine.weight_fifo_words))
        now = weight_bytes(operations, machine)
        for step in (2, 4):
            deeper = _with(machine, accumulator_depth=step * machine.accumulator_depth)
            if deeper is not None and weight_bytes(operations, deeper) < now * (1 - _WORTH):
                varied.append(deeper)
    bus = sum(share for reason, share in shares.items() if reason.startswith("bus"))
    if bus > _WORTH:
        most = stored_weight_bytes(operations, machine) // machine.bus_bytes
        for changed in (
            machine,
            _with(machine, weight_fifo_words=machine.weight_fifo_words // 2),
            _with(machine, scratchpad_words=machine.scratchpad_words // 2),
        ):
            varied.append(changed and _keeping(changed, most, target))
    for other in varied:
        if other is None:
            continue
        candidate = check(other, target)
        while candidate.problem and candidate.machine.scratchpad_words > _LEAST_SCRATCHPAD:
            smaller = replace(candidate.machine, scratchpad_words=candidate.machine.scratchpad_words // 2)
            candidate = check(smaller, target)
        yield candidate


def _keeping(machine: Machine, words: int, target: Target) -> Machine | None:
    """The machine with so many weights kept, or as many as fit; None if the part has no room."""
    words = min(-(-words // KEPT_STEP) * KEPT_STEP, MOST_KEPT_WORDS)
    for kept in range(words, 0, -KEPT_STEP):
        keeping = _with(machine, kept_weight_words=kept)
        if keeping is not None and not check(keeping, target).problem:
            return keeping
    return None
