"""A benchmark's committed rows, one for each network and seed, of which a run measures some again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.whole_file import write_whole

__all__ = ["keep_row", "rows_by_network"]


def keep_row(path: Path, row: Mapping[str, Any], networks: Sequence[str]) -> None:
    """Put a row in the place of the one of the same network and seed, or add it.

    Parameters
    ----------
    path : Path
        A JSON file with a list of rows; it need not exist.
    row : mapping
        With ``"network"`` and ``"seed"``.
    networks : sequence of str
        All there are, in the order of their rows; rows of others are dropped.
    """
    known = json.loads(path.read_text()) if path.exists() else []
    found = {(each["network"], each["seed"]): each for each in [*known, row]}
    places = sorted(
        (place for place in found if place[0] in networks),
        key=lambda place: (networks.index(place[0]), place[1]),
    )
    write_whole(path, json.dumps([found[place] for place in places], indent=1) + "\n")


def rows_by_network(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each network."""
    named: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        named.setdefault(row["network"], []).append(row)
    return named
