"""Builds the scratchpad and runs `cocotb_scratchpad.py` on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from cocotb_tops import MACHINES, run_bench

from hw.scratchpad import Scratchpad


def test_scratchpad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MACHINES["4x8-32"]
    # `read_valid` is a word's, and the flat name of a member of `read`
    names = {"read_data": "word", "read_valid": "word_valid"}
    run_bench(Scratchpad(machine), "scratchpad", machine, tmp_path, monkeypatch, tests=7, renamed=names)
