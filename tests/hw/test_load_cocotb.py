"""Builds the load unit and runs `cocotb_load.py` on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from cocotb_tops import MACHINES, BehindReadPort, run_bench

from hw.load import Load


@pytest.mark.parametrize("name", MACHINES)
def test_load(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MACHINES[name]
    run_bench(BehindReadPort(machine, Load(machine)), "load", machine, tmp_path, monkeypatch, tests=9)
