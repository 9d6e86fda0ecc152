"""Which registers move into block RAMs, and that nothing else in the netlist changes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import rtlil

from boards.netlist import finish_netlist
from boards.output_registers import absorb_output_registers
from boards.toolchain import find_tool, run_tool
from hw.block_queue import BlockQueue
from hw.repeating_fifo import SECTION

CLOCK, OTHER_CLOCK = 2, 3


def block(width: int) -> dict[str, Any]:
    """A block RAM whose outputs DOx0 and DOx1 are nets 10, 11 and 20, 21."""
    pins: dict[str, list[Any]] = {f"DO{side}{number}": [10 * (side == "A") + 20 * (side == "B") + number]
                                  for side in "AB" for number in range(2)}
    for side in "AB":
        pins |= {f"CLK{side}": [CLOCK], f"OCE{side}": ["0"], f"RST{side}": ["0"]}
    return {
        "type": "DP16KD",
        "parameters": {f"{name}_{side}": value for side in "AB"
                       for name, value in (("DATA_WIDTH", f"{width:032b}"), ("REGMODE", "NOREG"))},
        "port_directions": {pin: "output" if pin.startswith("DO") else "input" for pin in pins},
        "connections": pins,
    }


def flip_flop(data: int) -> dict[str, Any]:
    return {
        "type": "TRELLIS_FF",
        "parameters": {"CEMUX": "1 ", "CLKMUX": "CLK", "GSR": "DISABLED", "LSRMUX": "LSR", "REGSET": "RESET"},
        "port_directions": {"CLK": "input", "DI": "input", "LSR": "input", "Q": "output"},
        "connections": {"CLK": [CLOCK], "DI": [data], "LSR": ["0"], "Q": [data + 100]},
    }


def module(width: int, *, sides: str = "AB") -> dict[str, Any]:
    cells = {"block": block(width)}
    for side, first in (("A", 10), ("B", 20)):
        if side in sides:
            cells |= {f"{side}{number}": flip_flop(first + number) for number in range(2)}
    return {"ports": {"clk": {"direction": "input", "bits": [CLOCK]}}, "cells": cells}


@pytest.mark.parametrize("width", [1, 2, 4, 9, 18])
@pytest.mark.parametrize("sides", ["A", "B", "AB"])
def test_registers_move(width: int, sides: str) -> None:
    top = module(width, sides=sides)
    expected = copy.deepcopy(top["cells"]["block"])
    for side in sides:
        expected["parameters"][f"REGMODE_{side}"] = "OUTREG"
        expected["connections"][f"OCE{side}"] = ["1"]
        for number in range(2):
            expected["connections"][f"DO{side}{number}"][0] += 100
    assert absorb_output_registers(top) == 2 * len(sides)
    assert top["cells"] == {"block": expected}


def test_36_bits_move_together() -> None:
    top = module(36)
    assert absorb_output_registers(top) == 4
    assert {top["cells"]["block"]["parameters"][f"REGMODE_{side}"] for side in "AB"} == {"OUTREG"}
    top = module(36)
    top["cells"]["A1"]["parameters"]["CEMUX"] = "CE"
    before = copy.deepcopy(top)
    assert absorb_output_registers(top) == 0
    assert top == before


@pytest.mark.parametrize(("cell", "part", "name", "value"), [
    ("A1", "parameters", "CEMUX", "CE"),
    ("A1", "parameters", "REGSET", "SET"),
    ("A1", "parameters", "CLKMUX", "INV"),
    ("A1", "parameters", "LSRMUX", "INV"),
    ("A1", "connections", "LSR", [7]),
    ("A1", "connections", "CLK", [OTHER_CLOCK]),
    ("block", "parameters", "REGMODE_A", "OUTREG"),
    ("block", "connections", "RSTA", [7]),
])
def test_others_stay(cell: str, part: str, name: str, value: Any) -> None:
    top = module(18)
    top["cells"][cell][part][name] = value
    assert absorb_output_registers(top) == 2
    assert sorted(top["cells"]) == ["A0", "A1", "block"]
    assert top["cells"]["block"]["connections"]["DOA1"] == [11]


@pytest.mark.parametrize("reader", ["flip-flop", "enable", "port"])
def test_second_readers(reader: str) -> None:
    top = module(18)
    if reader == "port":
        top["ports"]["out"] = {"direction": "output", "bits": [11]}
    else:
        top["cells"]["second"] = second = flip_flop(11)
        if reader == "enable":
            second["connections"] |= {"DI": [8], "CE": [11]}
            second["port_directions"]["CE"] = "input"
    assert absorb_output_registers(top) == 2
    assert {"A0", "A1"} <= set(top["cells"])


def test_open_inputs_read_nothing() -> None:
    top = module(18)
    top["cells"]["open"] = flip_flop(8)
    top["cells"]["open"]["connections"]["DI"] = ["x"]
    assert absorb_output_registers(top) == 4


@pytest.mark.parametrize(("width", "depth"), [(36, 512), (9, 2048), (64, 512), (9, 4096)])
def test_queues(width: int, depth: int, tmp_path: Path) -> None:
    """What Yosys makes of a queue: all of an entry's register moves."""
    (tmp_path / "queue.il").write_text(rtlil.convert(BlockQueue(width=width, depth=depth), name="top"))
    script = "read_rtlil queue.il; synth_ecp5 -top top -json top.json"
    run_tool(find_tool("yosys"), ["-q", "-p", script], tmp_path, tmp_path / "log", lambda line, seconds: None)
    top = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]
    before = copy.deepcopy(top["cells"])
    moved = absorb_output_registers(top)
    after = top["cells"]
    assert moved == len(before) - len(after) == width * max(depth // SECTION, 1)
    blocks = [name for name, cell in after.items() if cell["type"] == "DP16KD"]
    assert blocks
    data = {cell["connections"]["Q"][0]: cell["connections"]["DI"][0]
            for name, cell in before.items() if name not in after}
    for name in blocks:
        for pin, [net] in after[name]["connections"].items():
            if pin.startswith("DO"):
                assert before[name]["connections"][pin] == [data.get(net, net)]


def test_finished_netlist(tmp_path: Path) -> None:
    path = tmp_path / "top.json"
    path.write_text(json.dumps({"creator": "Yosys", "modules": {"top": module(18), "other": module(18)}}))
    finish_netlist(path, {"router2/estimateWeight": "1.000000"})
    design = json.loads(path.read_text())
    assert list(design["modules"]["top"]["cells"]) == ["block"]
    assert design["modules"]["top"]["settings"] == {"router2/estimateWeight": "1.000000"}
    assert design["modules"]["other"] == module(18)
