"""Commands whose output nobody reads end without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixed_networks import NetworkBuilder

from compiler.compile import compile_model
from hw.closed_pipe import quiet_when_closed
from hw.machine import Machine
from sim.reference import run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = NetworkBuilder((3, 6, 6))
    path = tmp_path_factory.mktemp("program") / "net.prog"
    model = build.model(build.convolution("input", 4))
    image = np.zeros((3, 6, 6), np.int64)
    compile_model(model, Machine(), image, lambda: run(model, image[None])).save(path)
    return path


@pytest.mark.parametrize(
    "line",
    ["quant inspect models/lenet5.onnx", "compiler disassemble {program}", "sw_driver info {program}",
     "boards list", "boards area"],
)
def test_no_word(line: str, program: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", *line.format(program=program).split()],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # long before the first word
        assert process.stderr.read() == ""
        assert process.wait(60) == 1


def test_other_ends_are_as_they_were() -> None:
    assert quiet_when_closed(lambda: 3)() == 3
    with pytest.raises(OSError, match="disk"):
        quiet_when_closed(lambda: (_ for _ in ()).throw(OSError("disk")))()
