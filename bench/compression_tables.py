"""The tables of `bench.compression`: for the terminal, beside the bars, and for `docs/compression.md`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from bench.stored_rows import rows_by_network
from quant.text_table import aligned

__all__ = ["BARS", "page_table", "summary"]

#: Least factor of fewer weights, least factor of fewer bytes, largest rise of the error in points.
BARS = (12.0, 38.0, 0.1)


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Means over the seeds beside the bars."""
    fewer, smaller, rise = BARS
    table = [
        (
            "network",
            "seeds",
            "dense error",
            "pruned",
            "compressed",
            "fewer weights",
            "bytes",
            "smaller",
            "bars",
        )
    ]
    for name, own in rows_by_network(rows).items():
        errors = {what: mean(row["errors"][what] for row in own) for what in own[0]["errors"]}
        ratios = mean(row["fewer_weights"] for row in own), mean(row["smaller"] for row in own)
        limit = errors["dense"] + rise + 1e-9
        met = [
            ratios[0] >= fewer and errors["pruned"] <= limit,
            ratios[1] >= smaller and errors["compressed"] <= limit,
        ]
        table.append(
            (
                name,
                str(len(own)),
                *(f"{errors[what]:.2f} %" for what in ("dense", "pruned", "compressed")),
                f"{ratios[0]:.1f}x",
                f"{mean(row['file_bytes'] for row in own):,.0f}",
                f"{ratios[1]:.1f}x",
                " ".join("met" if each else "MISSED" for each in met),
            )
        )
    return aligned(table, left=1)


def page_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The tables of `docs/compression.md`: means over the seeds, then the layers of the first seed."""
    lines = [
        "| network | dense error | pruned | fewer weights | compressed | bytes | smaller |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    named = rows_by_network(rows)
    for name, own in named.items():
        dense, pruned, compressed = (
            f"{mean(row['errors'][what] for row in own):.2f} % "
            + "("
            + ", ".join(format(row["errors"][what], ".2f") for row in own)
            + ")"
            for what in ("dense", "pruned", "compressed")
        )
        size = mean(row["file_bytes"] for row in own)
        fewer, smaller = (mean(row[what] for row in own) for what in ("fewer_weights", "smaller"))
        lines.append(
            f"| {name} | {dense} | {pruned} | {fewer:.1f}x | {compressed} | {size:,.0f} | {smaller:.1f}x |"
        )
    for name, (row, *_) in named.items():
        lines += ["", f"{name}, seed {row['seed']}:", "", "```", *row["table"], "```"]
    return lines
