"""A roofline: every layer of every work, its products a cycle over its products for each byte on the bus."""

from __future__ import annotations

import io
from collections.abc import Sequence

from bench.bandwidth import carried
from bench.cycles import LayerRow, Row
from sim.memory_settings import memory_settings

__all__ = ["roofline_plot", "roofline_point"]

#: Told apart by the colour-blind, too; with the markers there are enough for all works.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">")


def roofline_point(layer: LayerRow, memory: str) -> tuple[float, float] | None:
    """Products for each byte, and products a cycle; None for layers without products or traffic.

    Bytes are those of the busier direction, or of both where they share the memory.
    """
    shared = memory_settings(memory).sdram_bytes > 0
    moved = layer.read_bytes + layer.write_bytes if shared else max(layer.read_bytes, layer.write_bytes)
    if not layer.macs or not moved or not layer.cycles:
        return None
    return layer.macs / moved, layer.macs / layer.cycles


def roofline_plot(rows: Sequence[Row], memory: str) -> bytes:
    """The plot as PNG, the same bytes from run to run; ``rows`` of other memories are left out."""
    import matplotlib
    from matplotlib.figure import Figure

    chosen = [row for row in rows if row.memory == memory]
    multipliers, roof = chosen[0].multipliers, carried(memory_settings(memory), chosen[0].bus_bytes)
    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(8.5, 5.6), layout="constrained")
        axes = figure.add_subplot()
        xs: list[float] = [multipliers / roof]
        ys: list[float] = [multipliers]
        for number, row in enumerate(chosen):
            points = [point for layer in row.layers if (point := roofline_point(layer, memory))]
            if not points:
                continue
            intensity, rate = zip(*points, strict=True)
            xs += intensity
            ys += rate
            axes.scatter(
                intensity,
                rate,
                s=26,
                color=_COLORS[number % len(_COLORS)],
                marker=_MARKERS[number % len(_MARKERS)],
                label=row.name,
                alpha=0.85,
                linewidths=0,
            )
        left, right = min(xs) / 2, max(xs) * 2
        axes.plot(
            [left, multipliers / roof, right],
            [left * roof, multipliers, multipliers],
            color="#555555",
            linewidth=1.2,
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left, right)
        axes.set_ylim(min(*ys, left * roof) / 1.5, multipliers * 1.6)
        axes.annotate(
            f"{multipliers} multipliers",
            (right, multipliers),
            (-4, 4),
            textcoords="offset points",
            ha="right",
        )
        slope = f"{roof:.2f} bytes a cycle"
        axes.annotate(slope, (left * 2, left * 2 * roof), (16, -4), textcoords="offset points", va="top")
        axes.set_xlabel("products for each byte on the bus")
        axes.set_ylabel("products a cycle")
        axes.set_title(f"Layers, memory {memory}", parse_math=False)
        axes.grid(color="#dddddd", which="major")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right", frameon=False, ncols=2)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()
