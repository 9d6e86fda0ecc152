"""The benchmark of pruning and compression: what is stored meets the bars, and a run gives it again."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from bench import compression
from bench.accuracy_data import shared_folder
from bench.compression import (
    NETWORKS,
    RESULTS,
    Recipe,
    _images,
    compare_settings,
    measure,
)
from bench.compression_tables import BARS, page_table, summary
from bench.stored_rows import rows_by_network
from quant.compression.labelled_data import LabelledData
from quant.compression.trainable import TrainableNetwork

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


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stored_networks_meet_the_bars(name: str) -> None:
    fewer, smaller, rise = BARS
    rows = rows_by_network(json.loads(RESULTS.read_text()))[name]
    assert all(Recipe(**row["recipe"]) == NETWORKS[name] for row in rows)
    errors = {what: mean(row["errors"][what] for row in rows) for what in ("dense", "pruned", "compressed")}
    assert mean(row["fewer_weights"] for row in rows) >= fewer
    assert mean(row["smaller"] for row in rows) >= smaller
    assert max(errors["pruned"], errors["compressed"]) <= errors["dense"] + rise + 1e-9


def test_settings_are_compared_on_validation_images(monkeypatch: pytest.MonkeyPatch) -> None:
    name, recipe = "LeNet-300-100", Recipe(1, 1, None, 1, 1, "3", 0.0, keep="0.02")
    monkeypatch.setitem(compression.NETWORKS, name, recipe)
    monkeypatch.setitem(
        compression.ALTERNATIVES,
        name,
        {"taught, 1 %": replace(recipe, keep="0.01", temperature=4), "shifted": replace(recipe, shift=9)},
    )
    random = torch.Generator().manual_seed(1)
    images = LabelledData(torch.rand(320, 1, 28, 28, generator=random), torch.arange(320) % 10)
    dense, shifts = compression._dense, []

    def recorded(name: str, seed: int, recipe: Recipe, *more: Any) -> TrainableNetwork:
        shifts.append(recipe.shift)
        return dense(name, seed, recipe, *more)

    monkeypatch.setattr(compression, "_dense", recorded)
    lines = compare_settings(name, [1], images, True)
    assert shifts == [0, 9]
    heads, chosen, other, shifted = (re.split("  +", line) for line in lines)
    assert (chosen[0], other[0], shifted[0]) == ("chosen", "taught, 1 %", "shifted")
    assert chosen[1] == other[1]  # the same dense network
    assert (chosen[3], other[3]) == ("50.0x", "100.0x")
    found = measure(name, 1, images, images.take(torch.arange(40)), True)
    shown = [f"{found['validation_errors'][what]:.1f}" for what in ("dense", "pruned", "compressed")]
    assert [
        chosen[heads.index(what)].split("(")[1].split(")")[0] for what in ("dense", "pruned", "compressed")
    ] == shown


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
