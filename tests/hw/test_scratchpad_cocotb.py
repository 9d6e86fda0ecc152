"""Builds the scratchpad and runs `cocotb_scratchpad.py` on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from cocotb_tops import MACHINES, run_bench

from hw.dual_port_memory import MemoryKind
from hw.machine import Machine
from hw.scratchpad import Scratchpad

SIXTEEN = Machine(
    input_lanes=16,
    output_lanes=16,
    bus_width=32,
    scratchpad_words=256,
    accumulator_depth=16,
    weight_fifo_words=128,
)


@pytest.mark.parametrize(
    ("machine", "memory"),
    [
        (MACHINES["4x8-32"], "portable"),
        (MACHINES["4x8-32"], "ecp5"),
        (MACHINES["8x8-64"], "portable"),
        (SIXTEEN, "portable"),
    ],
    ids=["4-portable", "4-ecp5", "8-portable", "16-portable"],
)
def test_scratchpad(
    machine: Machine, memory: MemoryKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `read_valid` is a word's, and the flat name of a member of `read`
    names = {"read_data": "word", "read_valid": "word_valid"}
    model = Path(__file__).with_name("dp16kd.v").read_text() if memory == "ecp5" else ""
    dut = Scratchpad(machine, memory=memory)
    run_bench(dut, "scratchpad", machine, tmp_path, monkeypatch, tests=7, renamed=names, models=model)
