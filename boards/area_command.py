"""``python -m boards area``: how well the area model fits, and measuring its designs again."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib.wiring import Component

from boards.area import BASELINE, TERMS, AreaPoint, board_area, fit, read_points, write_points
from boards.decoder_area import LOADER_MACHINES, variants, write_loaders
from boards.decoder_area import RESOURCES as LOADER_RESOURCES
from boards.output_registers import absorb_output_registers
from boards.parts import ECP5_FLOW
from boards.registry import find_board
from boards.synthesis import AREA_FILE, AREA_SCRIPT, NETLIST, READ_SCRIPT
from boards.toolchain import find_tool, run_tool
from hw.core import Core
from hw.machine import Machine, MachineError
from hw.weight_loader import WeightLoader

__all__ = ["AreaError", "add_area_options", "area"]

RESOURCES = ("luts", "ffs", "dsps", "block_rams")


class AreaError(ValueError):
    """A report or the baseline cannot be used; the message says which file."""


def add_area_options(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--measure", action="store_true", help="synthesize the cores of the baseline again")
    parser.add_argument(
        "--decoders", action="store_true", help="synthesize weight loaders with and without decoders again"
    )
    parser.add_argument(
        "--core", metavar="JSON", help='synthesize one more core: \'{"input_lanes": 4, "output_lanes": 8}\''
    )
    parser.add_argument(
        "--add",
        type=Path,
        nargs="+",
        default=[],
        metavar="REPORT",
        help="take over routed designs: report.json of `build`",
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but the table")


def measure_core(machine: Machine) -> AreaPoint:
    """Synthesize a core, without memory controller and link.

    Raises
    ------
    ToolError
        If Yosys is missing or fails.
    """
    used = _synthesize(Core(machine, multiplier="ecp5"))
    return AreaPoint("core", "", machine, *(used[name] for name in RESOURCES))


def measure_loader(machine: Machine) -> dict[str, int]:
    """Synthesize a weight loader with the machine's decoders.

    Raises
    ------
    ToolError
        If Yosys is missing or fails.
    """
    used = _synthesize(WeightLoader(machine))
    return {name: used[name] for name in LOADER_RESOURCES}


def _synthesize(component: Component) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "core.il").write_text(rtlil.convert(component, name="core"))
        # ABC9's own names collide with those of some wires inside
        names = "hierarchy -top core\nflatten\nrename -hide w:* i:* %d o:* %d"
        synthesis = f"synth_ecp5 -top core -json {NETLIST}"
        commands = ["read_rtlil core.il", READ_SCRIPT, names, synthesis, AREA_SCRIPT, ""]
        (work / "core.ys").write_text("\n".join(commands))
        arguments = ["-q", "-l", "synthesis.log", "core.ys"]
        run_tool(find_tool("yosys"), arguments, work, work / "yosys.log", lambda line, seconds: None)
        counts = json.loads((work / AREA_FILE).read_text())["design"]["num_cells_by_type"]
        netlist = json.loads((work / NETLIST).read_text())["modules"]["core"]
    used = ECP5_FLOW.used_by_netlist(counts)
    used["ffs"] -= absorb_output_registers(netlist)  # as in a board's design
    return used


def routed(report: Path) -> AreaPoint:
    """What a bitstream's report says.

    Raises
    ------
    AreaError
        If it is none.
    BoardError
        If its board is unknown.
    """
    try:
        entry = json.loads(report.read_text())
        machine = Machine.from_json(entry["machine"])
        board = find_board(entry["board"])
        return AreaPoint(board.name, board.external.kind, machine, *(entry[name] for name in RESOURCES))
    except (OSError, KeyError, TypeError, MachineError, json.JSONDecodeError) as error:
        raise AreaError(f"{report}: not the report of a bitstream ({error})") from None


def _with(points: Sequence[AreaPoint], new: AreaPoint) -> list[AreaPoint]:
    """The points, those of the same design and machine replaced."""
    kept = [one for one in points if (one.design, one.machine) != (new.design, new.machine)]
    return [*kept, new]


def area_lines(points: Sequence[AreaPoint]) -> list[str]:
    """The measured designs beside the model, and its factors."""
    lines = [
        f"{'design':16}{'lanes':>7}{'bus':>5}"
        + "".join(f"{name:>{width}}{'model':>8}{'%':>6}" for name, width in (("LUTs", 8), ("FFs", 8)))
        + f"{'DSPs':>10}{'RAMs':>10}"
    ]
    for point in points:
        model, machine = board_area(point.machine, point.kind), point.machine
        cells = f"{point.design:16}{f'{machine.input_lanes}x{machine.output_lanes}':>7}{machine.bus_width:>5}"
        for name in ("luts", "ffs"):
            measured = getattr(point, name)
            cells += f"{measured:>8}{model[name]:>8}{100 * (model[name] / measured - 1):>+6.1f}"
        for name in ("dsps", "block_rams"):
            measured = getattr(point, name)
            sign = "=" if measured == model[name] else "/"
            cells += f"{f'{measured} {sign} {model[name]}':>10}"
        lines.append(cells)
    lines += ["", f"{'each':28}{'LUTs':>10}{'FFs':>10}"]
    factors = fit(points)
    lines += [
        f"{term:28}{luts:>10.1f}{ffs:>10.1f}"
        for term, luts, ffs in zip(TERMS, factors["luts"], factors["ffs"], strict=True)
    ]
    return lines


def area(options: argparse.Namespace) -> None:
    """Run the command; the table goes to standard output."""
    if options.decoders:
        machines = [variant for machine in LOADER_MACHINES for variant in variants(machine)]
        write_loaders([(machine, measure_loader(machine)) for machine in machines])
    points = read_points()
    new = [routed(path) for path in options.add]
    machines = [point.machine for point in points if point.design == "core"] if options.measure else []
    if options.core:
        try:
            machines.append(replace(Machine(), **json.loads(options.core)))
        except (TypeError, json.JSONDecodeError) as error:
            raise AreaError(f"--core: not a JSON object of machine fields ({error})") from None
    for machine in machines:
        if not options.quiet:
            print(f"synthesizing {machine.input_lanes}x{machine.output_lanes} ...", flush=True)
        new.append(measure_core(machine))
    for point in new:
        points = _with(points, point)
    if new:
        write_points(points)
        print(f"written: {BASELINE}")
    print("\n".join(area_lines(points)))
