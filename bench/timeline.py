"""When load, compute and store were busy in one inference: ``python -m bench.timeline N1``.

Runs a work with the harness' recording on, prints how much of the time each part was busy and the longest
gaps of the array, and draws the timeline (PNG).
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.accuracy_data import BenchDataError
from bench.cycles import BenchError
from bench.work import WORK, UnknownWorkError, Work, chosen_works, compile_work
from compiler.error import CompileError
from hw.machine import Machine
from hw.whole_file import WholeFileError, check_writable, write_whole
from quant.text_table import aligned
from sim.memory_settings import MEMORY_NAMES
from sim.run import simulate
from sim.verilator import BUSY, BuildError, SimulationError

__all__ = ["Timeline", "busy_share", "gaps", "main", "record", "timeline_plot"]

#: Pixels that a timeline is wide; shares of a pixel's cycles are drawn as shades.
_COLUMNS = 1600
_COLORS = {"weights": "#cc79a7", "load": "#0072b2", "compute": "#009e73", "store": "#d55e00"}
_ERRORS = (
    *(BenchDataError, BenchError, BuildError, CompileError, SimulationError),
    *(UnknownWorkError, WholeFileError, OSError),
)


@dataclass(frozen=True)
class Timeline:
    """One inference.

    Attributes
    ----------
    work, memory : str
    cycles : int
    layers : list of (name, cycles)
    busy : dict
        For each part in `sim.verilator.BUSY`, (first cycle, first one after it) of every stretch.
    """

    work: str
    memory: str
    cycles: int
    layers: list[tuple[str, int]]
    busy: dict[str, NDArray[np.uint64]]


def record(work: Work, machine: Machine, memory: str) -> Timeline:
    """Run a work once, every layer's tensor compared with the reference.

    Raises
    ------
    BenchError
        If a layer differs from the reference.
    """
    compiled = compile_work(work, machine)
    outcome = simulate(compiled.program, compiled.model, compiled.inputs, memory=memory, record=True)
    if not outcome.bit_exact:
        raise BenchError(f"{work.name} with the memory {memory}: {outcome.problem}")
    numbered = [layer for layer in compiled.program.layers if layer.number in outcome.counters[-1]]
    layers = [(layer.name, outcome.counters[-1][layer.number].cycles) for layer in numbered]
    return Timeline(work.name, memory, outcome.cycles[-1], layers, outcome.busy)


def busy_share(intervals: NDArray[np.uint64], cycles: int, columns: int) -> NDArray[np.float64]:
    """Share of the cycles in each of ``columns`` equal parts of the run that the intervals cover."""
    edges = np.linspace(0, cycles, columns + 1)
    # busy cycles before an edge: whole intervals, and what has passed of one
    bounds = np.concatenate([[0.0], intervals.reshape(-1).astype(np.float64)])
    steps = np.diff(bounds, append=bounds[-1])
    busy = np.concatenate([[0.0], np.cumsum(np.where(np.arange(len(steps)) % 2 == 1, steps, 0.0))[:-1]])
    return np.diff(np.interp(edges, bounds, busy)) / (cycles / columns)


def gaps(intervals: NDArray[np.uint64], cycles: int) -> NDArray[np.int64]:
    """(first cycle, length) of what the intervals leave free, the longest first."""
    edges = np.concatenate([[0], intervals.reshape(-1).astype(np.int64), [cycles]]).reshape(-1, 2)
    found = np.stack([edges[:, 0], edges[:, 1] - edges[:, 0]], axis=1)
    found = found[found[:, 1] > 0]
    return found[np.argsort(-found[:, 1], kind="stable")]


def timeline_plot(timeline: Timeline) -> bytes:
    """The plot as PNG, the same bytes from run to run: white is idle."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, timeline.cycles)
    order = ("weights", "load", "compute", "store")
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(13, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for place, part in enumerate(order):
            share = busy_share(timeline.busy[part], timeline.cycles, columns)
            shades = LinearSegmentedColormap.from_list(part, ["#ffffff", _COLORS[part]])
            axes.imshow(
                share[None],
                extent=(0, timeline.cycles, place + 0.42, place - 0.42),
                aspect="auto",
                cmap=shades,
                vmin=0,
                vmax=1,
                interpolation="nearest",
            )
            axes.add_patch(
                matplotlib.patches.Rectangle(
                    (0, place - 0.42), timeline.cycles, 0.84, fill=False, edgecolor="#aaaaaa", linewidth=0.5
                )
            )
        position = 0
        for number, (name, cycles) in enumerate(timeline.layers):
            axes.axvline(position, color="#888888", linewidth=0.5)
            letters = int(100 * cycles / timeline.cycles)
            if letters >= 2:
                shown = f"{number} {name}" if len(name) + 3 <= letters else str(number)
                axes.text(position + cycles / 2, -0.55, shown, ha="center", va="bottom", fontsize=7)
            position += cycles
        axes.set_ylim(3.5, -0.95)
        axes.set_xlim(0, timeline.cycles)
        axes.set_yticks(range(4), [_label(timeline, part) for part in order])
        axes.set_xlabel("cycles; lines: a layer's first COMPUTE instruction, with its number")
        title = f"{timeline.work}, memory {timeline.memory}: {timeline.cycles:,} cycles"
        axes.set_title(title, parse_math=False)
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.spines[["top", "right", "left"]].set_visible(False)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _busy_cycles(timeline: Timeline, part: str) -> int:
    rows = timeline.busy[part].astype(np.int64)
    return int((rows[:, 1] - rows[:, 0]).sum())


def _label(timeline: Timeline, part: str) -> str:
    return f"{part} {100 * _busy_cycles(timeline, part) / timeline.cycles:.0f} %"


def _report(timeline: Timeline, count: int) -> dict[str, Any]:
    longest = gaps(timeline.busy["compute"], timeline.cycles)
    return {
        "work": timeline.work,
        "memory": timeline.memory,
        "cycles": timeline.cycles,
        "busy": {part: _busy_cycles(timeline, part) for part in BUSY},
        "gaps": len(longest),
        "longest_gaps": longest[:count].tolist(),
        "layers": timeline.layers,
    }


def _lines(report: dict[str, Any]) -> list[str]:
    cells = [["part", "busy cycles", "%"]]
    for part, cycles in report["busy"].items():
        cells.append([part, f"{cycles:,}", f"{100 * cycles / report['cycles']:.1f}"])
    longest = ", ".join(f"{length:,} at {first:,}" for first, length in report["longest_gaps"])
    return [
        f"{report['work']}, {report['memory']}: {report['cycles']:,} cycles",
        *aligned(cells, 1),
        f"the array's longest gaps of {report['gaps']:,}: {longest}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Record and draw; 1 after an error, 2 for bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.timeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python -m bench.timeline N1\n"
        "  python -m bench.timeline L2 --memory stalling -o build/bench/l2.png --json l2.json",
    )
    parser.add_argument("work", help=f"one of {', '.join(WORK)}")
    parser.add_argument("--memory", choices=MEMORY_NAMES, default="ideal", help="memory setting (ideal)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: build/bench/timeline-….png"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write busy cycles and gaps there")
    options = parser.parse_args(arguments)
    try:
        [work, *others] = chosen_works(options.work)
        if others:
            work = WORK[options.work]
        path = options.output or Path("build/bench") / f"timeline-{work.name}-{options.memory}.png"
        if options.output is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        check_writable(path)
        check_writable(options.json)
        timeline = record(work, work.machine, options.memory)
        report = _report(timeline, 5)
        write_whole(path, timeline_plot(timeline))
        if options.json is not None:
            write_whole(options.json, json.dumps(report, indent=1) + "\n")
        print("\n".join([*_lines(report), f"timeline: {path}"]))
    except _ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnknownWorkError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
