"""The benchmark: cycles in RTL beside the bars and the peers: ``python -m bench``.

Runs the layers L1 to L4 and the networks N1 to N5 on the default machine in Verilator, compares every
layer with `sim.reference`, and prints cycles, the share of multipliers busy, bytes over the bus, what
limited each layer, and the bars.  ``--write`` makes the result the baseline `bench/results.json`, which
a test compares with.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.accuracy_data import BenchDataError
from bench.bars import Results, bar_lines, verdicts
from bench.baseline import BASELINE, read_baseline, write_baseline
from bench.clock import REPORT, Clock, find_clock
from bench.cycles import BenchError, Row, measure
from bench.plots import PlotError, check_plots, write_plots
from bench.tables import layer_lines, qiu_groups, qiu_lines, row_lines, tiny_lines
from bench.work import WORK, UnknownWorkError, chosen_works
from compiler.error import CompileError
from hw.closed_pipe import quiet_when_closed
from hw.machine import Machine
from hw.whole_file import WholeFileError, check_writable, write_whole
from sim.verilator import BuildError, SimulationError

__all__ = ["main"]

_MEMORIES = ("ideal", "stalling", "ulx3s")
_ERRORS = (
    *(BenchDataError, BenchError, BuildError, CompileError, PlotError, SimulationError),
    *(UnknownWorkError, WholeFileError, OSError),
)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python -m bench --only L1,N2 --layers\n"
        "  python -m bench --memory ideal --json out.json\n"
        "  python -m bench --only N5 --clock 77.6\n"
        "  python -m bench --only L1,L2,L3,L4,N1,N2,N3,N4 --write",
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        help=f"of {','.join(WORK)}, with commas (N5: both VGG-16); default: all whose files are there",
    )
    parser.add_argument(
        "--memory",
        choices=(*_MEMORIES, "all"),
        help=f"default: {', '.join(_MEMORIES)}, but ideal alone for N5",
    )
    parser.add_argument("--layers", action="store_true", help="print what limited each layer, too")
    parser.add_argument(
        "--clock", type=_megahertz, metavar="MHZ", help=f"clock of a board (default: that in {REPORT})"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="take the clock from this report of a bitstream"
    )
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="write roofline and timelines (PNG) there"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars there")
    parser.add_argument("--write", action="store_true", help="make these rows those of the baseline")
    return parser.parse_args(arguments)


def _megahertz(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 10_000:
        raise argparse.ArgumentTypeError(f"must be above 0 and below 10,000, not {text}")
    return value


@quiet_when_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 after an error or if a result differs from the reference, 2 for bad arguments."""
    options = _arguments(arguments)
    rows: list[Row] = []
    try:
        works = chosen_works(options.only)
        clock = find_clock(options.clock, options.report)
        check_writable(options.json)
        if options.write:
            check_writable(BASELINE)
            read_baseline()
        check_plots(options.plots)
        for work in works:
            memories = work.memories
            if options.memory is not None:
                memories = _MEMORIES if options.memory == "all" else (options.memory,)
            try:
                rows += measure(work, work.machine, memories, progress=True)
            except BenchDataError as error:
                if options.only is not None:
                    raise
                print(f"note: {work.name} is left out: {error}", file=sys.stderr)
        _print(rows, clock, layers=options.layers)
        if options.json is not None:
            write_whole(options.json, json.dumps(_report(rows, clock), indent=1) + "\n")
        if options.write:
            write_baseline(rows)
            print(f"\nbaseline: {BASELINE}")
        if options.plots is not None:
            written = write_plots(rows, Machine(), options.plots, progress=True)
            print("\nplots: " + ", ".join(map(str, written)))
    except BrokenPipeError:
        raise
    except _ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnknownWorkError) else 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return 0


def _print(rows: Sequence[Row], clock: Clock | None, *, layers: bool) -> None:
    parts = [row_lines(rows)]
    if layers:
        parts += [layer_lines(row) for row in rows]
    parts += [qiu_lines(row, clock) for row in rows if row.name == "N5-SVD"]
    parts.append(tiny_lines(rows, clock))
    parts.append(bar_lines(verdicts(Results.of(rows, clock))))
    print("\n\n".join("\n".join(part) for part in parts if part))
    print(f"\nclock: {f'{clock.mhz:.1f} MHz, {clock.source}' if clock else 'unknown; --clock gives it'}")


def _report(rows: Sequence[Row], clock: Clock | None) -> dict[str, Any]:
    return {
        "clock_mhz": None if clock is None else clock.mhz,
        "rows": [
            {
                **row.to_json(),
                "macs": row.macs,
                "busy": row.busy,
                "bus": row.bus,
                "read_bytes": row.read_bytes,
                "write_bytes": row.write_bytes,
                "reasons": row.reasons(),
                "cycles_per_second": round(row.speed),
                "seconds": round(row.seconds, 2),
                "layers": [
                    {**vars(layer), "limit": layer.limit(row.multipliers)}
                    | {"reasons": layer.shares(row.multipliers)}
                    for layer in row.layers
                ],
            }
            for row in rows
        ],
        "qiu": {row.memory: qiu_groups(row, clock) for row in rows if row.name == "N5-SVD"},
        "bars": [verdict.to_json() for verdict in verdicts(Results.of(rows, clock))],
    }


if __name__ == "__main__":
    sys.exit(main())
