"""The bars: what the project should reach on the benchmark's work, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.clock import Clock
from bench.cycles import Row
from quant.text_table import aligned

__all__ = ["BARS", "Bar", "Results", "Verdict", "bar_lines", "verdicts"]

#: Runs shorter than this say little about the simulator's speed.
_CYCLES_TO_TIME = 100_000


@dataclass(frozen=True)
class Results:
    """What was measured: rows by work and memory, and the clock of a routed board, if it is known."""

    rows: Mapping[tuple[str, str], Row]
    clock: Clock | None = None

    @classmethod
    def of(cls, rows: Sequence[Row], clock: Clock | None = None) -> Results:
        """Those of these rows."""
        return cls({(row.name, row.memory): row for row in rows}, clock)


#: A figure and how it is written; None: not measured.
Figure = tuple[float, str] | None


@dataclass(frozen=True)
class Bar:
    """One bar: ``figure`` must be at least ``least``, or at most ``most``."""

    what: str
    bar: str
    figure: Callable[[Results], Figure]
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A bar with the measured figure; ``met`` is None where it was not measured."""

    what: str
    bar: str
    measured: str
    value: float | None
    met: bool | None

    def to_json(self) -> dict[str, Any]:
        """The verdict as a JSON object."""
        return dict(vars(self))


def _of_row(name: str, memory: str, figure: Callable[[Row], Figure]) -> Callable[[Results], Figure]:
    def found(results: Results) -> Figure:
        row = results.rows.get((name, memory))
        return None if row is None else figure(row)

    return found


def _busy(row: Row) -> Figure:
    return row.busy, f"{100 * row.busy:.1f} % busy"


def _cycles(row: Row) -> Figure:
    return row.cycles, f"{row.cycles:,} cycles"


def _bus(row: Row) -> Figure:
    return row.bus, f"{100 * row.bus:.1f} %"


def _layers_busy(names: Callable[[str], bool]) -> Callable[[Row], Figure]:
    def found(row: Row) -> Figure:
        layers = [layer for layer in row.layers if names(layer.name)]
        busy = sum(layer.macs for layer in layers) / (row.multipliers * sum(layer.cycles for layer in layers))
        return busy, f"{100 * busy:.1f} % busy"

    return found


def _a_second(name: str) -> Callable[[Results], Figure]:
    """Of a program that stores only what is read, as a board would run it."""

    def found(results: Results) -> Figure:
        row = results.rows.get((name, "ulx3s"))
        if row is None or results.clock is None:
            return None
        rate = results.clock.mhz * 1e6 / row.cycles
        return rate, f"{rate:,.0f} a second at {results.clock.mhz:.1f} MHz"

    return found


def _clock(results: Results) -> Figure:
    return None if results.clock is None else (results.clock.mhz, f"{results.clock.mhz:.1f} MHz")


def _speed(results: Results) -> Figure:
    timed = [row for row in results.rows.values() if row.seconds and row.cycles >= _CYCLES_TO_TIME]
    if not timed:
        return None
    speed = sum(row.cycles for row in timed) / sum(row.seconds for row in timed)
    return speed, f"{speed:,.0f} cycles a second"


def _times_fewer(
    name: str, raw: str, what: Callable[[str], bool] = lambda kind: True
) -> Callable[[Results], Figure]:
    """How often the cycles of a row's layers of some kinds go into those of the row of ``raw`` weights."""

    def found(results: Results) -> Figure:
        rows = results.rows.get((name, "ideal")), results.rows.get((raw, "ideal"))
        if rows[0] is None or rows[1] is None:
            return None
        own, other = (sum(layer.cycles for layer in row.layers if what(layer.kind)) for row in rows if row)
        return other / own, f"{other / own:.2f} times fewer"

    return found


def _minutes(row: Row) -> Figure:
    return (row.seconds / 60, f"{row.seconds / 60:.1f} minutes") if row.seconds else None


