"""The dual-port memory: both kinds against an array in Verilator, and the block RAMs they take."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from amaranth.back import rtlil, verilog
from verilated_bench import run_bench

from hw.dual_port_memory import PORT_LATENCY, DualPortMemory, block_rams

MODEL = Path(__file__).with_name("dp16kd.v")

TEST_BENCH = """
module bench_{shape}(input clk);
    localparam WIDTH = {width}, ADDRESS = {address}, LATENCY = {latency};
    reg rst = 0, a_enable = 0, b_read = 0, b_write = 0;
    reg [ADDRESS-1:0] a_address = 0, b_address = 0;
    reg [WIDTH-1:0] b_write_data = 0, late_data = 0;
    wire [WIDTH-1:0] a_one, a_two, b_one, b_two;
    portable_{shape} one(.clk, .rst, .a_enable, .a_address, .b_read, .b_write, .b_address,
                 .b_write_data(late_data), .a_data(a_one), .b_data(b_one));
    ecp5_{shape} two(.clk, .rst, .a_enable, .a_address, .b_read, .b_write, .b_address,
             .b_write_data(late_data), .a_data(a_two), .b_data(b_two));
    reg wrote = 0;
    reg [ADDRESS-1:0] wrote_address = 0;
    integer cycle = 0, compared_a = 0, compared_b = 0, fresh = 0;
    always @(negedge clk) begin
        wrote = b_write; wrote_address = b_address;
        late_data = b_write_data;  // a cycle after its address
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
            if (wrote && 2'($urandom) == 0) b_address = wrote_address;
            if (wrote && 2'($urandom) == 0) a_address = wrote_address;
            if (b_write && a_address == b_address) a_enable = 0;
        end
        b_write_data = WIDTH'({{$urandom, $urandom, $urandom, $urandom}});
    end
    reg [WIDTH-1:0] words [0:(1 << ADDRESS)-1];
    reg [LATENCY-1:0] a_there = 0;
    reg [LATENCY-1:0] b_there = 0;
    reg [LATENCY*WIDTH-1:0] a_words;
    reg [LATENCY*WIDTH-1:0] b_words;
    wire [WIDTH-1:0] a_right = a_words[LATENCY*WIDTH-1:(LATENCY-1)*WIDTH];
    wire [WIDTH-1:0] b_right = b_words[LATENCY*WIDTH-1:(LATENCY-1)*WIDTH];
    always @(posedge clk) begin
        if (b_write) words[b_address] <= b_write_data;
        a_there <= {{a_there[LATENCY-2:0], a_enable}};
        a_words <= {{a_words[(LATENCY-1)*WIDTH-1:0], words[a_address]}};
        b_there <= {{b_there[LATENCY-2:0], b_read}};
        b_words <= {{b_words[(LATENCY-1)*WIDTH-1:0], words[b_address]}};
        if (a_there[LATENCY-1]) begin
            compared_a <= compared_a + 1;
            if (a_one !== a_right || a_two !== a_right)
                $fatal(1, "port A, cycle %0d: %h, %h, not %h", cycle, a_one, a_two, a_right);
        end
        if (b_there[LATENCY-1]) begin
            compared_b <= compared_b + 1;
            if (b_one !== b_right || b_two !== b_right)
                $fatal(1, "port B, cycle %0d: %h, %h, not %h", cycle, b_one, b_two, b_right);
        end
        fresh <= fresh + 32'((b_read && wrote && b_address == wrote_address)
                            || (a_enable && wrote && a_address == wrote_address));
        if (cycle == {cycles}) $display("compared {shape} %0d %0d %0d", compared_a, compared_b, fresh);
    end
endmodule
"""

# 18, 9, 4, 2 and 1 bits a block; two banks; words that are no whole number of blocks; few words
SHAPES = [
    (32, 16),
    (64, 64),
    (32, 256),
    (128, 1024),
    (64, 2048),
    (40, 4096),
    (32, 8192),
    (16, 16384),
    (8, 32768),
]


def test_both_kinds_are_right(tmp_path: Path) -> None:
    sources = [MODEL]
    cycles = 2 * max(depth for _, depth in SHAPES)
    for width, depth in SHAPES:
        shape = f"{width}x{depth}"
        for kind in ("portable", "ecp5"):
            dut = DualPortMemory(width, depth, kind=kind)  # pyright: ignore[reportArgumentType]
            sources.append(tmp_path / f"{kind}_{shape}.v")
            sources[-1].write_text(verilog.convert(dut, name=f"{kind}_{shape}", emit_src=False))
        sources.append(tmp_path / f"bench_{shape}.sv")
        sources[-1].write_text(
            TEST_BENCH.format(
                width=width,
                address=depth.bit_length() - 1,
                shape=shape,
                cycles=cycles,
                latency=PORT_LATENCY,
            )
        )
    sources.append(tmp_path / "top.sv")
    instances = "".join(f"bench_{width}x{depth} b_{width}x{depth}(clk);" for width, depth in SHAPES)
    sources[-1].write_text(f"module top(input clk); {instances} endmodule")
    found = run_bench(tmp_path, sources, cycles + 2)
    counts = {
        name: [int(number) for number in numbers]
        for word, name, *numbers in map(str.split, found.splitlines())
        if word == "compared"
    }
    for width, depth in SHAPES:
        assert min(counts[f"{width}x{depth}"]) > (cycles - depth) // 50


@pytest.mark.parametrize(
    ("width", "depth", "blocks"),
    [
        (128, 8192, 64),
        (128, 1024, 8),
        (32, 256, 2),
        (32, 64, 2),
        (64, 2048, 8),
        (128, 16384, 128),
        (128, 32768, 256),
    ],
)
def test_block_rams(width: int, depth: int, blocks: int) -> None:
    text = rtlil.convert(DualPortMemory(width, depth, kind="ecp5"))
    assert text.count("cell \\DP16KD") == block_rams(width, depth) == blocks


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="kind must be 'portable' or 'ecp5', not 'magic'"):
        DualPortMemory(8, 256, kind="magic")  # pyright: ignore[reportArgumentType]
    gc.collect()
