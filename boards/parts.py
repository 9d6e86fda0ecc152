"""The FPGAs of the boards: what they have, and the tools that make their bitstreams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ECP5_FLOW", "ICE40_FLOW", "RESOURCES", "Flow", "Part", "Sites", "ecp5", "ice40_up5k"]

#: What parts have and designs need; the names are those of `report.json`.
RESOURCES = ("luts", "ffs", "dsps", "block_rams", "large_rams")


@dataclass(frozen=True)
class Flow:
    """From a synthesized netlist to a bitstream.

    Attributes
    ----------
    place, pack : str
        Tools, as `boards.toolchain.find_tool` knows them.
    place_arguments, pack_arguments : tuple of str
        Their arguments: the files of a build.
    bitstream : str
        The file that ``pack`` writes.
    placers : tuple of str
        Placers of ``place``, the next where the one before finds no end; empty: its own.
    settings : dict
        What ``place`` is told by the netlist, because it has no options for it.
    cells : dict
        How much of which resource one cell of the synthesized netlist takes.
    utilization : dict
        Resource of each entry of the router's report.
    """

    place: str
    pack: str
    place_arguments: tuple[str, ...]
    pack_arguments: tuple[str, ...]
    bitstream: str
    cells: Mapping[str, tuple[str, int]]
    utilization: Mapping[str, str]
    placers: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def used_by_netlist(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Resources that a netlist with these cells needs at least."""
        used: dict[str, int] = dict.fromkeys(RESOURCES, 0)
        for cell, count in counts.items():
            resource, weight = self.cells.get(cell, ("", 0))
            if resource:
                used[resource] += weight * count
        return used

    def used_by_route(
        self, utilization: Mapping[str, Mapping[str, int]], netlist: Mapping[str, int]
    ) -> dict[str, int]:
        """Resources that a routed design takes: the router's figures, and the netlist's where it has none."""
        used: dict[str, int] = {**netlist, **dict.fromkeys(self.utilization.values(), 0)}
        for entry, resource in self.utilization.items():
            used[resource] += utilization.get(entry, {}).get("used", 0)
        return used


ECP5_FLOW = Flow(
    place="nextpnr-ecp5",
    pack="ecppack",
    place_arguments=(
        "--json", "top.json", "--lpf", "top.lpf", "--textcfg", "top.config", "--router", "router2",
    ),
    # the default placer takes a quarter more wire for a large array
    placers=("static", "heap"),
    # By default distances to go count 1.25 times: found sooner, but a wire that is laid last goes a long way
    # around, and one such wire is enough to spoil the clock (docs/boards.md, "From Yosys to the router").
    settings={"router2/estimateWeight": "1.000000"},
    pack_arguments=("--compress", "--input", "top.config", "--bit", "top.bit"),
    bitstream="top.bit",
    cells={
        "LUT4": ("luts", 1),
        "CCU2C": ("luts", 2),
        "TRELLIS_DPR16X4": ("luts", 6),
        "TRELLIS_FF": ("ffs", 1),
        "MULT18X18D": ("dsps", 1),
        "DP16KD": ("block_rams", 1),
    },
    utilization={
        "TRELLIS_COMB": "luts",
        "TRELLIS_FF": "ffs",
        "MULT18X18D": "dsps",
        "DP16KD": "block_rams",
    },
)

#: A logic cell has a LUT and a flip-flop: the flip-flops count towards `ffs` as long as nothing is placed,
#: and the router reports cells.
ICE40_FLOW = Flow(
    place="nextpnr-ice40",
    pack="icepack",
    place_arguments=("--json", "top.json", "--pcf", "top.pcf", "--asc", "top.asc"),
    pack_arguments=("top.asc", "top.bin"),
    bitstream="top.bin",
    cells={
        "SB_LUT4": ("luts", 1),
        **{f"SB_DFF{edge}{kind}": ("ffs", 1)
           for edge in ("", "N")
           for kind in ("", "E", "R", "S", "SR", "SS", "ER", "ES", "ESR", "ESS")},
        "SB_MAC16": ("dsps", 1),
        "SB_RAM40_4K": ("block_rams", 1),
        "SB_SPRAM256KA": ("large_rams", 1),
    },
    utilization={
        "ICESTORM_LC": "luts",
        "ICESTORM_DSP": "dsps",
        "ICESTORM_RAM": "block_rams",
        "ICESTORM_SPRAM": "large_rams",
    },
)


