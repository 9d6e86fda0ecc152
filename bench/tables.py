"""The benchmark's tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.clock import Clock
from bench.cycles import REASONS, Row
from bench.peers import NNGEN, QIU_GROUPS, QIU_PEAK_GOPS, TINY
from bench.work import WORK
from quant.text_table import aligned

__all__ = ["layer_lines", "qiu_groups", "qiu_lines", "row_lines", "tiny_lines"]

_SHORT = ("products", "no lane", "weights", "in", "out", "in+out", "gaps")


def row_lines(rows: Sequence[Row]) -> list[str]:
    """One line for each work and memory, beside the peer's figures."""
    cells = [["work", "", "memory", "cycles", "busy %", "MB in", "MB out", "bus %", "limit", "k/s", "peer"]]
    for row in rows:
        reasons = row.reasons()
        cells.append(
            [
                row.name,
                WORK[row.name].what,
                row.memory,
                f"{row.cycles:,}",
                f"{100 * row.busy:.1f}",
                f"{row.read_bytes / 1e6:.2f}",
                f"{row.write_bytes / 1e6:.2f}",
                f"{100 * row.bus:.1f}",
                max(reasons, key=lambda reason: reasons[reason]),
                f"{row.speed / 1e3:.0f}",
                NNGEN.get(row.name, ""),
            ]
        )
    return aligned(cells, 3)


def layer_lines(row: Row) -> list[str]:
    """What each layer of a work spends its cycles on, in percent, and what limits it."""
    cells = [["", "layer", "limit", "MAC", "cycles", *(f"{name} %" for name in _SHORT), "B/cycle"]]
    for number, layer in enumerate(row.layers):
        shares = layer.shares(row.multipliers)
        moved = (layer.read_bytes + layer.write_bytes) / max(layer.cycles, 1)
        cells.append(
            [
                str(number),
                layer.name[-28:],
                layer.limit(row.multipliers),
                f"{layer.macs:,}",
                f"{layer.cycles:,}",
                *(f"{100 * shares[reason]:.1f}" for reason in REASONS),
                f"{moved:.2f}",
            ]
        )
    return [f"{row.name}, {WORK[row.name].what}, {row.memory}:", *aligned(cells, 3)]


def qiu_groups(row: Row, clock: Clock | None) -> list[dict[str, Any]]:
    """VGG-16-SVD beside Qiu et al.: times and shares of each array's peak, group by group, then the sums.

    ``milliseconds`` is None without a clock.
    """
    found: list[dict[str, Any]] = []

    def add(name: str, gop: float, theirs: float, macs: int, cycles: int) -> None:
        found.append(
            {
                "group": name,
                "gop": gop,
                "qiu_milliseconds": theirs,
                "qiu_share_of_peak": gop / (theirs * 1e-3 * QIU_PEAK_GOPS),
                "cycles": cycles,
                "milliseconds": None if clock is None else cycles / (clock.mhz * 1e3),
                "share_of_peak": macs / (row.multipliers * cycles),
            }
        )

    sums: dict[str, list[tuple[float, float, int, int]]] = {"all CONV": [], "all FC": []}
    for group in QIU_GROUPS:
        layers = [row.layer(name) for name in group.layers]
        figures = (
            group.gop,
            group.milliseconds,
            sum(layer.macs for layer in layers),
            sum(layer.cycles for layer in layers),
        )
        sums["all CONV" if group.name.startswith("CONV") else "all FC"].append(figures)
        add(group.name, *figures)
    sums["whole"] = sums["all CONV"] + sums["all FC"]
    for name, parts in sums.items():
        gop, theirs, macs, cycles = (sum(column) for column in zip(*parts, strict=True))
        add(name, gop, theirs, int(macs), int(cycles))
    return found


def qiu_lines(row: Row, clock: Clock | None) -> list[str]:
    """`qiu_groups` for people."""
    at = f"ms at {clock.mhz:.1f} MHz" if clock is not None else "ms (give --clock)"
    cells = [["group", "GOP", "Qiu, ms", "% of peak", "cycles", at, "% of peak"]]
    for group in qiu_groups(row, clock):
        time = group["milliseconds"]
        cells.append(
            [
                group["group"],
                f"{group['gop']:.4g}",
                f"{group['qiu_milliseconds']:.2f}",
                f"{100 * group['qiu_share_of_peak']:.1f}",
                f"{group['cycles']:,}",
                "" if time is None else f"{time:.2f}",
                f"{100 * group['share_of_peak']:.1f}",
            ]
        )
    head = f"VGG-16-SVD, {row.memory}: Qiu et al. with 1,152 multipliers at 150 MHz and 16 bits; here with "
    return [f"{head}{row.multipliers} and 8 bits; poolings are in their groups", *aligned(cells, 1)]


def tiny_lines(rows: Sequence[Row], clock: Clock | None) -> list[str]:
    """N2 and N3, lean, a second on the ULX3S beside MLPerf Tiny's results; nothing without a clock."""
    found = {row.name: row for row in rows if row.memory == "ulx3s"}
    names = ("N2-lean", "N3-lean")
    if clock is None or not set(names) & set(found):
        return []
    ours = [f"{clock.mhz * 1e6 / found[name].cycles:,.0f}" if name in found else "" for name in names]
    cells = [["MLPerf Tiny, a second", "image classification", "visual wake words"]]
    cells += [[f"this, ULX3S-85F at {clock.mhz:.1f} MHz", *ours], *([*entry] for entry in TINY)]
    return aligned(cells, 1)
