"""The benchmark's plots: a roofline for each memory, and timelines of the works that are short."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bench.cycles import Row
from bench.roofline import roofline_plot
from bench.timeline import record, timeline_plot
from bench.work import WORK
from hw.machine import Machine
from hw.whole_file import write_whole

__all__ = ["PlotError", "check_plots", "write_plots"]

#: Longer runs have more gaps than a picture can show.
_LONGEST = 1_000_000


class PlotError(ValueError):
    """Plots cannot be drawn; the message says why and what to do."""


def check_plots(folder: Path | None) -> None:
    """Make the folder, and refuse plots that could not be drawn in the end; None is accepted.

    Raises
    ------
    PlotError
        If matplotlib is missing, or there is no such folder.
    """
    if folder is None:
        return
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise PlotError("plots need matplotlib; install it with pip install 'pointshift[quant]'") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlotError(f"{folder}: cannot be made ({error.strerror}); give another folder") from None


def write_plots(rows: Sequence[Row], machine: Machine, folder: Path, *, progress: bool = False) -> list[Path]:
    """Draw the rows into a folder; the files' names."""
    written = []
    for memory in dict.fromkeys(row.memory for row in rows):
        written.append(folder / f"roofline-{memory}.png")
        write_whole(written[-1], roofline_plot(rows, memory))
    short = [row for row in rows if row.cycles <= _LONGEST]
    for row in tqdm(short, desc="timelines", leave=False, delay=2, disable=None if progress else True):
        written.append(folder / f"timeline-{row.name}-{row.memory}.png")
        write_whole(written[-1], timeline_plot(record(WORK[row.name], machine, row.memory)))
    return written