@dataclass(frozen=True)
class Sites:
    """DSP blocks and block RAMs of a die, in tiles from its upper left corner.

    Attributes
    ----------
    columns : tuple of int
        Where groups of four multipliers, or of four block RAMs, begin in each of their rows.
    rows : tuple of (int, int)
        A row of DSP blocks, and the row of block RAMs below it.
    more_rams : tuple of int
        Further rows of block RAMs.
    """

    columns: tuple[int, ...]
    rows: tuple[tuple[int, int], ...]
    more_rams: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """One FPGA in its package.

    Attributes
    ----------
    name : str
        As its maker writes it.
    flow : Flow
    options : tuple of str
        What the router must be told: die, package, speed grade.
    resources : dict
        How much of each of `RESOURCES` there is; block RAMs of 18 kbit in an ECP5, 4 kbit in an iCE40.
    sites : Sites or None
        Where multipliers and memories are, for dies with a floorplan.
    """

    name: str
    flow: Flow
    options: tuple[str, ...]
    resources: Mapping[str, int] = field(hash=False)
    sites: Sites | None = None


# Lattice FPGA-DS-02012, table 1.1.  The 12F is sold as half of a 25F, and is the same die: the open
# tools use all of it, as its boards' makers do.
_ECP5_DIES = {
    "12F": {"luts": 24288, "ffs": 24288, "dsps": 28, "block_rams": 56},
    "25F": {"luts": 24288, "ffs": 24288, "dsps": 28, "block_rams": 56},
    "45F": {"luts": 43848, "ffs": 43848, "dsps": 72, "block_rams": 108},
    "85F": {"luts": 83640, "ffs": 83640, "dsps": 156, "block_rams": 208},
}
# As nextpnr counts them (Project Trellis' database).
_ECP5_SITES = {
    "45F": Sites(
        columns=(4, 13, 22, 31, 42, 51, 60, 69, 78),
        rows=((22, 34), (46, 58)),
        more_rams=(10,),
    ),
    "85F": Sites(
        columns=(4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114),
        rows=((10, 22), (34, 46), (58, 70)),
        more_rams=(82,),
    ),
}
_ECP5_PACKAGES = {"BG256": "CABGA256", "BG381": "CABGA381", "BG554": "CABGA554", "MG285": "CSFBGA285"}
_ECP5_FAMILIES = {"LFE5U": "", "LFE5UM": "um-", "LFE5UM5G": "um5g-"}


def ecp5(family: str, size: str, package: str, speed: int) -> Part:
    """An ECP5: ``ecp5("LFE5U", "85F", "BG381", 6)``."""
    die = f"--{_ECP5_FAMILIES[family]}{size.removesuffix('F')}k"
    return Part(
        name=f"{family}-{size}-{speed}{package}C",
        flow=ECP5_FLOW,
        options=(die, "--package", _ECP5_PACKAGES[package], "--speed", str(speed)),
        resources={**_ECP5_DIES[size], "large_rams": 0},
        sites=_ECP5_SITES.get(size),
    )


def ice40_up5k(package: str) -> Part:
    """The iCE40 UltraPlus 5K (Lattice FPGA-DS-02008)."""
    return Part(
        name=f"iCE40UP5K-{package.upper()}",
        flow=ICE40_FLOW,
        options=("--up5k", "--package", package),
        resources={"luts": 5280, "ffs": 5280, "dsps": 8, "block_rams": 30, "large_rams": 4},
    )
