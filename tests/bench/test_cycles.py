"""Cycles of the benchmark against the committed ones, `bench/results.json`: exact."""

import json
from dataclasses import replace

import pytest

from bench.__main__ import main
from bench.accuracy_data import BenchDataError, shared_folder
from bench.baseline import read_baseline, rows_as_json, write_baseline
from bench.cycles import REASONS, BenchError, LayerRow, Row, measure
from bench.tables import layer_lines, qiu_groups, qiu_lines, row_lines
from bench.work import WORK, UnknownWorkError, chosen_works

ROWS = read_baseline()
SLOW = ("L4-huffman", "N4", "N4-sparse", "N4-huffman", "N5", "N5-SVD")
CASES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else (), id=name) for name in WORK]
LAYER = LayerRow("conv", "convolution", 128 * 80, 100, 90, 750, 50, 1, 2, 3, 1)
ROW = Row("L1", "ideal", 128, 8, 101, (LAYER, replace(LAYER, name="fc", macs=0, cycles=0, array_busy=0)))


@pytest.mark.parametrize("name", CASES)
def test_as_many_cycles_as_committed(name):
    """Every tensor equals the reference, too: `measure` raises where one does not."""
    expected = [row for row in ROWS if row.name == name]
    try:
        found = list(measure(WORK[name], WORK[name].machine, [row.memory for row in expected]))
    except BenchDataError:
        if shared_folder() is not None:
            raise
        pytest.skip("the folder of models and images that POINTSHIFT_SHARED names is missing")
    assert found == expected, "cycles changed; `python -m bench --write` makes these the baseline"


def test_every_work_has_a_figure():
    found = {(row.name, row.memory) for row in ROWS}
    assert found >= {(work.name, memory) for work in WORK.values() for memory in work.memories}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} {row.memory}")
def test_figures_are_possible(row):
    """No more than all multipliers busy, no more than the memory can carry, cycles of the layers add up."""
    assert 0 < row.busy <= 1
    assert 0 < row.bus <= 1
    assert 0 <= sum(layer.cycles for layer in row.layers) - row.cycles < 16
    for layer in row.layers:
        shares = layer.shares(row.multipliers)
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) > -1e-9, layer.name


def test_shares_and_limit():
    assert list(LAYER.shares(128)) == list(REASONS)
    assert LAYER.shares(128) == pytest.approx(dict(zip(REASONS, (0.8, 0.1, 0.01, 0.02, 0.03, 0.01, 0.03))))
    assert LAYER.limit(128) == "multipliers"
    assert LAYER.limit(1024) == "unused lanes"
    assert ROW.reasons() == pytest.approx(LAYER.shares(128))  # the other layer took no cycles
    assert ROW.busy == pytest.approx(80 / 101)
    assert ROW.bus == pytest.approx(1500 / 8 / 101)


def test_baseline_is_read_as_written(tmp_path):
    path = tmp_path / "rows.json"
    write_baseline([ROW, replace(ROW, memory="ulx3s", seconds=3.0)], path)
    write_baseline([replace(ROW, cycles=7)], path)
    assert read_baseline(path) == [replace(ROW, cycles=7), replace(ROW, memory="ulx3s")]
    assert [Row.from_json(entry) for entry in json.loads(rows_as_json(ROWS))] == ROWS
    path.write_text('[{"name": "L1"}]')
    with pytest.raises(BenchError, match="not rows of this version"):
        read_baseline(path)


def test_tables():
    lines = row_lines([ROW])
    assert "NNgen" in lines[1]
    assert " 79.2 " in lines[1]
    assert "multipliers" in layer_lines(ROW)[2]


def test_qiu_table_covers_the_network():
    row = next(row for row in ROWS if row.name == "N5-SVD")
    groups = {group["group"]: group for group in qiu_groups(row, None)}
    assert groups["whole"]["cycles"] == sum(layer.cycles for layer in row.layers)
    assert groups["whole"]["qiu_milliseconds"] == pytest.approx(224.6, abs=0.05)
    assert groups["all CONV"]["qiu_share_of_peak"] == pytest.approx(0.543, abs=0.001)
    # 2 operations for each product: the table and the network are the same work
    assert 2 * row.macs / 1e9 == pytest.approx(groups["whole"]["gop"], rel=0.002)
    assert len(qiu_lines(row, None)) == 14


def test_works_by_name():
    assert [work.name for work in chosen_works("N5,L1")] == ["N5", "N5-SVD", "L1", "L1-int4"]
    assert [work.name for work in chosen_works("N5-SVD")] == ["N5-SVD"]
    assert [work.name for work in chosen_works(None)] == list(WORK)
    with pytest.raises(UnknownWorkError, match="no work is called 'L9'"):
        chosen_works("L1,L9")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--only", "L9"], 2, "no work is called 'L9'"),
        (["--only", "L1", "--json", "/nowhere/rows.json"], 1, "does not exist"),
        (["--only", "L1", "--report", "/nowhere/report.json"], 1, "give --clock instead"),
    ],
)
def test_bad_arguments(capsys, arguments, code, words):
    assert main(arguments) == code
    assert words in capsys.readouterr().err


def test_missing_networks_are_left_out_unless_asked_for(monkeypatch, capsys):
    works = {name: WORK[name] for name in ("L2", "N2")}
    monkeypatch.setattr("bench.__main__.chosen_works", lambda names: list(works.values()))
    monkeypatch.setattr("bench.work.shared_folder", lambda: None)
    assert main(["--memory", "ideal"]) == 0
    printed = capsys.readouterr()
    assert "N2 is left out" in printed.err
    assert "L2 " in printed.out
    assert main(["--memory", "ideal", "--only", "L2,N2"]) == 1
    assert "resnet8: mlperf_resnet8.onnx is missing" in capsys.readouterr().err


def test_one_work_from_the_command_line(tmp_path, capsys):
    path, plots = tmp_path / "rows.json", tmp_path / "plots"
    options = ["--only", "L3", "--memory", "ideal", "--clock", "100", "--layers"]
    assert main([*options, "--json", str(path), "--plots", str(plots)]) == 0
    report = json.loads(path.read_text())
    row, kept = report["rows"]
    assert (kept["name"], kept["cycles"] < row["cycles"]) == ("L3-kept", True)
    assert Row.from_json({key: row[key] for key in ROW.to_json() if key != "layers"} | {"layers": []}).cycles
    assert row["cycles"] == next(row.cycles for row in ROWS if (row.name, row.memory) == ("L3", "ideal"))
    assert row["cycles_per_second"] > 0
    assert {file.name for file in plots.iterdir()} == {
        "roofline-ideal.png",
        "timeline-L3-ideal.png",
        "timeline-L3-kept-ideal.png",
    }
    assert next(bar for bar in report["bars"] if bar["what"].startswith("L3"))["value"] == row["busy"]
    assert "not measured" in capsys.readouterr().out
