"""The floorplan: every block has its own place, near the others of its lane, and the netlist has its name."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from amaranth.back import rtlil

from boards.area import board_area
from boards.board import BoardBuild
from boards.floorplan import Floorplan, floorplan, floorplan_script
from boards.parts import Part, Sites, ecp5
from boards.registry import find_board
from hw.accelerator import accelerator
from hw.dual_port_memory import block_rams
from hw.kept_memory import kept_block_rams
from hw.machine import Machine

PART = ecp5("LFE5U", "85F", "BG381", 6)
SMALLER = ecp5("LFE5U", "45F", "BG381", 6)
MACHINES = {
    "8x16": Machine(),
    "4x8": Machine(input_lanes=4, output_lanes=8, scratchpad_words=2048, weight_fifo_words=512),
    "8x16, kept weights": Machine(kept_weight_words=16384),
    "8x8": Machine(input_lanes=8, output_lanes=8),
    "4x32": Machine(input_lanes=4, output_lanes=32, weight_fifo_words=512),
    "4x4, many words": Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=16384),
}


def sites_of(part_sites: Sites) -> set[str]:
    """All there are."""
    dsps = {f"X{x + dx}/Y{row}/MULT18_{n}" for x in part_sites.columns for row, _ in part_sites.rows
            for dx, n in ((0, 0), (1, 1), (4, 4), (5, 5))}
    rows = (*(row for _, row in part_sites.rows), *part_sites.more_rams)
    rams = {f"X{x + 2 * n}/Y{row}/EBR{n}" for x in part_sites.columns for row in rows for n in range(4)}
    return dsps | rams


def column_of(site: str) -> int:
    return int(re.findall(r"\d+", site)[0])


@pytest.mark.parametrize(
    ("part", "name"),
    [*((PART, name) for name in MACHINES), (SMALLER, "8x8"), (SMALLER, "4x8")],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_each_block_has_a_place(part: Part, name: str) -> None:
    machine = MACHINES[name]
    assert part.sites is not None
    assert part.resources["block_rams"] == len({site for site in sites_of(part.sites) if "EBR" in site})
    assert part.resources["dsps"] == len({site for site in sites_of(part.sites) if "MULT" in site})
    plan = floorplan(machine, part.sites)
    rams = machine.input_lanes * block_rams(8 * machine.word_bytes,
                                            machine.scratchpad_words // machine.input_lanes)
    rams += kept_block_rams(machine.bus_width, machine.kept_weight_words)
    assert len(plan.instantiated) == machine.multipliers + rams
    assert len(plan.inferred) == board_area(machine, "sdram")["block_rams"] - rams
    sites = [*plan.instantiated.values(), *plan.inferred.values()]
    assert len(set(sites)) == len(sites)
    assert set(sites) <= sites_of(part.sites)
    assert sum("MULT18" in site for site in sites) == machine.multipliers
    for column in range(machine.output_lanes):
        places = [plan.instantiated[f"core.compute.array.multiplier_{column}_{lane}.dsp"]
                  for lane in range(machine.input_lanes)]
        assert len({place.split("/")[1] for place in places}) == 1, "one output lane in two rows"
        columns = [column_of(place) for place in places]
        assert max(columns) - min(columns) <= 3 * machine.input_lanes


@pytest.mark.parametrize("name", ["4x8", "4x4, many words", "8x16, kept weights"])
def test_the_netlist_has_the_names(name: str) -> None:
    assert PART.sites is not None
    netlist = rtlil.convert(accelerator(MACHINES[name], "ecp5"), emit_src=False)
    for path in floorplan(MACHINES[name], PART.sites).instantiated:
        *modules, cell = path.removeprefix("core.").split(".")
        module = re.escape(".".join(["top", *modules]))
        body = re.search(rf"^module \\{module}$(.*?)^end$", netlist, re.DOTALL | re.MULTILINE)
        assert body, path
        assert re.search(rf"cell \S+ \\{cell}$", body[1], re.MULTILINE), path


def test_too_large_for_the_rows() -> None:
    assert PART.sites is not None
    assert floorplan(Machine(input_lanes=16, output_lanes=16), PART.sites) == Floorplan({}, {})


def test_script_is_part_of_the_design() -> None:
    board = find_board("ulx3s-85f")
    job = board.job(machine=MACHINES["4x8"])
    script = floorplan_script(board.part, job)
    assert script.count("setattr") > script.count("select -assert-count 1 c:system.core.") > 32
    files = board.design(job)
    assert script in str(files["top.ys"])
    assert "BEL" not in str(board.design(board.job(machine=MACHINES["4x8"], multiplier="portable"))["top.ys"])


def test_other_dies_have_none() -> None:
    board = find_board("ulx3s-25f")
    assert floorplan_script(board.part, board.job()) == ""


def test_job_of_another_kind() -> None:
    job: BoardBuild = replace(find_board("ulx3s-85f").job(), multiplier="portable")
    assert floorplan_script(PART, job) == ""
