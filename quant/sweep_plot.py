"""A plot of a sweep: what each scheme keeps of the float network's accuracy as words get narrower."""

from __future__ import annotations

import io
import math
from pathlib import Path

from quant.sweep import SCHEMES, Sweep

__all__ = ["PLOT_SUFFIXES", "SweepPlotError", "check_plot", "sweep_plot"]

PLOT_SUFFIXES = (".svg", ".png")

#: Colour (told apart by the colour-blind, too) and marker of each scheme.
_STYLES = {"static": ("#d55e00", "s"), "paper": ("#0072b2", "o"), "dynamic": ("#009e73", "D")}


class SweepPlotError(ValueError):
    """A plot cannot be drawn; the message says why and what to do."""


def check_plot(path: Path | None) -> None:
    """Refuse a plot that could not be drawn in the end, before long work begins.

    Raises
    ------
    SweepPlotError
        If the file is neither .svg nor .png, or matplotlib is missing.
    """
    if path is None:
        return
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise SweepPlotError(f"{path}: a plot is written as {' or '.join(PLOT_SUFFIXES)}; change its name")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SweepPlotError(
            f"{path}: a plot needs matplotlib; install it with pip install 'pointshift[quant]'"
        ) from None


def sweep_plot(result: Sweep, suffix: str) -> bytes:
    """The plot as a file of the kind ``suffix``, the same bytes from run to run.

    Top-1 where there are labels, else agreement with the float network, in percent.
    """
    import matplotlib
    from matplotlib.figure import Figure

    labelled = result.rows[0].top1 is not None
    settings = result.settings()
    positions = range(len(settings))
    # svg.hashsalt: names inside the file would be random
    with matplotlib.rc_context({"svg.hashsalt": "pointshift", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(1.6 + 0.95 * max(len(settings), 4), 4.2), layout="constrained")
        axes = figure.add_subplot()
        real = result.rows[0]
        axes.axhline(
            100 * (real.top1 if real.top1 is not None else real.agreement),
            color="#555555",
            linestyle="--",
            linewidth=1,
            label="float",
        )
        lowest = 100.0
        for scheme in SCHEMES:
            rows = [result.row(setting, scheme) for setting in settings]
            shares = [100 * (row.top1 if row.top1 is not None else row.agreement) for row in rows]
            lowest = min(lowest, *shares)
            color, marker = _STYLES[scheme]
            axes.plot(positions, shares, color=color, marker=marker, label=scheme)
        axes.set_xticks(list(positions), settings)
        axes.set_xlabel("bits of feature maps / of weights")
        axes.set_ylabel("top-1, %" if labelled else "agreement with float, %")
        # from the ten below, so that small losses can be seen where there are only such
        bottom = max(0, 10 * math.floor((lowest - 2) / 10))
        axes.set_ylim(bottom, 100 + 0.03 * (100 - bottom))
        axes.set_title(f"{result.network}, {result.evaluation_images} images", parse_math=False)
        axes.grid(axis="y", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower left", frameon=False)
        content = io.BytesIO()
        kind = suffix.lower().removeprefix(".")
        # without the date of the SVG and the version of the PNG
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()
