"""The benchmark of ternary weights: what is stored is what the page shows."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest
import torch

from bench.ternary import BAR, RESULTS, Recipe, main, measure, page_table, summary
from quant.compression.labelled_data import LabelledData

PAGE = Path(__file__).parents[2] / "docs" / "compression.md"


def test_the_page_shows_what_is_stored() -> None:
    rows = json.loads(RESULTS.read_text())
    assert "\n".join(page_table(rows)) in PAGE.read_text()
    assert [row["seed"] for row in rows] == [1, 2, 3]
    assert len(summary(rows)) == 1 + len(rows) + 1
    found = [row["accuracy"]["test"] for row in rows]
    assert mean(each["float"] - each["ternary"] for each in found) <= BAR
    for row in rows:
        assert [layer["bits"] for layer in row["layers"]] == [32, *[2] * (len(row["layers"]) - 2), 32]


def test_a_short_run() -> None:
    random = torch.Generator().manual_seed(1)
    images = LabelledData(torch.rand(384, 1, 28, 28, generator=random), torch.arange(384) % 10)
    recipe = Recipe(images=256, float_epochs=1, epochs=1)
    found = measure(1, (images, images, images), recipe, quiet=True)
    assert set(found["accuracy"]) == {"validation", "test"}
    assert set(found["accuracy"]["test"]) == {"float", "ternary", "float, 8 bits", "ternary, 8 bits"}
    assert len(summary([found])) == 2


def test_missing_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path)]) == 1
    assert "install Debian's dataset-fashion-mnist" in capsys.readouterr().err
