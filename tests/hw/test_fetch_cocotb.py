"""Builds the fetch unit and runs `cocotb_fetch.py` on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from cocotb_tops import MACHINES, BehindReadPort, run_bench

from hw.fetch import Fetch


@pytest.mark.parametrize("name", MACHINES)
def test_fetch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MACHINES[name]
    run_bench(BehindReadPort(machine, Fetch(machine)), "fetch", machine, tmp_path, monkeypatch, tests=8)
