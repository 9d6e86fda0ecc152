"""What was approximated, as a table."""

from __future__ import annotations

from quant.low_rank.approximate import Approximation, Plan
from quant.text_table import aligned

__all__ = ["low_rank_table"]


def low_rank_table(plan: Plan, approximation: Approximation, unit: str) -> str:
    """The result for people: layers in execution order, then those left alone."""
    rows = [("layer", "kind", "kernel", "method", "rank", "of", "energy %", "error %", unit, "now", "less")]
    for layer in approximation.layers:
        before, after = layer.cost
        split = "" if layer.middle is None else f" ({layer.middle} between)"
        filters, inputs, height, width = layer.kernel
        rows.append(
            (
                layer.name,
                layer.kind,
                f"{filters}x{inputs}x{height}x{width}{split}",
                layer.method,
                str(layer.rank),
                str(layer.full),
                f"{100 * layer.energy:.2f}",
                "" if layer.error is None else f"{100 * layer.error:.2f}",
                f"{before:,.0f}",
                f"{after:,.0f}",
                f"{before / after:.2f}x",
            )
        )
    saved = sum(before - after for before, after in (layer.cost for layer in approximation.layers))
    total = sum(plan.costs.values())
    now = total - saved
    rows.append(("total", *[""] * 7, f"{total:,.0f}", f"{now:,.0f}", f"{total / now:.2f}x"))
    lines = aligned(rows, left=4)
    done = {layer.name for layer in approximation.layers}
    left = [
        f"{name} stays as it is: {plan.left.get(name, 'it costs least so')}"
        for name in plan.costs
        if name not in done
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *left])
