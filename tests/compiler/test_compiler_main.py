"""The command line: programs, reports, listings, and one-line errors."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from fixed_networks import NetworkBuilder

from compiler.__main__ import main
from hw.machine import Machine
from hw.program_file import ProgramFile
from quant.qdq import write_fixed_model
from sim.program import ProgramSimulator


@pytest.fixture
def network() -> NetworkBuilder:
    build = NetworkBuilder((3, 8, 8))
    build.max_pool(build.convolution("input", 20))
    return build


@pytest.fixture
def onnx_file(tmp_path: Path, network: NetworkBuilder) -> Path:
    write_fixed_model(network.model(network.nodes[-1].output), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_compile_and_disassemble(tmp_path, onnx_file, capsys):
    report = tmp_path / "report.json"
    assert main([str(onnx_file), "--lanes", "8x8", "--json", str(report), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    program = ProgramFile.load(tmp_path / "net.prog")
    assert program.machine.output_lanes == 8
    simulator = ProgramSimulator(program.machine, program.memory_bytes)
    simulator.load(program)
    assert np.array_equal(simulator.run(program.known_input), program.known_output)
    content = json.loads(report.read_text())
    assert [layer["kind"] for layer in content["layers"]] == ["convolution", "maximum pooling"]
    assert content["macs"] == 20 * 27 * 36
    assert content["estimated_cycles"] > 0
    assert main(["disassemble", str(tmp_path / "net.prog")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("; layer 0: ")
    assert lines[-1].split()[1] == "END"
    assert any("mode=MAXIMUM" in line for line in lines)
    assert sum(not line.startswith(";") for line in lines) == content["instructions"]


def test_table(onnx_file, tmp_path, capsys):
    assert main([str(onnx_file), "-o", str(tmp_path / "other.prog")]) == 0
    out = capsys.readouterr().out
    assert "maximum pooling" in out
    assert f"written: {tmp_path / 'other.prog'}" in out


def test_known_input(onnx_file, tmp_path, network):
    image = network.image()
    np.save(tmp_path / "image.npy", image)
    assert main([str(onnx_file), "--known-input", str(tmp_path / "image.npy"), "--quiet"]) == 0
    assert np.array_equal(ProgramFile.load(tmp_path / "net.prog").known_input, image)


def test_machine_from_file(onnx_file, tmp_path):
    machine = Machine(bus_width=128, scratchpad_words=4096)
    (tmp_path / "machine.json").write_text(json.dumps(machine.to_json()))
    assert main([str(onnx_file), "--machine", str(tmp_path / "machine.json"), "--quiet"]) == 0
    assert ProgramFile.load(tmp_path / "net.prog").machine == machine


def test_options_of_the_machine(onnx_file, tmp_path):
    assert main([str(onnx_file), "--weight-pairs", "--weight-decoder", "--quiet"]) == 0
    assert ProgramFile.load(tmp_path / "net.prog").machine == Machine(weight_pairs=True, weight_decoder=True)
    sizes = {
        "bus_width": 128,
        "scratchpad_words": 4096,
        "accumulator_depth": 256,
        "weight_fifo_words": 1024,
        "kept_weight_words": 2048,
    }
    options = [word for name, size in sizes.items() for word in (f"--{name.replace('_', '-')}", str(size))]
    assert main([str(onnx_file), *options, "--quiet"]) == 0
    assert ProgramFile.load(tmp_path / "net.prog").machine == Machine(**sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lanes", "8"], "--lanes must be two numbers like 8x16"),
        (["--lanes", "5x16"], "input_lanes must be 4, 8 or 16"),
        (["--scratchpad-words", "1000"], "scratchpad_words must be a power of two"),
        (["--kept-weight-words", "5"], "kept_weight_words must be"),
        (["--lanes", "8x8", "--weight-pairs"], "weight_pairs must be False with 8 output lanes"),
        (["--machine", "missing.json"], "missing.json: not a machine's description"),
        (["--known-input", "missing.npy"], "missing.npy: not a numpy array"),
    ],
)
def test_bad_options(onnx_file, tmp_path, capsys, options, message):
    assert main([str(onnx_file), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "net.prog").exists()


def test_known_input_of_another_shape(onnx_file, tmp_path, capsys):
    np.save(tmp_path / "image.npy", np.zeros((3, 9, 8), np.int64))
    assert main([str(onnx_file), "--known-input", str(tmp_path / "image.npy")]) == 1
    assert "must hold integers of the shape (3, 8, 8)" in capsys.readouterr().err


def test_refused_model(tmp_path, capsys):
    build = NetworkBuilder((1, 3, 3))
    write_fixed_model(build.model(build.average_pool("input", (3, 3))), tmp_path / "net.onnx")
    assert main([str(tmp_path / "net.onnx"), "--no-average-pooling"]) == 1
    assert "average_pooling" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "net.onnx"]


def test_files_that_are_not_what_they_should_be(tmp_path, capsys):
    (tmp_path / "bad").write_bytes(b"nothing of the kind")
    assert main([str(tmp_path / "bad")]) == 1
    assert main([str(tmp_path / "missing.onnx")]) == 1
    assert main(["disassemble", str(tmp_path / "bad")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)


def test_a_listing_needs_neither_onnx_nor_torch(onnx_file, tmp_path, monkeypatch, capsys):
    assert main([str(onnx_file), "--quiet"]) == 0
    for name in ("onnx", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.split(".")[0] in ("compiler", "quant", "sim")]:
        monkeypatch.delitem(sys.modules, name)
    from compiler.__main__ import main as fresh

    assert isinstance(fresh, types.FunctionType)
    assert fresh(["disassemble", str(tmp_path / "net.prog")]) == 0
