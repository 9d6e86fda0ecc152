"""Where the multipliers and the block RAMs lie on the die.

The DSP blocks of an ECP5 stand in a few rows, block RAMs in others, and nextpnr's placer chooses among them
before it knows where the logic will be: the multipliers of one output lane end up all over the die, and the
wires to their adders with them.  Here an output lane has neighbouring multipliers, and the bytes of the
scratchpad's words lie below the lanes to which they go.  For 128 multipliers that takes 31 %
of all wire away (453,000 to 312,000 tiles); nextpnr found no route before (`docs/boards.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

from boards.board import BoardBuild
from boards.inferred_rams import LINK_RAMS, inferred_rams
from boards.parts import Part, Sites
from hw.dual_port_memory import block_rams
from hw.kept_memory import kept_block_rams, sections
from hw.machine import Machine

__all__ = ["Floorplan", "floorplan", "floorplan_script"]

#: Multipliers of one DSP block and block RAMs of one group: columns from the first, names of the sites.
_DSPS = ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5"))
_RAMS = ((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3"))


@dataclass(frozen=True)
class Floorplan:
    """The site of each block, by its name below the system.

    Attributes
    ----------
    instantiated : dict
        Multipliers and the scratchpad's block RAMs.
    inferred : dict
        Block RAMs of the memories that are left to Yosys, as far as it makes as many as expected.
    """

    instantiated: dict[str, str]
    inferred: dict[str, str]


def floorplan(machine: Machine, sites: Sites) -> Floorplan:
    """Sites of all multipliers and block RAMs.

    Output lanes follow each other in a serpentine, because their weights are shifted from one to the next.
    Empty if the die has not so many sites in these rows.
    """
    groups = -(-machine.input_lanes // len(_DSPS))
    in_row = len(sites.columns) // groups
    rows = -(-machine.output_lanes // in_row)
    if rows > len(sites.rows):
        return Floorplan({}, {})
    chosen: dict[str, str] = {}
    centres: list[tuple[int, int]] = []  # of each output lane: row of block RAMs, column
    spare = len(sites.columns) - in_row * groups
    for column in range(machine.output_lanes):
        row, place = divmod(column, in_row)
        here = min(in_row, machine.output_lanes - row * in_row)
        if row % 2:
            place = here - 1 - place
        place += (in_row - here) // 2
        dsp_row, ram_row = sites.rows[row]
        first = spare + place * groups
        starts = sites.columns[first:first + groups]
        free = [f"X{start + offset}/Y{dsp_row}/{name}" for start in starts for offset, name in _DSPS]
        for lane in range(machine.input_lanes):
            chosen[f"core.compute.array.multiplier_{column}_{lane}.dsp"] = free[lane]
        centres.append((ram_row, (starts[0] + starts[-1]) // 2))
    rams = _FreeRams(sites)
    try:
        chosen |= _scratchpad(machine, rams, centres)
        inferred = _inferred(machine, rams, centres)
        return Floorplan(chosen | _kept_weights(machine, rams, centres), inferred)
    except _NoSites:
        return Floorplan({}, {})


class _NoSites(Exception):
    """There are not so many block RAMs left."""


class _FreeRams:
    """Block RAMs without a place."""

    def __init__(self, sites: Sites) -> None:
        rows = (*(row for _, row in sites.rows), *sites.more_rams)
        self._free = {(start + offset, row): f"X{start + offset}/Y{row}/{name}"
                      for row in rows for start in sites.columns for offset, name in _RAMS}

    def take(self, row: int, column: float, count: int, *, same_row: bool = False) -> list[str]:
        """``count`` of them, as near as can be to a place, from left to right."""
        near = sorted((place for place in self._free if place[1] == row or not same_row),
                      key=lambda place: (abs(place[0] + 1 - column) + 2 * abs(place[1] - row), place))[:count]
        if len(near) < count:
            raise _NoSites
        return [self._free.pop(place) for place in sorted(near)]


def _scratchpad(machine: Machine, rams: _FreeRams, centres: list[tuple[int, int]]) -> dict[str, str]:
    """The scratchpad's banks, as near as can be to the lanes of their bytes."""
    rows = machine.scratchpad_words // machine.input_lanes
    width = 8 * machine.word_bytes
    blocks = block_rams(width, rows)
    used = -(-width // blocks)
    chosen: dict[str, str] = {}
    for block in range(blocks):
        lanes = centres[block * used // 8:-(-min((block + 1) * used, width) // 8)]
        centre = sum(column for _, column in lanes) / len(lanes)
        places = rams.take(lanes[0][0], centre, machine.input_lanes, same_row=True)
        for bank, place in enumerate(places):
            chosen[f"core.scratchpad.bank_{bank}.block_0_{block}"] = place
    return chosen


def _kept_weights(machine: Machine, rams: _FreeRams, centres: list[tuple[int, int]]) -> dict[str, str]:
    """The memory of kept weights: near the last lane, where weights enter, as far as there is room."""
    counts = [kept_block_rams(machine.bus_width, size) for size in sections(machine.kept_weight_words)]
    places = rams.take(*centres[-1], sum(counts))
    names = [f"core.kept_weights.memory.block_{section}_{number}" for section, count in enumerate(counts)
             for number in range(count)]
    return dict(zip(names, places, strict=True))


def _inferred(machine: Machine, rams: _FreeRams, centres: list[tuple[int, int]]) -> dict[str, str]:
    """Memories that are left to Yosys, except those of weight decoders.

    The placer would put some of them upon those that have their places, and not always find out of it.

    Each lane's sums are at the lane, weights at the last lane, where they enter the array, and
    feature maps on their way in the middle; on their way out nearer to the right, because the middle is
    dense.  The link is at the right, where an ULX3S has its memory.
    """
    rows, columns = zip(*centres, strict=True)
    middle = sum(rows) // len(rows), sum(columns) // len(columns)
    wanted: dict[tuple[int, int], list[str]] = {}  # blocks by where they should be
    for memory, count in inferred_rams(machine).items():
        unit, *_, name = memory.split(".")
        place = middle
        if unit == "compute":
            place = centres[int(name.removeprefix("ram"))]
        elif unit == "weights":
            place = centres[-1]
        elif unit == "store":
            place = middle[0], (middle[1] + max(columns)) // 2
        wanted.setdefault(place, []).extend(f"core.{memory}.0.{number}" for number in range(count))
    for memory, count in LINK_RAMS.items():
        place = middle[0], max(columns)
        wanted.setdefault(place, []).extend(f"{memory}.0.{number}" for number in range(count))
    return {name: site for place, names in wanted.items()
            for name, site in zip(names, rams.take(*place, len(names)), strict=True)}


def floorplan_script(part: Part, job: BoardBuild) -> str:
    """Commands for Yosys, after synthesis, that put everything into its place; instances must be there.

    Empty if the part's sites are not known, or the blocks are left to inference.
    """
    if part.sites is None or job.multiplier != "ecp5":
        return ""
    plan = floorplan(job.machine, part.sites)
    lines = [f"select -assert-count 1 c:system.{name}" for name in plan.instantiated]
    for name, site in (plan.instantiated | plan.inferred).items():
        lines.append(f'setattr -set BEL "{site}" c:system.{name}')
    return "\n".join(lines)
