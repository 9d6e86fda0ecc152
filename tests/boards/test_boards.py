"""Every board: its design is made, and (slow) its bitstream is built."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

pytest.importorskip("litedram", reason="LiteDRAM is not installed")
pytest.importorskip("amaranth_boards", reason="amaranth-boards is not installed")

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from boards import icebreaker
from boards.board import Board, Files
from boards.build import build, machine_of
from boards.fit import FitError
from boards.pll import ClockError
from boards.registry import BoardError, all_boards, find_board
from boards.toolchain import ToolError, find_tool
from hw.axi import AXI4, AXI4Lite

BOARDS = {board.name: board for board in all_boards()}

#: Pins that the design of each board uses: memory, clock, line, LEDs, buttons.
PINS = {
    "ulx3s-85f": 39 + 7,
    "ulx3s-25f": 39 + 7,
    "ulx3s-12f": 39 + 7,
    "ecpix5-85f": 15 + 3 + 3 + 16 + 2 + 2 + 1 + 2 + 2 * (1 + 2),
    "orangecrab-85f": 47 + 8 + 1 + 2 + 3,
    "colorlight-i9": 32 + 11 + 2 + 4 + 5,
    "icebreaker": 5,
}

#: Smaller machines than the default where that takes too long to build.
SMALL = {
    "ulx3s-85f": '{"input_lanes": 4, "output_lanes": 8, "scratchpad_words": 2048}',
    "ecpix5-85f": '{"input_lanes": 4, "output_lanes": 8, "scratchpad_words": 2048}',
    "orangecrab-85f": '{"input_lanes": 4, "output_lanes": 8, "scratchpad_words": 2048}',
}


@functools.cache
def design(name: str) -> Files:
    """The files of a board, with a machine that is quickly built."""
    board = BOARDS[name]
    return board.design(board.job(machine=machine_of(SMALL.get(name), board.machine)))


def locations(files: Files) -> dict[str, str]:
    """Port of each pin."""
    text = str(files.get("top.lpf") or files["top.pcf"])
    found = re.findall(r'LOCATE COMP "(\S+)" SITE "(\S+)"|set_io (\S+) (\S+)', text)
    return {one[1] or one[3]: one[0] or one[2] for one in found}


@pytest.mark.parametrize("name", BOARDS)
def test_design(name: str) -> None:
    board = BOARDS[name]
    files = design(name)
    pins = locations(files)
    text = str(files.get("top.lpf") or files["top.pcf"])
    assert len(pins) == text.count("LOCATE COMP") + text.count("set_io")  # no pin twice
    assert len(pins) == PINS[name]
    assert "area.json" in str(files["top.ys"])
    if board.part.flow.place == "nextpnr-ecp5":
        assert "module litedram_core" in str(files["litedram_core.v"])


def test_orangecrab_pins() -> None:
    """Where amaranth-boards and litex-boards differ, the latter's."""
    pins = locations(design("orangecrab-85f"))
    by_port = {port: pin for pin, port in pins.items()}
    assert [by_port[f"ddr3_0__ba__io[{bit}]"] for bit in range(3)] == ["D6", "B7", "A6"]
    assert (by_port["uart_0__rx__io"], by_port["uart_0__tx__io"]) == ("N17", "M18")


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_bitstream(name: str, tmp_path: Path) -> None:
    board = BOARDS[name]
    report = _build(board, tmp_path)
    assert report["clock_reached_mhz"] >= board.clock_mhz
    assert (tmp_path / board.part.flow.bitstream).stat().st_size > 50_000
    for resource, available in board.part.resources.items():
        assert report[resource] <= available


def _build(board: Board, folder: Path) -> dict:
    job = board.job(machine=machine_of(SMALL.get(board.name), board.machine))
    return build(job, folder, say=lambda text: None)


class _Nothing(Component):
    """In place of the accelerator: answers every register access, and wants no memory."""

    def __init__(self) -> None:
        super().__init__({"m_axi": Out(AXI4(32)), "s_axil": In(AXI4Lite(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.s_axil
        m.d.comb += [
            bus.arready.eq(bus.rready),
            bus.rvalid.eq(bus.arvalid),
            bus.awready.eq(bus.bready),
            bus.wready.eq(bus.bready),
            bus.bvalid.eq(bus.awvalid & bus.wvalid),
        ]
        return m


def test_icebreaker_clocks() -> None:
    """The crystal's clock without a PLL, others with one."""
    board = find_board("icebreaker")
    for clock, frequency in ((12.0, None), (24.0, 24.0), (21.0, 21.0)):
        job = board.job(clock_mhz=clock)
        files = board.design(job)
        assert ("SB_PLL40_PAD" in str(files["top.il"])) == (frequency is not None)
        found = re.findall(r"set_frequency \S+ (\S+)", str(files["top.pcf"]))
        assert sorted(map(float, found)) == sorted({12.0, clock})
    with pytest.raises(ClockError, match=r"the PLL cannot make 13\.1 MHz .* the nearest is 13\.125"):
        board.design(board.job(clock_mhz=13.1))


@pytest.mark.slow
def test_icebreaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core with queues is found too large; link and memory alone go through the whole flow."""
    board = find_board("icebreaker")
    large = board.job(machine=machine_of('{"in_order": false, "scratchpad_words": 256}', board.machine))
    needs = r"icebreaker: the design needs \d+ LUTs of 5280.*only machines with in_order fit"
    with pytest.raises(FitError, match=needs):
        build(large, tmp_path / "whole", say=lambda text: None)
    assert not list((tmp_path / "whole").glob("top.*"))

    monkeypatch.setattr(
        "boards.build._design",
        lambda board, job: {
            name: content
            for name, content in icebreaker.files(_Nothing(), 32, icebreaker.CRYSTAL_HZ, job.baud).items()
            if not name.startswith("build_")
        },
    )
    report = build(board.job(clock_mhz=12.0), tmp_path / "link", say=lambda text: None)
    assert report["clock_reached_mhz"] >= 12
    assert report["large_rams"] == 4
    assert report["luts"] < 2500
    assert (tmp_path / "link" / "top.bin").stat().st_size > 50_000


def test_tool_without_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "icepack"
    script.write_text("#!/bin/sh\necho 'Usage: icepack [options]'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("ICEPACK", str(script))
    assert find_tool("icepack").version == "icepack"
    script.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ToolError, match="ICEPACK"):
        find_tool("icepack")


def test_boards_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'amaranth_boards'", name="amaranth_boards")

    monkeypatch.setattr("boards.registry.importlib.import_module", missing)
    with pytest.raises(BoardError, match=r"amaranth_boards is not installed: .*\[board\]"):
        all_boards()
