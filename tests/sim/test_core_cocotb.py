"""Builds the core at several sizes and runs `cocotb_core.py` on each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cocotb_build import build

from compiler.compile import compile_model
from hw.machine import Machine
from hw.program_file import ProgramFile
from quant.fixed_model import FixedModel
from sim import reference
from sim.verilator_build import verilog_for

_HERE = Path(__file__).parent

_VISIBLE = ("clk", "rst", "done", "layer", "m_axi_*", "s_axil_*", "*_busy", "*_wait")

MACHINES = {
    "4x4-32": Machine(
        input_lanes=4,
        output_lanes=4,
        bus_width=32,
        scratchpad_words=256,
        accumulator_depth=32,
        weight_fifo_words=32,
    ),
    "8x8-64": Machine(
        input_lanes=8,
        output_lanes=8,
        bus_width=64,
        scratchpad_words=256,
        accumulator_depth=16,
        weight_fifo_words=32,
    ),
    "8x16-64": Machine(
        input_lanes=8,
        output_lanes=16,
        bus_width=64,
        scratchpad_words=256,
        accumulator_depth=64,
        weight_fifo_words=32,
    ),
    "8x16-128": Machine(
        input_lanes=8,
        output_lanes=16,
        bus_width=128,
        scratchpad_words=256,
        accumulator_depth=64,
        weight_fifo_words=32,
    ),
}


def _prepare(program: ProgramFile, model: FixedModel, inputs: np.ndarray, folder: Path) -> None:
    program.save(folder / "small.prog")
    np.save(folder / "inputs.npy", inputs)
    np.savez(folder / "expected.npz", **reference.run(model, inputs))


@pytest.mark.parametrize("name", MACHINES)
def test_core(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_model: FixedModel) -> None:
    machine = MACHINES[name]
    form = small_model.formats[small_model.graph.input]
    shape = small_model.graph.shapes[small_model.graph.input]
    inputs = np.random.default_rng(11).integers(form.low, form.high + 1, (2, *shape))
    program = compile_model(small_model, machine, inputs[0], reference.run(small_model, inputs[:1]))
    _prepare(program, small_model, inputs, tmp_path)
    simulator = build(verilog_for(machine), "core", _VISIBLE, monkeypatch)
    simulator.run(_HERE / "cocotb_core.py", tmp_path, monkeypatch, tests=7)
