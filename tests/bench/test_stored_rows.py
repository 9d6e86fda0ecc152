"""Rows of a benchmark: a run puts its own in their places and leaves the others."""

from __future__ import annotations

import json
from pathlib import Path

from bench.stored_rows import keep_row, rows_by_network


def test_rows_get_their_places(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    measured = [("b", 2, 1.0), ("a", 3, 2.0), ("b", 1, 3.0), ("a", 1, 4.0), ("b", 2, 5.0), ("gone", 1, 6.0)]
    for network, seed, value in measured:
        keep_row(file, {"network": network, "seed": seed, "value": value}, ("a", "b"))
    rows = json.loads(file.read_text())
    expected = [("a", 1, 4.0), ("a", 3, 2.0), ("b", 1, 3.0), ("b", 2, 5.0)]
    assert [tuple(row.values()) for row in rows] == expected
    named = rows_by_network(rows)
    assert {name: [row["seed"] for row in own] for name, own in named.items()} == {"a": [1, 3], "b": [1, 2]}
