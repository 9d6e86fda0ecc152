"""The report page: whole HTML without outside resources, for any diagnosis."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.whole_file import WholeFileError
from quant.grid_histogram import GridHistogram
from quant.layer_diagnosis import Diagnosis, LayerDiagnosis, Noise, OutputEffect, WeightDiagnosis
from quant.report_page import report_page, write_report
from quant.report_plots import depth_plot, histogram_plot

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that tags are balanced, and collects what a page holds."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.text, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def values(self, name):
        return [value for key, value in self.attributes if key == name]


noises = st.one_of(
    st.floats(-50, 150).map(lambda db: Noise(db, 10 ** (-db / 20))),
    st.just(Noise(math.inf, 0.0)),
    st.just(Noise(-math.inf, math.inf)),
)
shares = st.one_of(st.just(0.0), st.floats(1e-9, 1.0))
names = st.one_of(st.text(max_size=60), st.sampled_from(['<b>&"\'x', "</section>", "a/b", "http"]))


@st.composite
def histograms(draw):
    counts = draw(st.lists(st.integers(0, 10**7), min_size=1, max_size=64))
    return GridHistogram(draw(st.integers(-300, 0)), 2 ** draw(st.integers(0, 8)), tuple(counts))


@st.composite
def layers(draw, effects):
    low, high = sorted((draw(st.floats(-1e3, 1e3)), draw(st.floats(-1e3, 1e3))))
    fl = draw(st.integers(-20, 20))
    weights = None
    if draw(st.booleans()):
        weights = WeightDiagnosis(draw(st.integers(2, 16)), (fl, fl + draw(st.integers(0, 2))), low, high,
                                  draw(histograms()), draw(shares), draw(noises))
    return LayerDiagnosis(
        draw(names), draw(st.sampled_from(["Convolution", "Add"])), draw(names), low, high,
        draw(st.integers(2, 16)), draw(st.booleans()), fl, draw(histograms()), draw(shares), draw(shares),
        draw(noises), draw(noises), draw(noises), draw(st.one_of(st.none(), st.floats(-50, 50))), weights,
        OutputEffect(draw(noises), draw(shares), draw(st.none() | shares)) if effects else None,
    )  # fmt: skip


@st.composite
def diagnoses(draw):
    found = draw(st.lists(layers(draw(st.booleans())), min_size=1, max_size=4))
    return Diagnosis(draw(names), draw(st.integers(1, 10**6)), draw(shares), tuple(found))


@settings(max_examples=100, deadline=None)
@given(diagnoses(), names, st.dictionaries(names, names, max_size=3))
def test_any_diagnosis_gives_a_whole_page(diagnosis, title, facts):
    text = report_page(diagnosis, title, facts)
    page = Page(text)
    assert text == report_page(diagnosis, title, facts)
    ids = set(page.values("id"))
    assert ids == {f"layer-{number}" for number in range(len(diagnosis.layers))}
    assert {link.removeprefix("#") for link in page.values("href")} <= ids
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    figures = len(diagnosis.layers) + sum(layer.weights is not None for layer in diagnosis.layers)
    assert page.tags.count("svg") == figures + 1
    for name in ("cx", "cy", "d", "x", "y", "height", "width"):
        assert not [value for value in page.values(name) if "nan" in value or "inf" in value]


def noise(db):
    return Noise(db, 10 ** (-db / 20))


def layer(name, injected, *, clipped=0.0, counts=(5, 90, 5), output=None):
    exact = Noise(math.inf, 0.0)
    histogram = GridHistogram(0, 2, counts)
    return LayerDiagnosis(name, "Convolution", name, 0.0, 1.0, 2, False, 1, histogram, clipped, 0.0,
                          noise(injected), noise(injected), exact, None, None, output)


def example(name="conv"):
    effects = [OutputEffect(noise(30), 0.0, 0.00001), OutputEffect(noise(20), 0.25, 0.75)]
    return Diagnosis("net", 8, 0.25, (layer("first", 40.0, counts=(5, 95), output=effects[0]),
                                      layer(name, 20.0, clipped=0.05, output=effects[1])))


def test_it_needs_nothing_from_outside():
    text = report_page(example(), "title", {"images": "8 of images.npz"})
    for word in ("http", "//", "url(", "@import", "src=", "xmlns"):
        assert word not in text


def test_names_are_escaped_and_control_characters_gone():
    wicked = '<script>alert("1")</script> & \'x\' \x07\n'
    page = Page(report_page(example(wicked), wicked, {wicked: wicked}))
    assert "script" not in page.tags
    shown = '<script>alert("1")</script> & \'x\' ??'
    assert sum(shown in text for text in page.text) >= 6
    assert any(shown in label for label in page.values("aria-label"))


def test_worst_layer_stands_out():
    text = report_page(example(), "title", {}).replace("\u00a0", " ")
    rows = re.findall(r"<tr.*?</tr>", text)
    assert [("conv" in row, 'class="worst"' in row) for row in rows[1:]] == [(False, False), (True, True)]
    assert "alone, it leaves 20.0 dB at the output and changes 25.0 % of the answers" in text
    assert text.count('<rect class="worst"') == 1
    assert "<td>&lt;0.0001</td>" in rows[1]
    assert "<td>0.75</td>" in rows[2]


def test_without_effects_there_are_no_such_columns():
    diagnosis = Diagnosis("net", 8, 0.0, (layer("first", 40.0), layer("conv", 20.0)))
    page = Page(report_page(diagnosis, "title", {}))
    assert "answers changed" not in page.text
    assert "at the output, this layer alone" not in page.text
    assert "injects the largest error: 20.0\u00a0dB" in page.text
    assert "answers changed" in Page(report_page(example(), "title", {})).text


def test_depth_plot_has_a_point_for_each_finite_ratio():
    plot = depth_plot(example())
    Page(plot)
    assert plot.count("<circle") == 2 * 3  # inherited is exact
    assert "inherited" not in plot
    [line] = re.findall(r'<g class="injected">.*?</g>', plot)
    first, second = (float(height) for height in re.findall(r'cy="([\d.]+)"', line))
    assert first < second  # 40 dB is above 20 dB, and the page counts downwards


def test_bars_outside_the_limits_stand_out():
    """A format of 0 to 3: the bin of 4 and 5 is clipped, those of 0 to 3 are not."""
    found = example().layers[1]
    plot = histogram_plot(found.histogram, found.format, found.format.scale, "label")
    Page(plot)
    inside, outside = (re.findall(rf'class="{where}" d="([^"]*)"', plot) for where in ("inside", "outside"))
    assert inside[0].count("M") == 2
    assert outside[0].count("M") == 1
    limit = re.findall(r'class="limit" d="M([\d.]+) 2V\d+M([\d.]+) 2V', plot)[0]
    assert outside[0].startswith(f"M{limit[1]} ")  # the bar begins where the format ends
    assert inside[0].startswith(f"M{limit[0]} ")
    assert "outside" not in histogram_plot(example().layers[0].histogram, found.format, 1.0, "label")


def test_higher_bars_are_more():
    histogram = GridHistogram(0, 1, (1, 0, 10, 1000))
    plot = histogram_plot(histogram, example().layers[0].format, 1.0, "label")
    heights = [float(height) for height in re.findall(r"v-([\d.]+)h", plot)]
    assert len(heights) == 3
    assert heights == sorted(heights)
    assert heights[0] > 1  # a single value can be seen


def test_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    write_report(example(), path, "title", {"images": "8"})
    assert path.read_text() == report_page(example(), "title", {"images": "8"})
    with pytest.raises(WholeFileError, match="does not exist"):
        write_report(example(), tmp_path / "none" / "report.html", "title", {})
    assert list(tmp_path.iterdir()) == [path]
