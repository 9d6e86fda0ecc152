"""What is under way at a moment of a run: beats of each unit's instruction, words of the array's."""

from __future__ import annotations

from dataclasses import dataclass

from hw.compute_cycles import ComputeCycles

__all__ = ["ArrayProgress", "Flow"]


@dataclass(slots=True)
class Flow:
    """Beats on their way for the present instruction of one unit."""

    active: bool = False
    ready_at: float = 0.0  # nothing moves before
    left: float = 0.0  # beats
    burst: float = 1.0  # beats of an average burst
    share: float = 1.0  # bursts in a turn of all readers
    cost: float = 1.0  # cycles of one on a memory that does nothing else
    most: float = 1.0  # beats a cycle that the unit takes
    rate: float = 0.0  # beats a cycle until the next event
    instruction: int = -1
    free_at: float = 0.0  # when the last beat of the instruction before moved
    busy_until: float = 0.0  # when that instruction ended
    on_chip: bool = False  # weights that do not come over the bus
    rest: float = 0.0  # beats behind them that do


@dataclass(slots=True)
class ArrayProgress:
    """The instruction whose words the array takes, and how far it is; and the next one."""

    work: ComputeCycles | None = None  # None: it has no instruction
    instruction: int = -1
    left: float = 0.0  # cycles, as long as weights are there
    speed: float = 0.0  # of these a cycle: below 1 while weights are missing
    demand: float = 0.0  # weight beats in each of them
    taken: bool = True  # its last pass has begun, so that the next one may take its tokens
    next_at: float = 0.0  # not before
    results_at: float = 0.0  # the results of the one before are all there
    next_work: ComputeCycles | None = None  # that has its tokens
    next_instruction: int = -1
    ready_at: float = 0.0  # its first word is not before
