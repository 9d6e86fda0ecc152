"""The benchmark of pruning and compression: what is stored meets the bars, and a run gives it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.accuracy_data import shared_folder
from bench.compression import RESULTS, _images, measure, page_table, summary

PAGE = Path(__file__).parents[2] / "docs" / "compression.md"
FOLDER = shared_folder()


def test_the_page_shows_what_is_stored() -> None:
    rows = json.loads(RESULTS.read_text())
    assert "\n".join(page_table(rows)) in PAGE.read_text()
    assert {row["seed"] for row in rows} == {1, 2, 3}
    assert len(summary(rows)) == 3
    for row in rows:
        assert row["report"]["total"]["bytes"] == row["file_bytes"]
        assert sum(layer["kept"] for layer in row["report"]["layers"]) == row["report"]["total"]["kept"]


@pytest.mark.slow
@pytest.mark.skipif(
    FOLDER is None or not (FOLDER / "data" / "mnist10k.npz").exists(), reason="mnist10k.npz is not there"
)
def test_a_run_meets_the_bars_as_stored() -> None:
    stored = next(row for row in json.loads(RESULTS.read_text()) if row["network"] == "LeNet-300-100")
    found = measure("LeNet-300-100", stored["seed"], *_images(), quiet=True)
    assert found["fewer_weights"] == pytest.approx(stored["fewer_weights"], rel=0.05)
    assert found["smaller"] == pytest.approx(stored["smaller"], rel=0.05)
    for what, error in stored["errors"].items():
        assert found["errors"][what] == pytest.approx(
            error, abs=0.5
        )  # 10 images: other processors, other sums
