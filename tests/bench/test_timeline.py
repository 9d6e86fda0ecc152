"""Timelines and rooflines: the figures behind the pictures, and the files."""

import json

import numpy as np
import pytest

from bench.cycles import LayerRow, Row
from bench.roofline import roofline_plot, roofline_point
from bench.timeline import Timeline, busy_share, gaps, main, timeline_plot

PNG = b"\x89PNG\r\n\x1a\n"


def _intervals(seed: int, cycles: int) -> np.ndarray:
    edges = np.unique(np.random.default_rng(seed).integers(0, cycles + 1, 41))
    return edges[: len(edges) // 2 * 2].reshape(-1, 2).astype(np.uint64)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("columns", [1, 7, 100])
def test_busy_share_is_what_counting_gives(seed, columns):
    cycles = 700
    rows = _intervals(seed, cycles)
    each = np.zeros(cycles)
    for first, end in rows.astype(int):
        each[first:end] = 1
    expected = each.reshape(columns, -1).mean(axis=1)
    assert busy_share(rows, cycles, columns) == pytest.approx(expected, abs=1e-9)


def test_nothing_busy():
    assert busy_share(np.empty((0, 2), np.uint64), 10, 5) == pytest.approx(np.zeros(5))
    assert gaps(np.empty((0, 2), np.uint64), 10).tolist() == [[0, 10]]


def test_gaps_longest_first():
    rows = np.array([[3, 5], [6, 10]], np.uint64)
    assert gaps(rows, 20).tolist() == [[10, 10], [0, 3], [5, 1]]
    assert gaps(rows, 10).tolist() == [[0, 3], [5, 1]]


def test_plots_are_the_same_bytes_again():
    busy = {part: _intervals(seed, 500) for seed, part in enumerate(("load", "compute", "store", "weights"))}
    timeline = Timeline("N1", "ideal", 500, [("conv$1_a", 300), ("fc", 190)], busy)
    assert timeline_plot(timeline)[:8] == PNG
    assert timeline_plot(timeline) == timeline_plot(timeline)
    layers = tuple(
        LayerRow(f"l{n}", "convolution", macs, 100, 90, 80, 40, 0, 0, 0, 0)
        for n, macs in enumerate((640, 0, 9))
    )
    row = Row("L1", "ideal", 128, 8, 300, layers)
    assert roofline_plot([row], "ideal")[:8] == PNG
    assert roofline_plot([row], "ideal") == roofline_plot([row], "ideal")
    assert roofline_point(layers[0], "ideal") == (8, 6.4)
    assert roofline_point(layers[0], "ulx3s") == pytest.approx((640 / 120, 6.4))
    assert roofline_point(layers[1], "ideal") is None


def test_command_line(tmp_path, capsys):
    picture, report = tmp_path / "l3.png", tmp_path / "l3.json"
    assert main(["L3", "--memory", "stalling", "-o", str(picture), "--json", str(report)]) == 0
    assert picture.read_bytes()[:8] == PNG
    found = json.loads(report.read_text())
    assert 0 < found["busy"]["weights"] < found["busy"]["compute"] < found["busy"]["load"] < found["cycles"]
    assert "longest gaps" in capsys.readouterr().out
    assert main(["L9"]) == 2
    assert "no work is called 'L9'" in capsys.readouterr().err
