"""The clock of a routed board, to turn cycles into time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bench.cycles import BenchError

__all__ = ["REPORT", "Clock", "find_clock"]

#: Where `make bitstream BOARD=ecp5` leaves its report.
REPORT = Path("build/ecp5/report.json")


@dataclass(frozen=True)
class Clock:
    """``mhz``, and where the figure is from."""

    mhz: float
    source: str


def find_clock(mhz: float | None, report: Path | None) -> Clock | None:
    """The clock that the options name; else that of the last bitstream for the ULX3S-85F, if there is one.

    Raises
    ------
    BenchError
        If the report that was asked for is none.
    """
    if mhz is not None:
        return Clock(mhz, "--clock")
    if report is None and not REPORT.exists():
        return None
    path = report or REPORT
    try:
        reached = json.loads(path.read_text())["clock_reached_mhz"]
        return Clock(float(reached), str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path}: no report of a bitstream ({error}); give --clock instead") from None
