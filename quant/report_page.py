"""A diagnosis as one HTML page that opens without a network: tables, plots and what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from hw.whole_file import write_whole
from quant.layer_diagnosis import Diagnosis, LayerDiagnosis, Noise, WeightDiagnosis
from quant.refusal import printable
from quant.report_plots import SERIES, depth_plot, histogram_plot
from quant.report_style import STYLE

__all__ = ["report_page", "write_report"]


def write_report(diagnosis: Diagnosis, path: str | Path, title: str, settings: Mapping[str, str]) -> None:
    """Write `report_page` to a file.

    Raises
    ------
    WholeFileError
        If it cannot be written; then there is nothing new.
    """
    write_whole(path, report_page(diagnosis, title, settings))


def report_page(diagnosis: Diagnosis, title: str, settings: Mapping[str, str]) -> str:
    """The page as text: the same for the same diagnosis.

    Parameters
    ----------
    title : str
        Heading of the page.
    settings : mapping
        What the reader should know of how it was made: names and values, shown in their order.
    """
    settings = {"network": diagnosis.network, **settings}
    facts = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in settings.items())
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{_text(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        f"<h1>{_text(title)}</h1>\n<dl>{facts}</dl>\n",
        _summary(diagnosis),
        _EXPLANATION,
        "<h2>Over the depth of the network</h2>\n",
        f'<figure>{_legend(diagnosis)}<div class="wide">{depth_plot(diagnosis)}</div>',
        f"<figcaption>{_DEPTH_CAPTION}</figcaption></figure>\n",
        f"<h2>Layer by layer</h2>\n{_table(diagnosis)}",
        f"<h2>Feature maps and weights</h2>\n<p>{_HISTOGRAM_CAPTION}</p>\n",
        *(_section(number, layer) for number, layer in enumerate(diagnosis.layers)),
        "</main>\n</body>\n</html>\n",
    ]
    return "".join(parts)


#: Between a number and its unit, where no line may break.
_SPACE = "\u00a0"

_EXPLANATION = """\
<details><summary>What the words mean</summary>
<p>Every number in the fixed-point network is an integer times a fixed power of two. A format such as
<b>u8.5</b> says: <b>u</b>nsigned (or <b>s</b>igned), <b>8</b> bits, steps of 2<sup>&minus;5</sup>.
What does not fit is lost in two ways: values between two steps are <b>rounded</b>, and values beyond
the largest one are <b>clipped</b> to it. A format with finer steps rounds less and clips more.</p>
<p><b>Signal/noise</b> compares the float network's values with the error: 20 dB is an error of a
tenth of the signal (root mean square), 40 dB of a hundredth; 6 dB more is half the error, or one bit.
<b>Exact</b> means no error at all.</p>
<ul>
<li><b>whole</b>: the fixed-point network against the float network, both from the same image on.</li>
<li><b>injected</b>: the error that arises here. Only this layer computes in fixed point, with its
rounded weights and its rounded result, from the float network's own inputs.</li>
<li><b>inherited</b>: the error that comes in from before. This layer computes in float, from the
fixed-point network's inputs.</li>
<li><b>at output</b>: the network's output, with only this layer in fixed point; and the share of
images whose largest output is another one then. <b>Softmax</b> is how far the answer's probabilities
move, in nats: the log loss that is added if the float network is right. The layer that moves them most
costs most.</li>
</ul></details>
"""

_DEPTH_CAPTION = (
    "Higher is better. Where the line of the whole network follows <em>inherited</em>, a layer passes on "
    "what came before it; where <em>injected</em> comes down to it, the layer itself is to blame. Layers "
    "that add nothing have no point there. The shaded layer costs most at the output. Point at a dot to "
    "read it."
)

_HISTOGRAM_CAPTION = (
    "Bars count the float network's values; heights are logarithmic, so that rare values can be seen. "
    "Dashed lines are the limits of the format: bars beyond them are clipped. Much empty room inside the "
    "limits means that the steps could be finer."
)


def _summary(diagnosis: Diagnosis) -> str:
    cards = [
        ("Output", _decibels(diagnosis.output), "signal/noise of the fixed-point network"),
        (
            "Other answers",
            _percent(diagnosis.changed),
            f"of {diagnosis.images} images: the largest output is not the float network's",
        ),
    ]
    worst, steepest = diagnosis.worst(), diagnosis.steepest()
    if worst is not None:
        effect = worst.output
        cost = (
            f"alone, it leaves {_decibels(effect.noise)} at the output and changes "
            f"{_percent(effect.changed)} of the answers"
            if effect is not None
            else f"injects the largest error: {_decibels(worst.injected)}"
        )
        cards.append(("Costs most", _link(diagnosis, worst), cost))
    if steepest is not None:
        cards.append(
            (
                "Falls most at",
                _link(diagnosis, steepest),
                f"signal/noise falls by {steepest.fall:.1f} dB to {_decibels(steepest.whole)}",
            )
        )
    return (
        '<div class="cards">'
        + "".join(
            f"<div><span>{head}</span><b>{value}</b><small>{note}</small></div>"
            for head, value, note in cards
        )
        + "</div>\n"
    )


def _legend(diagnosis: Diagnosis) -> str:
    shown = [(style, name) for style, name, of in SERIES if any(of(layer) for layer in diagnosis.layers)]
    return (
        '<p class="legend">'
        + "".join(f'<span class="{style}">{name}</span>' for style, name in shown)
        + "dB</p>"
    )


def _table(diagnosis: Diagnosis) -> str:
    effects = any(layer.output is not None for layer in diagnosis.layers)
    heads = ["", "layer", "kind", "format", "weights", "whole", "injected", "inherited", "clipped"]
    heads += ["at output", "softmax", "answers changed"] if effects else []
    worst = diagnosis.worst()
    rows = []
    for number, layer in enumerate(diagnosis.layers):
        cells = [
            str(number),
            f'<a href="#layer-{number}">{_text(_shortened(layer.name))}</a>',
            layer.kind,
            str(layer.format),
            "" if layer.weights is None else _weight_format(layer.weights),
            *(_decibels(noise) for noise in (layer.whole, layer.injected, layer.inherited)),
            _percent(layer.clipped),
        ]
        if layer.output is not None:
            effect = layer.output
            cells += [_decibels(effect.noise), _nats(effect.divergence), _percent(effect.changed)]
        style = ' class="worst"' if layer is worst else ""
        rows.append(f"<tr{style}>{_cells('td', cells)}</tr>\n")
    head, body = f"<thead><tr>{_cells('th', heads)}</tr></thead>", "".join(rows)
    return f'<div class="wide"><table>\n{head}\n<tbody>\n{body}</tbody></table></div>\n'


def _cells(tag: str, cells: Iterable[str]) -> str:
    return "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)


def _section(number: int, layer: LayerDiagnosis) -> str:
    form = layer.format
    if layer.whole.relative == 0.0:
        verdict = "It is exact."
    elif layer.injected.relative > layer.inherited.relative:
        verdict = "Most of its error arises here."
    else:
        verdict = "Most of its error comes from the layers before."
    figures = _figure(
        f"Feature map {_text(_shortened(layer.tensor))}: {form}, {form.low * form.scale:.4g} … "
        f"{form.high * form.scale:.4g} in steps of {form.scale:.4g}; float {layer.low:.4g} … "
        f"{layer.high:.4g}; clipped {_percent(layer.clipped)} of the float values, "
        f"{_percent(layer.clipped_fixed)} in the fixed-point network",
        histogram_plot(layer.histogram, form, form.scale, f"Histogram of the feature map {layer.tensor}"),
    )
    weights = layer.weights
    if weights is not None:
        scale, unit = weights.format.scale, ""
        if weights.fl[0] != weights.fl[1]:
            scale, unit = 1.0, "; the axis counts steps, which each channel has of its own"
        figures += _figure(
            f"Weights: {_weight_format(weights)}; float {weights.low:.4g} … {weights.high:.4g}; "
            f"signal/noise {_decibels(weights.noise)}; clipped {_percent(weights.clipped)}{unit}",
            histogram_plot(weights.histogram, weights.format, scale, f"Histogram of weights of {layer.name}"),
        )
    errors = "; ".join(
        f"{name} {_decibels(noise)}" + ("" if noise.relative == 0.0 else f", error/signal {_relative(noise)}")
        for name, noise in (
            ("Injected", layer.injected),
            ("inherited", layer.inherited),
            ("whole", layer.whole),
        )
    )
    head = f"<h3>{number} {_text(layer.name)} <small>{layer.kind}</small></h3>"
    return (
        f'<section id="layer-{number}">{head}\n<p>{verdict} {errors}.</p>\n'
        f'<div class="pair">{figures}</div></section>\n'
    )


def _figure(caption: str, plot: str) -> str:
    return f"<figure>{plot}<figcaption>{caption}</figcaption></figure>"


def _link(diagnosis: Diagnosis, layer: LayerDiagnosis) -> str:
    return f'<a href="#layer-{diagnosis.layers.index(layer)}">{_text(_shortened(layer.name))}</a>'


def _weight_format(weights: WeightDiagnosis) -> str:
    low, high = weights.fl
    return f"{weights.format}" + ("" if low == high else f"…{high}")


def _decibels(noise: Noise) -> str:
    if noise.relative == 0.0:
        return "exact"
    return f"{noise.db:.1f}{_SPACE}dB".replace("-", "−").replace("inf", "∞")


def _nats(divergence: float | None) -> str:
    if divergence is None:
        return ""
    return "0" if divergence == 0.0 else "&lt;0.0001" if divergence < 1e-4 else f"{divergence:.2g}"


def _relative(noise: Noise) -> str:
    return f"{noise.relative:.2g}".replace("inf", "∞")


def _percent(share: float) -> str:
    if 0.0 < share < 1e-5:
        return f"&lt;0.001{_SPACE}%"
    number = f"{100 * share:.2g}" if share < 0.1 else f"{100 * share:.1f}"
    return f"{number}{_SPACE}%"


def _shortened(name: str) -> str:
    return name if len(name) <= 48 else "…" + name[-47:]


def _text(text: str) -> str:
    return escape(printable(text))
