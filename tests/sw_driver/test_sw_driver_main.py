"""The command line: results, files, exit codes, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from software_board import MemoryLink, SoftwareBoard, small_program

from hw.program_file import ProgramFile
from sw_driver.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def program_path(tmp_path: Path) -> Path:
    path = tmp_path / "small.prog"
    program = small_program()
    program.host_operations = ("Softmax",)
    program.save(path)
    return path


def test_run(tmp_path: Path, program_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = ProgramFile.load(program_path)
    np.save(tmp_path / "image.npy", np.stack([program.known_input, program.known_input // 2]))
    report = tmp_path / "report.json"
    with SoftwareBoard(MemoryLink(program)) as board:
        status = main(
            [
                "run",
                str(program_path),
                "--link",
                f"serial:{board.port}",
                "--input",
                str(tmp_path / "image.npy"),
                "--json",
                str(report),
            ]
        )
    assert status == 0
    result = json.loads(report.read_text())
    assert len(result["images"]) == 2
    first = result["images"][0]
    assert first["output"] == program.known_output.reshape(-1).tolist()
    values = np.exp(program.known_output.reshape(-1) / 8)
    values /= values.sum()
    best = np.argsort(-values, kind="stable")[:5]
    assert [entry["class"] for entry in first["top"]] == best.tolist()
    assert [entry["score"] for entry in first["top"]] == pytest.approx(values[best])
    assert first["cycles"] == 1000 + (2 << 32)
    printed = capsys.readouterr().out
    assert f"class {best[0]:>5}" in printed
    assert "cycles" in printed
    assert " ms at 50 MHz" in printed


def test_selftest(tmp_path: Path, program_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = ProgramFile.load(program_path)
    with SoftwareBoard(MemoryLink(program)) as board:
        assert main(["selftest", str(program_path), "--link", f"serial:{board.port}@115200"]) == 0
    assert "passed" in capsys.readouterr().out

    def broken(_: ProgramFile, memory: bytearray) -> None:
        memory[program.output.address] ^= 1

    report = tmp_path / "report.json"
    with SoftwareBoard(MemoryLink(program, work=broken)) as board:
        assert (
            main(["selftest", str(program_path), "--link", f"serial:{board.port}", "--json", str(report)])
            == 1
        )
    assert "layer 0 (add_one) is the first wrong one" in capsys.readouterr().out
    assert json.loads(report.read_text())["passed"] is False


def test_info_and_counters(tmp_path: Path, program_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "info.json"
    assert main(["info", str(program_path), "--json", str(report)]) == 0
    result = json.loads(report.read_text())
    assert result["macs"] == 60
    assert result["digest"] == f"{small_program().machine.digest():016x}"
    assert "3 layers, 60 multiply-accumulates" in capsys.readouterr().out
    with SoftwareBoard(MemoryLink(small_program())) as board:
        assert main(["counters", "--link", f"serial:{board.port}"]) == 0
    assert "cycles" in capsys.readouterr().out


def test_errors_are_one_line(tmp_path: Path, program_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "image.npy"
    np.save(image, small_program().known_input)
    broken = tmp_path / "broken.prog"
    broken.write_bytes(program_path.read_bytes()[:100])
    other = MemoryLink(small_program())
    other.digest += 1
    run = ["run", str(program_path), "--input", str(image), "--link"]
    with SoftwareBoard(other) as board:
        for arguments, text in (
            ([*run, "serial:/dev/no-such-port"], "cannot open the port"),
            ([*run, "serial:/dev/no-such-port@fast"], "the baud rate must be a positive number"),
            ([*run, "usb"], "no such link; use sim, serial:PORT"),
            ([*run, f"serial:{board.port}"], "compiled for the machine"),
            (["selftest", str(program_path), "--link", f"serial:{board.port}"], "compiled for the machine"),
            (["info", str(broken)], "not a whole program file"),
            (["info", str(tmp_path / "none.prog")], "no such file"),
            (["counters", "--link", "sim"], "needs a program"),
            (
                ["run", str(program_path), "--link", "sim", "--input", str(tmp_path / "none.npy")],
                "no such file",
            ),
            ([*run, f"serial:{board.port}", "--images", "0"], "--images must be at least 1"),
            (["info", str(program_path), "--json", str(image / "x.json")], "cannot be written"),
        ):
            report = tmp_path / "never.json"
            extra = [] if "--json" in arguments else ["--json", str(report)]
            assert main([*arguments, *extra]) == 1
            captured = capsys.readouterr()
            assert captured.err.startswith("error: ")
            assert captured.err.count("\n") == 1
            assert text in captured.err
            assert not report.exists()
    assert other.writes == 0


def test_driver_needs_nothing_but_numpy_and_pyserial(program_path: Path) -> None:
    """As on a computer that only drives a board: every other package is hidden."""
    code = """
import sys
allowed = {"numpy", "serial", "hw", "sw_driver"} | set(sys.stdlib_module_names)
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Guard())
from sw_driver.__main__ import main
import sw_driver.serial_link, sw_driver.sim_link
status = main(["info", sys.argv[1]])
assert not set(sys.modules) & {"torch", "amaranth", "onnx", "PIL", "hw.isa"}
sys.exit(status)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(program_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_usage_errors_have_another_status() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["run"])
    assert stop.value.code == 2
