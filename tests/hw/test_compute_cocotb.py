"""Builds the compute unit and runs `cocotb_compute.py` on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from cocotb_tops import MACHINES, run_bench

from hw.compute import Compute


@pytest.mark.parametrize("name", MACHINES)
def test_compute(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MACHINES[name]
    run_bench(Compute(machine), "compute", machine, tmp_path, monkeypatch, tests=10)
