"""Plots of a diagnosis as small pieces of SVG, to stand inside an HTML page that has the styles."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from quant.grid_histogram import GridHistogram
from quant.layer_diagnosis import Diagnosis, LayerDiagnosis, Noise
from quant.number_format import Format
from quant.refusal import printable

__all__ = ["SERIES", "depth_plot", "histogram_plot"]

#: Lines of the depth plot: style, name, and which of a layer's errors it shows.
SERIES: tuple[tuple[str, str, Callable[[LayerDiagnosis], Noise | None]], ...] = (
    ("whole", "whole network so far", lambda layer: layer.whole),
    ("inherited", "inherited", lambda layer: layer.inherited),
    ("injected", "injected", lambda layer: layer.injected),
    ("output", "at the output, this layer alone", lambda layer: layer.output and layer.output.noise),
)

_WIDTH, _HEIGHT = 960, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 12, 30


def depth_plot(diagnosis: Diagnosis) -> str:
    """Signal-to-noise ratios in dB over the layers, in execution order.

    Exact layers have no point: their ratio is infinite.  The layer that costs most is marked.
    """
    layers = diagnosis.layers
    found = [noise.db for layer in layers for _, _, of in SERIES if (noise := of(layer)) is not None]
    finite = [value for value in found if math.isfinite(value)] or [0.0, 10.0]
    bottom, top = (
        10 * round_(value / 10)
        for round_, value in ((math.floor, min(*finite, 0.0)), (math.ceil, max(*finite, 10.0)))
    )
    step = max(10, 10 * math.ceil((top - bottom) / 80))

    def x(index: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (index + 0.5) / len(layers)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (top - value) / (top - bottom)

    parts = [
        f'<svg class="depth" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Signal-to-noise '
        'ratio in decibels over the layers">'
    ]
    worst = diagnosis.worst()
    if worst is not None:
        centre = x(layers.index(worst))
        half = min((_WIDTH - _LEFT - _RIGHT) / len(layers) / 2, 12)
        parts.append(
            f'<rect class="worst" x="{centre - half:.1f}" y="{_TOP}" width="{2 * half:.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}"><title>{_text(worst.name)} costs most</title></rect>'
        )
    for value in range(bottom, top + 1, step):
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>'
        )
    every = math.ceil(len(layers) / 40)
    for index in range(0, len(layers), every):
        parts.append(f'<text x="{x(index):.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{index}</text>')
    parts.append(f'<text x="{_LEFT - 6}" y="{_HEIGHT - 12}" text-anchor="end">layer</text>')
    for style, name, of in SERIES:
        parts.append(_line(layers, style, name, of, x, y))
    return "".join([*parts, "</svg>"])


def _line(
    layers: tuple[LayerDiagnosis, ...],
    style: str,
    name: str,
    of: Callable[[LayerDiagnosis], Noise | None],
    x: Callable[[int], float],
    y: Callable[[float], float],
) -> str:
    path, points, connected = [], [], False
    for index, layer in enumerate(layers):
        noise = of(layer)
        if noise is None or not math.isfinite(noise.db):
            # a layer that injects nothing leaves the line of what others inject as it is
            connected = connected and style in ("injected", "output")
            continue
        across, down = f"{x(index):.1f}", f"{y(noise.db):.1f}"
        path.append(f"{'L' if connected else 'M'}{across} {down}")
        connected = True
        hint = f"{index} {_text(layer.name)}: {name} {noise.db:.1f} dB"
        points.append(f'<circle cx="{across}" cy="{down}" r="2.6"><title>{hint}</title></circle>')
    return f'<g class="{style}"><path d="{"".join(path)}"/>{"".join(points)}</g>' if points else ""


_BARS_WIDTH, _BARS_HEIGHT, _AXIS = 460, 120, 20


def histogram_plot(histogram: GridHistogram, form: Format, scale: float, label: str) -> str:
    """Bars of a histogram on a logarithmic scale, with the limits of its format.

    Parameters
    ----------
    form : Format
        Its limits are drawn, and bars outside of them stand out.
    scale : float
        What one step is in the unit of the axis' numbers.
    label : str
        Said to readers who cannot see it.
    """
    edges = histogram.edges()
    highest = math.log1p(max(histogram.counts, default=0)) or 1.0
    ground = _BARS_HEIGHT - _AXIS

    def x(steps: float) -> float:
        return 4 + (_BARS_WIDTH - 8) * (steps - edges[0]) / (edges[-1] - edges[0])

    bars: dict[str, list[str]] = {"inside": [], "outside": []}
    for count, left, right in zip(histogram.counts, edges, edges[1:]):
        if count:
            height = (ground - 8) * math.log1p(count) / highest
            where = "outside" if left > form.high or right < form.low else "inside"
            width = x(right) - x(left)
            bars[where].append(f"M{x(left):.1f} {ground}v-{height:.1f}h{width:.1f}v{height:.1f}z")
    parts = [
        f'<svg class="bars" viewBox="0 0 {_BARS_WIDTH} {_BARS_HEIGHT}" role="img" '
        f'aria-label="{_text(label)}">'
    ]
    parts += [f'<path class="{where}" d="{"".join(found)}"/>' for where, found in bars.items() if found]
    parts.append(f'<path class="axis" d="M0 {ground}H{_BARS_WIDTH}"/>')
    ends = x(form.low - 0.5), x(form.high + 0.5)
    parts.append(f'<path class="limit" d="M{ends[0]:.1f} 2V{ground + 4}M{ends[1]:.1f} 2V{ground + 4}"/>')
    # the numbers of limits that are close together would cover each other
    shown = [(ends[1], form.high)]
    if ends[1] - ends[0] > 90:
        shown.append((ends[0], form.low))
    if form.low < 0 and min(x(0) - ends[0], ends[1] - x(0)) > 60:
        shown.append((x(0), 0))
    for place, steps in shown:
        anchor = "start" if place < 40 else "end" if place > _BARS_WIDTH - 40 else "middle"
        parts.append(
            f'<text x="{place:.1f}" y="{_BARS_HEIGHT - 3}" text-anchor="{anchor}">{steps * scale:.4g}</text>'
        )
    return "".join([*parts, "</svg>"])


def _text(name: str) -> str:
    return escape(printable(name))
