"""The memory model does what a memory does and notices each broken rule."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
START = ["c", "n 10000", "pre 0 1024", "n 10", "ref", "n 10", "ref", "n 10", "mrs 0 32", "n 10"]

Play = Callable[[list[str]], tuple[list[int], str]]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Play lines at 50 MHz; the values driven after each, and the fault."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    program = tmp_path_factory.mktemp("model") / "check"
    source, include = str(HERE / "sdram_model_check.cpp"), f"-I{HERE.parents[1] / 'boards'}"
    subprocess.run(["g++", "-std=c++20", "-O1", include, source, "-o", str(program)], check=True)

    def run(lines: list[str]) -> tuple[list[int], str]:
        done = subprocess.run(
            [str(program), "50e6"], input="\n".join(lines), capture_output=True, text=True, check=True
        )
        *values, fault = done.stdout.splitlines()
        return [int(value) for value in values], fault.removeprefix("fault").strip()

    return run


def test_values_come_back_after_the_cas_latency(play: Play) -> None:
    values, fault = play([
        *START, "act 1 77", "n 3", "wr 1 5 0 4660 1", "wr 1 6 1 43981 1", "wr 1 6 2 21845 1", "n 2",
        "rd 1 5", "rd 1 6", "n", "n", "pre 0 1024", "n 5", "act 1 77", "n 3", "rd 1 1029", "n", "n",
    ])  # fmt: skip
    assert fault == ""
    first = len(START) + 6
    # the value read at one edge is driven after the next: sampled two edges after the command
    assert values[first + 1 : first + 3] == [4660, (43981 & 0xFF00) | (21845 & 0x00FF)]
    assert values[-2] == 4660


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["c", "n 5000", "pre 0 1024"], "earlier than 200 us"),
        (["c", "n 10000", "act 0 0"], "before the start sequence"),
        (["c", "n 10000", "ref"], "refresh before any precharge"),
        (["c", "n 10000", "pre 0 1024", "n 5", "mrs 0 32"], "mode set before two refreshes"),
        (["c", "n 10000", "pre 0 1024", "n 5", "ref", "n 5", "ref", "n 5", "mrs 0 35"], "bursts of one"),
        (["c", "n 10000", "pre 0 1024", "n 5", "ref", "n 5", "ref", "n 5", "mrs 0 16"], "CAS latency must"),
        (["c", "n 10000", "pre 0 1024", "n 5", "ref", "n 1", "ref"], "too soon after refresh"),
        ([*START, "rd 0 0"], "bank that is closed"),
        ([*START, "act 0 1", "pre 0 0"], "precharge too soon after activate"),
        ([*START, "act 0 1", "wr 0 0 0 1 1"], "access too soon after activate"),
        ([*START, "act 0 1", "n 3", "wr 0 0 0 1 0"], "write without data"),
        ([*START, "act 0 1", "n 5", "act 0 2"], "bank that is open"),
        ([*START, "act 0 1", "n 5", "ref"], "refresh with an open bank"),
        ([*START, "act 0 1", "n 3", "rd 0 0", "wr 0 0 0 1 1"], "drive the data pins at the same time"),
        ([*START, "act 0 1", "n 3", "rd 0 0 3"], "masked"),
        ([*START, "n 4000"], "not refreshed in time"),
        ([*START, "c"], "clock enable went low"),
    ],
)  # fmt: skip
def test_broken_rules(play: Play, lines: list[str], text: str) -> None:
    assert text in play(lines)[1]
