"""Builds the core at several sizes and runs `cocotb_core.py` on each."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator

from compiler.compile import compile_model
from hw.machine import Machine
from hw.program_file import ProgramFile
from quant.fixed_model import FixedModel
from sim import reference
from sim.verilator_build import build_folder, find_verilator, tool_environment, verilog_for

_HERE = Path(__file__).parent

# Making every signal visible to the bench, as the runner does, makes the build several times longer.
_VISIBLE = "`verilator_config\n" + "".join(
    f'public_flat_rw -module "core" -var "{names}"\n'
    for names in ("clk", "rst", "done", "layer", "m_axi_*", "s_axil_*", "*_busy", "*_wait")
)


class _PortsOnly(Verilator):
    """cocotb's runner, except that only what a control file names is visible."""

    def _build_command(self) -> list:
        commands = super()._build_command()
        return [[word for word in command if word != "--public-flat-rw"] for command in commands]


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


def _build(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> tuple[object, Path]:
    """The core for cocotb, kept under ``build/cocotb`` by the digest of its Verilog."""
    environment = tool_environment()
    for name in ("PATH", "VERILATOR_ROOT"):
        if name in environment:
            monkeypatch.setenv(name, environment[name])
    # precompiled headers off, and quick to build rather than quick to run
    monkeypatch.setenv(
        "MAKEFLAGS", " -- VK_PCH_I_FAST= VK_PCH_I_SLOW= OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O1"
    )
    text = verilog_for(machine)
    digest = hashlib.sha256(f"{find_verilator()}{_VISIBLE}{text}".encode()).hexdigest()[:24]
    folder = build_folder() / "cocotb" / digest
    runner = _PortsOnly()
    source = folder / "core.v"
    whole = folder / "whole"
    if not whole.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source.write_text(text)
        (folder / "visible.vlt").write_text(_VISIBLE)
    runner.build(
        sources=[folder / "visible.vlt", source],
        hdl_toplevel="core",
        build_dir=folder,
        timescale=("1ns", "1ps"),
        build_args=["-O3", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--no-timing"],
        log_file=folder / "build.log",
    )
    whole.touch()
    return runner, folder


@pytest.mark.parametrize("name", MACHINES)
def test_core(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_model: FixedModel) -> None:
    machine = MACHINES[name]
    form = small_model.formats[small_model.graph.input]
    shape = small_model.graph.shapes[small_model.graph.input]
    inputs = np.random.default_rng(11).integers(form.low, form.high + 1, (2, *shape))
    program = compile_model(small_model, machine, inputs[0], reference.run(small_model, inputs[:1]))
    _prepare(program, small_model, inputs, tmp_path)
    runner, folder = _build(machine, monkeypatch)
    monkeypatch.syspath_prepend(str(_HERE))
    monkeypatch.syspath_prepend(str(_HERE.parents[1]))
    results = runner.test(  # pyright: ignore
        test_module="cocotb_core",
        hdl_toplevel="core",
        build_dir=folder,
        test_dir=tmp_path,
        seed=1,
        results_xml=str(tmp_path / "results.xml"),
        log_file=tmp_path / "bench.log",
        extra_env={"BENCH": str(tmp_path), "COCOTB_ANSI_OUTPUT": "0", "PATH": os.environ["PATH"]},
    )
    count, failed = get_results(results)
    assert (count, failed) == (7, 0), (tmp_path / "bench.log").read_text()[-8000:]
