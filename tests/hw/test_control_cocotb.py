"""Builds the control registers and runs `cocotb_control.py` on them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from cocotb_tops import MACHINES, run_bench

from hw.control import ControlRegisters


def test_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MACHINES["8x8-64"]
    run_bench(
        ControlRegisters(machine),
        "control",
        machine,
        tmp_path,
        monkeypatch,
        tests=8,
        visible=("count_*",),
        renamed={"bus": "s_axil"},
    )
