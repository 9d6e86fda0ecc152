"""The committed cycles, `bench/results.json`: one row for each work and memory, one line for each layer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.cycles import BenchError, Row
from bench.work import WORK
from hw.whole_file import write_whole

__all__ = ["BASELINE", "read_baseline", "rows_as_json", "write_baseline"]

BASELINE = Path(__file__).with_name("results.json")


def read_baseline(path: Path = BASELINE) -> list[Row]:
    """The rows of the baseline; none if there is no file.

    Raises
    ------
    BenchError
        If the file holds something else.
    """
    if not path.exists():
        return []
    try:
        return [Row.from_json(entry) for entry in json.loads(path.read_text())]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path}: not rows of this version ({error}); delete it and write it anew") from None


def rows_as_json(rows: Iterable[Row]) -> str:
    """Rows as a JSON list."""
    texts = []
    for row in rows:
        entry = row.to_json()
        layers = ",\n".join("   " + json.dumps(layer) for layer in entry.pop("layers"))
        head = json.dumps(entry)[1:-1]
        texts.append(f' {{{head}, "layers": [\n{layers}\n ]}}')
    return "[\n" + ",\n".join(texts) + "\n]\n"


def write_baseline(rows: Sequence[Row], path: Path = BASELINE) -> None:
    """Make these rows those of the baseline; others that it holds stay.

    Raises
    ------
    BenchError, WholeFileError
        If it holds something else, or cannot be written.
    """
    new = {(row.name, row.memory) for row in rows}
    kept = [row for row in read_baseline(path) if (row.name, row.memory) not in new]
    order = {name: place for place, name in enumerate(WORK)}
    write_whole(path, rows_as_json(sorted([*kept, *rows], key=lambda row: (order[row.name], row.memory))))
