"""The memory of kept weights: both kinds against an array in Verilator, and the block RAMs they take."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.back import rtlil, verilog
from verilated_bench import run_bench

from hw.kept_memory import KEPT_LATENCY, KeptMemory, kept_block_rams, sections

MODEL = Path(__file__).with_name("dp16kd.v")

TEST_BENCH = """
module bench_{shape}(input clk);
    localparam WIDTH = {width}, WORDS = {words}, LATENCY = {latency};
    reg rst = 0, write = 0;
    reg [$clog2(WORDS)-1:0] address = 0;
    reg [WIDTH-1:0] write_data = 0;
    wire [WIDTH-1:0] one_data, two_data;
    portable_{shape} one(.clk, .rst, .address, .write, .write_data, .data(one_data));
    ecp5_{shape} two(.clk, .rst, .address, .write, .write_data, .data(two_data));
    integer cycle = 0, compared = 0;
    always @(negedge clk) begin
        // first every word is written, then reads and writes at random, half of them in a corner
        cycle <= cycle + 1;
        write = cycle < WORDS || 1'($urandom);
        address = $clog2(WORDS)'(cycle < WORDS ? cycle : 32'($urandom) % (cycle[0] ? WORDS : 5));
        write_data = WIDTH'({{$urandom, $urandom, $urandom, $urandom}});
    end
    reg [WIDTH-1:0] content [0:WORDS-1];
    reg [LATENCY-1:0] reads = 0;
    reg [LATENCY*WIDTH-1:0] expected;
    wire [WIDTH-1:0] right = expected[LATENCY*WIDTH-1:(LATENCY-1)*WIDTH];
    always @(posedge clk) begin
        if (write) content[address] <= write_data;
        reads <= {{reads[LATENCY-2:0], ~write}};
        expected <= {{expected[(LATENCY-1)*WIDTH-1:0], content[address]}};
        if (reads[LATENCY-1]) begin
            compared <= compared + 1;
            if (one_data !== right || two_data !== right)
                $fatal(1, "{shape}, cycle %0d: %h, %h, not %h", cycle, one_data, two_data, right);
        end
        if (cycle == {cycles}) $display("compared {shape} %0d", compared);
    end
endmodule
"""

# one section of each width of a block; several sections; words that are no whole number of blocks
SHAPES = [(32, 1024), (64, 2048), (40, 4096), (16, 8192), (8, 16384), (64, 7168), (32, 20480), (4, 33792)]


def test_both_kinds_are_right(tmp_path: Path) -> None:
    sources, cycles = [MODEL], 2 * max(words for _, words in SHAPES)
    for width, words in SHAPES:
        shape = f"{width}x{words}"
        for kind in ("portable", "ecp5"):
            dut = KeptMemory(width, words, kind=kind)  # pyright: ignore[reportArgumentType]
            sources.append(tmp_path / f"{kind}_{shape}.v")
            sources[-1].write_text(verilog.convert(dut, name=f"{kind}_{shape}", emit_src=False))
        sources.append(tmp_path / f"bench_{shape}.sv")
        fields = {"width": width, "words": words, "shape": shape, "cycles": cycles, "latency": KEPT_LATENCY}
        sources[-1].write_text(TEST_BENCH.format(**fields))
    sources.append(tmp_path / "top.sv")
    instances = "".join(f"bench_{width}x{words} b_{width}x{words}(clk);" for width, words in SHAPES)
    sources[-1].write_text(f"module top(input clk); {instances} endmodule")
    found = run_bench(tmp_path, sources, cycles + 2)
    for width, words in SHAPES:
        [count] = [int(line.split()[2]) for line in found.splitlines() if f" {width}x{words} " in line]
        assert count > words // 4, "hardly any word was read"


@pytest.mark.parametrize(
    ("width", "words", "blocks"), [(64, 16384, 64), (64, 20480, 80), (32, 1024, 2), (64, 3072, 12)]
)
def test_block_rams(width: int, words: int, blocks: int) -> None:
    assert kept_block_rams(width, words) == blocks
    netlist = rtlil.convert(KeptMemory(width, words, kind="ecp5"), emit_src=False)
    assert netlist.count("cell \\DP16KD ") == blocks
    assert sum(sections(words)) == words
