"""Where the multipliers and the scratchpad's memory lie on the die.

The DSP blocks of an ECP5 stand in a few rows, block RAMs in others, and nextpnr's placer chooses among them
before it knows where the logic will be: the multipliers of one output lane end up all over the die, and the
wires to their adders with them.  Here an output lane has neighbouring multipliers, and the bytes of the
scratchpad's words lie below the lanes to which they go.  For 128 multipliers that takes 31 %
of all wire away (453,000 to 312,000 tiles); nextpnr found no route before (`docs/boards.md`).
"""

from __future__ import annotations

from boards.board import BoardBuild
from boards.parts import Part, Sites
from hw.dual_port_memory import block_rams
from hw.machine import Machine

__all__ = ["floorplan", "floorplan_script"]

#: Multipliers of one DSP block and block RAMs of one group: columns from the first, names of the sites.
_DSPS = ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5"))
_RAMS = ((0, "EBR0"), (2, "EBR1"), (4, "EBR2"), (6, "EBR3"))


def floorplan(machine: Machine, sites: Sites) -> dict[str, str]:
    """Site of each multiplier and each of the scratchpad's block RAMs, by their names below the core.

    Output lanes follow each other in a serpentine, because their weights are shifted from one to the next.
    Empty if the die has not so many sites in these rows.
    """
    groups = -(-machine.input_lanes // len(_DSPS))
    in_row = len(sites.columns) // groups
    rows = -(-machine.output_lanes // in_row)
    if rows > len(sites.rows):
        return {}
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
            chosen[f"compute.array.multiplier_{column}_{lane}.dsp"] = free[lane]
        centres.append((ram_row, (starts[0] + starts[-1]) // 2))
    memory = _memory_sites(machine, sites, centres)
    return chosen | memory if memory else {}


def _memory_sites(machine: Machine, sites: Sites, centres: list[tuple[int, int]]) -> dict[str, str]:
    """A site for each block RAM of the scratchpad's banks, as near as can be to the lanes of its bytes."""
    rows = machine.scratchpad_words // machine.input_lanes
    width = 8 * machine.word_bytes
    blocks = block_rams(width, rows)
    used = -(-width // blocks)
    free = {row: [(start + offset, name) for start in sites.columns for offset, name in _RAMS]
            for _, row in sites.rows}
    chosen: dict[str, str] = {}
    for block in range(blocks):
        lanes = centres[block * used // 8:-(-min((block + 1) * used, width) // 8)]
        row = lanes[0][0]
        centre = sum(column for _, column in lanes) / len(lanes)
        near = sorted(free[row], key=lambda site: (abs(site[0] + 1 - centre), site))[:machine.input_lanes]
        if len(near) < machine.input_lanes:
            return {}
        free[row] = [site for site in free[row] if site not in near]
        for bank, (column, name) in enumerate(sorted(near)):
            chosen[f"scratchpad.bank_{bank}.block_0_{block}"] = f"X{column}/Y{row}/{name}"
    return chosen


def floorplan_script(part: Part, job: BoardBuild, core: str = "system.core") -> str:
    """Commands for Yosys, after synthesis, that put everything into its place; each name must be there.

    Empty if the part's sites are not known, or the blocks are left to inference.
    """
    if part.sites is None or job.multiplier != "ecp5":
        return ""
    lines: list[str] = []
    for name, site in floorplan(job.machine, part.sites).items():
        cell = f"c:{core}.{name}"
        lines += [f"select -assert-count 1 {cell}", f'setattr -set BEL "{site}" {cell}']
    return "\n".join(lines)
