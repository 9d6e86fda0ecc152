"""Cycles of the benchmark against the committed ones, `bench/results.json`: exact."""

import json

import pytest

from bench.__main__ import BASELINE, main
from bench.accuracy_data import shared_folder
from bench.cycles import BARS, Bar, Row, bar_lines, measure, table
from bench.work import WORK
from hw.machine import Machine

ROWS = [Row(**entry) for entry in json.loads(BASELINE.read_text())]
CASES = [
    pytest.param(name, marks=pytest.mark.slow if name in ("N3", "N4") else (), id=name) for name in WORK
]


@pytest.mark.parametrize("name", CASES)
def test_as_many_cycles_as_committed(name):
    """Every tensor equals the reference, too: `measure` raises where one does not."""
    if WORK[name].network not in (None, "lenet5") and shared_folder() is None:
        pytest.skip("the folder of models and images that POINTSHIFT_SHARED names is missing")
    expected = [row for row in ROWS if row.name == name]
    found = list(measure(WORK[name], Machine(), [row.memory for row in expected]))
    assert found == expected, "cycles changed; `python -m bench --write` makes these the baseline"


def test_every_work_and_bar_has_a_figure():
    found = {(row.name, row.memory) for row in ROWS}
    assert {(name, memory) for name in WORK for memory in ("ideal", "stalling", "ulx3s")} == found
    assert {(bar.name, bar.memory) for bar in BARS} <= found


def test_bars_and_tables():
    row = Row("L1", "ideal", 128, 128 * 80, 100, 750, 50, 3, 4)
    assert row.busy == 0.8
    assert Bar("L1", "ideal", busy=0.8).met(row)
    assert not Bar("L1", "ideal", busy=0.81).met(row)
    assert Bar("L1", "ideal", cycles=100).met(row)
    assert not Bar("L1", "ideal", cycles=99).met(row)
    assert Bar("L1", "ideal", read=7.5).met(row)
    assert not Bar("L1", "ideal", read=7.6).met(row)
    assert "80.0" in table([row])[1]
    lines = bar_lines([row], [Bar("L1", "ideal", cycles=99), Bar("L2", "ideal", cycles=1)])
    assert len(lines) == 2
    assert lines[1].endswith("MISSED")


def test_unknown_work(capsys):
    assert main(["--only", "L9"]) == 2
    assert "no work is called L9" in capsys.readouterr().err
