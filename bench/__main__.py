"""The benchmark: cycles in RTL beside the bars and the peers: ``python -m bench``.

Runs the layers L1 to L4 and the networks N1 to N4 on the default machine in Verilator, compares every
layer with `sim.reference`, and prints cycles, the share of multipliers busy and bytes over the bus.
``--write`` makes the result the baseline `bench/results.json`, which a test compares with.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.accuracy_data import BenchDataError
from bench.cycles import BARS, Row, bar_lines, measure, table
from bench.work import WORK
from hw.machine import Machine
from hw.whole_file import write_whole
from sim.memory_settings import MEMORY_NAMES

BASELINE = Path(__file__).with_name("results.json")
_MEMORIES = ("ideal", "stalling", "ulx3s")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python -m bench --only L1,N2\n  python -m bench --memory ideal --json out.json",
    )
    parser.add_argument("--only", metavar="NAMES", help=f"of {','.join(WORK)}, with commas; default: all")
    parser.add_argument("--memory", choices=MEMORY_NAMES, help=f"default: {', '.join(_MEMORIES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--write", action="store_true", help="make these rows those of the baseline")
    return parser.parse_args(arguments)


def _write(path: Path, rows: Sequence[Row]) -> None:
    write_whole(path, (json.dumps([row.to_json() for row in rows], indent=1) + "\n").encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if a result differs from the reference, 2 for bad arguments."""
    options = _arguments(arguments)
    names = options.only.split(",") if options.only else list(WORK)
    unknown = [name for name in names if name not in WORK]
    if unknown:
        print(f"error: no work is called {unknown[0]}; there are {', '.join(WORK)}", file=sys.stderr)
        return 2
    memories = (options.memory,) if options.memory else _MEMORIES
    rows: list[Row] = []
    try:
        for name in names:
            rows += measure(WORK[name], Machine(), memories, progress=True)
    except (BenchDataError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(rows)))
    print("\n" + "\n".join(bar_lines(rows, BARS)))
    if options.json is not None:
        _write(options.json, rows)
    if options.write:
        kept = []
        if BASELINE.exists():
            new = {(row.name, row.memory) for row in rows}
            old = [Row(**entry) for entry in json.loads(BASELINE.read_text())]
            kept = [row for row in old if (row.name, row.memory) not in new]
        order = {name: place for place, name in enumerate(WORK)}
        _write(BASELINE, sorted([*kept, *rows], key=lambda row: (order[row.name], row.memory)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
