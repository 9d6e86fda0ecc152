"""Builds the store unit and runs `cocotb_store.py` on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from cocotb_tops import MACHINES, run_bench

from hw.store import Store


@pytest.mark.parametrize("name", MACHINES)
def test_store(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MACHINES[name]
    top = Store(machine)
    # `read_valid` is a word's, and the flat name of a member of `read`
    names = {"axi": "m_axi", "read_data": "word", "read_valid": "word_valid"}
    run_bench(top, "store", machine, tmp_path, monkeypatch, tests=14, renamed=names)
