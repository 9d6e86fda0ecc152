# amaranth: UnusedElaboratable=no
"""The memory of SPRAM blocks: cocotbext-axi on both ports, with both kinds of blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cocotbext.axi", reason="cocotbext-axi is not installed")

from cocotb_build import build, component_verilog

import boards.spram
from boards.spram import SPRAM
from boards.spram_memory import SPRAMMemory

CELLS = Path(boards.spram.__file__).with_name("ice40_cells.v")


@pytest.mark.parametrize(("width", "kind"), [(32, "portable"), (64, "ice40"), (32, "ice40")])
def test_spram_memory(width: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = component_verilog(SPRAMMemory(width, kind), "spram", {})  # type: ignore[arg-type]
    text += CELLS.read_text() if kind == "ice40" else ""
    simulator = build(text, "spram", ["core*", "host*", "clk", "rst"], monkeypatch)
    bench = Path(__file__).with_name("cocotb_spram.py")
    simulator.run(bench, tmp_path, monkeypatch, tests=4, environment={"WIDTH": str(width)})


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be 32 or 64, not 16"):
        SPRAMMemory(16)
    with pytest.raises(ValueError, match="width must be 16, 32 or 64, not 8"):
        SPRAM(8)
    with pytest.raises(ValueError, match="kind must be 'portable' or 'ice40'"):
        SPRAM(16, "ecp5")  # type: ignore[arg-type]
