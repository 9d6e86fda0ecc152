"""The benchmark of low rank: what is stored meets the bars, and the page shows it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest

from bench.low_rank import BARS, NETWORKS, RESULTS, main, page_table, summary
from bench.stored_rows import rows_by_network
from quant.low_rank.projection import METHODS

ROWS = json.loads(RESULTS.read_text())
NAMED = rows_by_network(ROWS)
PAGE = Path(__file__).parents[2] / "docs" / "lowrank.md"


def test_the_page_shows_what_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(NAMED) == list(NETWORKS)
    for own in NAMED.values():
        assert [row["seed"] for row in own] == list(range(1, len(own) + 1))
    assert "\n".join(page_table(ROWS)) in PAGE.read_text()
    assert len(summary(ROWS)) == 1 + 3 * sum(len(own) + (len(own) > 1) for own in NAMED.values())
    assert main(["--page"]) == 0
    assert capsys.readouterr().out.splitlines() == page_table(ROWS)


@pytest.mark.parametrize("speedup", BARS)
@pytest.mark.parametrize("name", NETWORKS)
def test_fine_tuned_networks_meet_the_bars(name: str, speedup: float) -> None:
    lost = []
    for row in NAMED[name]:
        found = next(each for each in row["fine_tuned"] if each["speedup"] == speedup)
        assert row["macs"] / found["macs"] >= speedup
        lost.append(row["dense"]["test"] - found["accuracy"]["test"])
    assert mean(lost) <= BARS[speedup]


@pytest.mark.parametrize("speedup", [2.0, 3.0, 4.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_method_is_better_than_the_one_before(name: str, speedup: float) -> None:
    right = {
        method: mean(
            each["accuracy"]["test"]
            for row in NAMED[name]
            for each in row["untrained"]
            if (each["speedup"], each["method"]) == (speedup, method)
        )
        for method in METHODS
    }
    assert sorted(METHODS, key=lambda method: right[method]) == list(METHODS)


def test_without_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--quiet"]) == 1
    assert "install Debian's dataset-fashion-mnist" in capsys.readouterr().err
