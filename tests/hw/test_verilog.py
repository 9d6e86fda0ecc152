"""The Verilog of the accelerator: port names, options, refusals."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hw.axi import AXI4, AXI4Lite
from hw.dual_port_memory import block_rams
from hw.machine import Machine
from hw.verilog import main, verilog_of

SMALL = Machine(
    input_lanes=4,
    output_lanes=4,
    bus_width=32,
    scratchpad_words=256,
    accumulator_depth=16,
    weight_fifo_words=32,
    average_pooling=False,
)


def ports_of(text: str, name: str = "core") -> dict[str, tuple[str, int]]:
    """Direction and width of the top module's ports."""
    body = re.search(rf"^module {name}\b.*?^endmodule", text, re.M | re.S)
    assert body
    return {
        found[3]: (found[1], int(found[2] or 0) + 1)
        for found in re.finditer(r"^  (input|output) (?:\[(\d+):0\] )?(\w+) *;", body[0], re.M)
    }


def test_ports() -> None:
    ports = ports_of(verilog_of(SMALL))
    expected = {"clk": ("input", 1), "rst": ("input", 1), "layer": ("output", 16)}
    for name in (
        "done",
        "compute_busy",
        "compute_token_wait",
        "compute_weight_wait",
        "load_busy",
        "store_busy",
    ):
        expected[name] = ("output", 1)
    for prefix, signature in (("m_axi", AXI4(32)), ("s_axil", AXI4Lite(8).flip())):
        for name, member in signature.members.items():
            expected[f"{prefix}_{name}"] = (
                member.flow.name.replace("Out", "output").replace("In", "input"),
                member.shape if isinstance(member.shape, int) else 1,
            )
    assert ports == expected


def test_ecp5_has_its_block_rams() -> None:
    text = verilog_of(SMALL, multiplier="ecp5", name="top")
    bank = block_rams(8 * SMALL.word_bytes, SMALL.scratchpad_words // SMALL.input_lanes)
    assert len(re.findall(r"^  DP16KD ", text, re.M)) == SMALL.input_lanes * bank
    assert len(re.findall(r"^  MULT18X18D ", text, re.M)) == SMALL.multipliers
    assert ports_of(text, "top")


def test_command(tmp_path: Path) -> None:
    output = tmp_path / "core.v"
    description = tmp_path / "machine.json"
    description.write_text(json.dumps(SMALL.to_json()))
    assert main(["-o", str(output), "--machine", str(description), "--weight-fifo-words", "64"]) == 0
    assert output.read_text() == verilog_of(replace(SMALL, weight_fifo_words=64))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["core.v", "machine.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bus-width", "48"], "bus_width must be 32, 64 or 128, not 48"),
        (["--machine", "missing.json"], "missing.json: not a machine description"),
    ],
)
def test_refusals(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "core.v"
    assert main(["-o", str(output), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "-o",
                str(tmp_path / "missing" / "core.v"),
                "--input-lanes",
                "4",
                "--output-lanes",
                "4",
                "--bus-width",
                "32",
                "--no-average-pooling",
            ]
        )
        == 1
    )
    assert "missing" in capsys.readouterr().err
