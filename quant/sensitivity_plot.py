"""A plot of a sensitivity scan, as figure 6 of Han et al. 2015: accuracy over the share of weights kept."""

from __future__ import annotations

import io

from quant.compression.sensitivity import Sensitivity

__all__ = ["sensitivity_plot"]


def sensitivity_plot(scan: Sensitivity, suffix: str) -> bytes:
    """The plot as a file of the kind ``suffix`` (``.svg``, ``.png``), the same bytes from run to run."""
    import matplotlib
    from matplotlib.figure import Figure

    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
    # svg.hashsalt: names inside the file would be random
    with matplotlib.rc_context({"svg.hashsalt": "pointshift", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        axes = figure.add_subplot()
        shares = [100.0, *(100 * share for share in scan.shares)]
        for number, layer in enumerate(scan.layers):
            axes.plot(
                shares,
                [100 * accuracy for accuracy in (scan.accuracy, *layer.accuracy)],
                color=colours[number % len(colours)],
                linestyle=("-", "--", ":")[number // len(colours) % 3],
                marker="s" if layer.kind == "conv" else "o",
                markersize=3.5,
                label=layer.name.replace("_", r"\_") if "$" in layer.name else layer.name,
            )
        axes.set_xscale("log")
        axes.invert_xaxis()
        ticks = [100, 50, 20, 10, 5, 2, 1]
        axes.set_xticks(ticks, [f"{tick} %" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("weights of the layer kept")
        axes.set_ylabel("top-1 without retraining, %")
        axes.set_title(f"{scan.network}, {scan.images} images", parse_math=False)
        axes.grid(color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower left", frameon=False, fontsize="small", ncols=1 + len(scan.layers) // 12)
        content = io.BytesIO()
        kind = suffix.lower().removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()
