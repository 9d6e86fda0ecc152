"""The benchmark of low rank: what is stored meets the bars, and the page shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.low_rank import BARS, NETWORKS, RESULTS, main, page_table, summary
from quant.low_rank.projection import METHODS

ROWS = json.loads(RESULTS.read_text())
PAGE = Path(__file__).parents[2] / "docs" / "lowrank.md"


def test_the_page_shows_what_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["network"] for row in ROWS] == list(NETWORKS)
    assert "\n".join(page_table(ROWS)) in PAGE.read_text()
    assert len(summary(ROWS)) == 1 + 3 * len(NETWORKS)
    assert main(["--page"]) == 0
    assert capsys.readouterr().out.splitlines() == page_table(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=list(NETWORKS))
def test_fine_tuned_networks_meet_the_bars(row: dict) -> None:
    for found in row["fine_tuned"]:
        assert row["macs"] / found["macs"] >= found["speedup"]
        assert row["dense"]["test"] - found["accuracy"]["test"] <= BARS[found["speedup"]]


@pytest.mark.parametrize("row", ROWS, ids=list(NETWORKS))
def test_each_method_is_better_than_the_one_before(row: dict) -> None:
    for speedup in (2.0, 3.0, 4.0):
        runs = [each for each in row["untrained"] if each["speedup"] == speedup]
        right = {each["method"]: each["accuracy"]["test"] for each in runs}
        assert sorted(METHODS, key=lambda method: right[method]) == list(METHODS)


def test_without_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--quiet"]) == 1
    assert "install Debian's dataset-fashion-mnist" in capsys.readouterr().err
