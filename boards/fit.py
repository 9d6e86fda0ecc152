"""Whether a design fits its part: found before place and route, with what to change."""

from __future__ import annotations

import json
from pathlib import Path

from boards.board import Board, BoardBuild

__all__ = ["FitError", "require_fit", "require_multipliers"]

_ADVICE = {
    "luts": "choose smaller input_lanes or output_lanes, or average_pooling false, with --machine",
    "ffs": "choose smaller input_lanes or output_lanes with --machine",
    "dsps": "choose smaller input_lanes or output_lanes with --machine",
    "block_rams": "choose smaller scratchpad_words, accumulator_depth or weight_fifo_words with --machine",
    "large_rams": "choose a smaller memory",
}
_NAMES = {
    "luts": "LUTs",
    "ffs": "flip-flops",
    "dsps": "DSP blocks",
    "block_rams": "block RAMs",
    "large_rams": "large RAMs",
}


class FitError(ValueError):
    """The design is larger than the part; the message says in what, and what to change."""


def require_multipliers(board: Board, job: BoardBuild) -> None:
    """Refuse, before anything is generated, more instantiated multipliers than there are DSP blocks.

    Raises
    ------
    FitError
    """
    available = board.part.resources["dsps"]
    if job.multiplier == "ecp5" and job.machine.multipliers > available:
        raise FitError(
            f"{board.name}: the machine needs {job.machine.multipliers} DSP blocks, {board.part.name} has "
            f"{available}; {_ADVICE['dsps']}"
        )


def require_fit(board: Board, area: Path) -> dict[str, int]:
    """Refuse a synthesized netlist that needs more than the part has; returns what it needs at least.

    Raises
    ------
    FitError
        Names every resource that does not suffice.
    """
    counts = json.loads(area.read_text())["design"]["num_cells_by_type"]
    used = board.part.flow.used_by_netlist(counts)
    short = [name for name, available in board.part.resources.items() if used[name] > available]
    if short:
        needs = ", ".join(
            f"{used[name]} {_NAMES[name]} of {board.part.resources[name]}" for name in short
        )
        advice = board.caveat or _ADVICE[short[0]]
        raise FitError(f"{board.name}: the design needs {needs} in {board.part.name}; {advice}")
    return used