BARS = (
    *(
        Bar(f"{name}, stalling", "at least 97 % busy", _of_row(name, "stalling", _busy), least=0.97)
        for name in ("L1", "L2")
    ),
    Bar(
        "VGG-16's 13 convolutions, ideal",
        "at least 95 % busy",
        _of_row("N5", "ideal", _layers_busy(lambda name: name.startswith("conv"))),
        least=0.95,
    ),
    Bar(
        "VGG-16's conv1_1, ideal",
        "at least 60 % busy",
        _of_row("N5", "ideal", _layers_busy(lambda name: name == "conv1_1")),
        least=0.6,
    ),
    Bar("N2, ideal", "at most 115,000 cycles", _of_row("N2", "ideal", _cycles), most=115_000),
    Bar("N1, ideal", "at most 75,000 cycles", _of_row("N1", "ideal", _cycles), most=75_000),
    Bar("N1, stalling", "at most 85,000 cycles", _of_row("N1", "stalling", _cycles), most=85_000),
    Bar("L3, ideal", "at least 50 % busy", _of_row("L3", "ideal", _busy), least=0.5),
    Bar("L3, kept weights, ideal", "at least 50 % busy", _of_row("L3-kept", "ideal", _busy), least=0.5),
    Bar("N3, ideal", "at least 60 % busy", _of_row("N3", "ideal", _busy), least=0.6),
    *(
        Bar(f"L4, {memory}", "at least 98 % of the memory", _of_row("L4", memory, _bus), least=0.98)
        for memory in ("ideal", "stalling", "ulx3s")
    ),
    Bar(
        "L4, 8 % of the weights, ideal",
        "at least 5 times fewer cycles than raw",
        _times_fewer("L4-sparse", "L4"),
        least=5,
    ),
    Bar(
        "N1's fully connected layers, 8 %, ideal",
        "at least 5 times fewer cycles than raw",
        _times_fewer("N1-sparse", "N1", lambda kind: kind == "fully connected"),
        least=5,
    ),
    Bar(
        "L4, ternary, ideal",
        "at least 3.8 times fewer cycles than raw",
        _times_fewer("L4-ternary", "L4"),
        least=3.8,
    ),
    *(
        Bar(
            f"{name}, weights of 4 bits, ideal",
            "at least 1.9 times fewer cycles than of 8 bits",
            _times_fewer(f"{name}-int4", name),
            least=1.9,
        )
        for name in ("L1", "L2", "L4", "N2")
    ),
    Bar("clock of the ULX3S-85F, routed", "at least 100 MHz", _clock, least=100),
    Bar("N2 on the ULX3S-85F", "at least 870 a second", _a_second("N2-lean"), least=870),
    Bar("N3 on the ULX3S-85F", "at least 1,000 a second", _a_second("N3-lean"), least=1000),
    Bar("N3 on it, kept weights", "at least 1,000 a second", _a_second("N3-kept"), least=1000),
    Bar(
        "N2 on it, weights of 4 bits, kept",
        "more than 2,432 a second",
        _a_second("N2-int4-kept"),
        least=2433,
    ),
    Bar("simulator's speed", "at least 300,000 cycles a second", _speed, least=300_000),
    Bar("VGG-16 in RTL", "under 15 minutes", _of_row("N5", "ideal", _minutes), most=15),
)


def verdicts(results: Results, bars: Sequence[Bar] = BARS) -> list[Verdict]:
    """Every bar with what was measured."""
    found = []
    for bar in bars:
        figure = bar.figure(results)
        if figure is None:
            found.append(Verdict(bar.what, bar.bar, "not measured", None, None))
            continue
        value, text = figure
        met = (bar.least is None or value >= bar.least) and (bar.most is None or value <= bar.most)
        found.append(Verdict(bar.what, bar.bar, text, value, met))
    return found


def bar_lines(found: Sequence[Verdict]) -> list[str]:
    """The verdicts for people."""
    words = {None: "", True: "met", False: "MISSED"}
    cells = [("what", "bar", "measured", "")]
    cells += [(verdict.what, verdict.bar, verdict.measured, words[verdict.met]) for verdict in found]
    return aligned(cells, 4)
