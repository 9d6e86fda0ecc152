"""Builds the weights unit and runs `cocotb_weights.py` on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from cocotb_tops import MACHINES, BehindReadPort, run_bench

from hw.weights import Weights


@pytest.mark.parametrize("name", MACHINES)
def test_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MACHINES[name]
    run_bench(BehindReadPort(machine, Weights(machine)), "weights", machine, tmp_path, monkeypatch, tests=10)
