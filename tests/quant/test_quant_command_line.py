"""The command line of ``quant`` as a user meets it: help, errors without tracebacks, exit codes."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

import quant.__main__ as command_line
from quant.__main__ import main
from quant.refusal import ModelError

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quant", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_help_names_every_command_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "python -m quant inspect model.onnx" in text
    assert all(name in text.split("examples:")[0] for name in ("inspect", "calibrate", "evaluate"))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["inspect", "--help"], ["calibrate", "--help"], ["evaluate", "--help"]]
)
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    code = (
        "import sys, quant.__main__ as m\n"
        f"try: m.main({arguments!r})\nexcept SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'onnx', 'onnxruntime')))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode
        == 0
    )


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["inspect"], ["inspect", "a", "--color"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m quant" in capsys.readouterr().err


def test_error_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08\x12")
    result = command("inspect", str(tmp_path / "broken.onnx"))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {tmp_path / 'broken.onnx'}: not a whole ONNX file")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ModelError("net: wrong"), 1, "error: net: wrong\n"),
        (
            PermissionError(13, "Permission denied", "out.json"),
            1,
            "error: [Errno 13] Permission denied: 'out.json'\n",
        ),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_errors_of_a_command(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr("quant.inspect.run", fail)
    assert main(["inspect", "model.onnx"]) == code
    assert capsys.readouterr().err == message


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: object) -> int:
        raise ValueError("zip() argument 2 is shorter than argument 1")

    monkeypatch.setattr("quant.inspect.run", fail)
    with pytest.raises(ValueError, match="shorter"):
        main(["inspect", "model.onnx"])


def test_output_that_nobody_reads(tmp_path: Path) -> None:
    model = tmp_path / "none.onnx"
    result = subprocess.run(
        f"{sys.executable} -m quant inspect --help | true; {sys.executable} -m quant inspect {model} | true",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in result.stderr


def test_a_broken_command_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> types.ModuleType:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(command_line.importlib, "import_module", load)
    with pytest.raises(ModuleNotFoundError):
        main(["inspect", "model.onnx"])
