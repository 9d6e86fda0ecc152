"""The bars, the clock that they take, and what a memory can carry."""

import json
from dataclasses import replace

import pytest

from bench.bandwidth import bus_share, carried
from bench.bars import BARS, Bar, Results, bar_lines, verdicts
from bench.baseline import read_baseline
from bench.clock import Clock, find_clock
from bench.cycles import BenchError
from sim.memory_settings import memory_settings

ROWS = read_baseline()


def test_every_bar_finds_its_figure():
    """Of the committed rows, with a clock and a time."""
    rows = [replace(row, seconds=1.0) for row in ROWS]
    found = verdicts(Results.of(rows, Clock(80.0, "test")))
    assert len(found) == len(BARS)
    assert not [verdict.what for verdict in found if verdict.met is None]
    rates = {verdict.what: verdict.value for verdict in found}
    cycles = next(row.cycles for row in ROWS if (row.name, row.memory) == ("N2-lean", "ulx3s"))
    assert rates["N2 on the ULX3S-85F"] == pytest.approx(80e6 / cycles)


def test_without_rows_nothing_is_measured():
    assert all(verdict.met is None for verdict in verdicts(Results.of([])))


@pytest.mark.parametrize(
    ("least", "most", "met"), [(5, None, True), (5.1, None, False), (None, 5, True), (None, 4.9, False)]
)
def test_bounds_are_met_where_equal(least, most, met):
    bar = Bar("what", "bar", lambda results: (5.0, "five"), least, most)
    [verdict] = verdicts(Results.of([]), [bar])
    assert verdict.met is met
    assert bar_lines([verdict])[1].endswith("met" if met else "MISSED")


def test_clock_from_option_or_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_clock(None, None) is None
    report = tmp_path / "build" / "ecp5" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"clock_reached_mhz": 77.6}))
    assert find_clock(None, None) == Clock(77.6, "build/ecp5/report.json")
    assert find_clock(90.0, report) == Clock(90.0, "--clock")
    report.write_text("{}")
    with pytest.raises(BenchError, match="give --clock instead"):
        find_clock(None, report)


def test_what_memories_carry():
    assert carried(memory_settings("ideal"), 8) == 8
    assert carried(memory_settings("stalling"), 8) == pytest.approx(8 * 15 / 19)
    # a 64-bit beat in four cycles, less row changes and refreshes
    assert 1.9 < carried(memory_settings("ulx3s"), 8) < 2
    assert bus_share("ideal", 8, 400, 800, 200) == pytest.approx(0.5)
    both = bus_share("ulx3s", 8, 400, 800, 2000)
    assert both == pytest.approx(0.6 / carried(memory_settings("ulx3s"), 8))
    assert bus_share("ideal", 8, 0, 0, 0) == 0
