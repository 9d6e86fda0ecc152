"""A plot of a chain of compressions: accuracy over bytes and over cycles."""

from __future__ import annotations

import io
from collections.abc import Sequence

from quant.chain_measure import Stage

__all__ = ["chain_plot"]


def chain_plot(stages: Sequence[Stage], suffix: str) -> bytes:
    """The plot as a file of the kind ``suffix`` (``.svg``, ``.png``), the same bytes from run to run.

    Filled points are on the frontier: no other stage is as good in accuracy, bytes and cycles.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "pointshift", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(9, 4), layout="constrained")
        for number, (what, value) in enumerate(
            (
                ("bytes of weights, Huffman codes", [stage.file_bytes for stage in stages]),
                ("cycles, estimated", [stage.cycles for stage in stages]),
            )
        ):
            axes = figure.add_subplot(1, 2, number + 1)
            accuracy = [100 * stage.fixed_top1 for stage in stages]
            axes.plot(value, accuracy, color="#999999", linewidth=1, zorder=1)
            for place, stage in enumerate(stages):
                beaten = any(other.dominates(stage) for other in stages)
                axes.scatter(
                    value[place],
                    accuracy[place],
                    facecolor="white" if beaten else "#0072b2",
                    edgecolor="#0072b2",
                    zorder=2,
                )
                label = stage.step.split()[0]
                axes.annotate(
                    label, (value[place], accuracy[place]), xytext=(4, 5), textcoords="offset points"
                )
            axes.set_xscale("log")
            axes.set_xlabel(what)
            axes.set_ylabel("top-1 in fixed point, %")
            axes.grid(color="#dddddd")
            axes.spines[["top", "right"]].set_visible(False)
        content = io.BytesIO()
        kind = suffix.lower().removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()
