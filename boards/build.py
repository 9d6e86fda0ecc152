"""From a board's description to its bitstream."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from boards import netlist as finishing
from boards import output_registers
from boards.board import Board, BoardBuild, Files
from boards.fit import require_fit, require_multipliers
from boards.registry import find_board
from boards.synthesis import AREA_FILE, NETLIST
from boards.toolchain import Tool, find_tool, run_tool
from hw.machine import Machine, MachineError
from hw.whole_file import write_whole

__all__ = ["PLACER_STEPS", "BitstreamError", "BoardBuild", "ClockMissed", "build", "machine_of"]

#: So many steps no placer takes that comes to an end: the largest design here takes 540.
PLACER_STEPS = 1500


class BitstreamError(ValueError):
    """A bitstream cannot be built as asked; the message says why."""


class ClockMissed(BitstreamError):
    """The routed design is slower than the clock that it was built for."""


def machine_of(text: str | None, default: Machine) -> Machine:
    """The default machine of a board with the fields of a JSON object (or file) changed.

    Raises
    ------
    BitstreamError
        If the text is no JSON object or names an unknown field.
    """
    if not text:
        return default
    try:
        fields = json.loads(Path(text).read_text() if Path(text).is_file() else text)
        return replace(default, **fields)
    except MachineError:
        raise
    except (OSError, ValueError, TypeError) as error:  # ValueError: no JSON, or no text
        raise BitstreamError(f"machine: {text} is not a JSON object of machine fields ({error})") from None


def build(
    job: BoardBuild,
    folder: Path,
    *,
    say: Callable[[str], object] = lambda text: print(text, file=sys.stderr),
    force: bool = False,
) -> dict[str, Any]:
    """Build ``folder/top.bit`` and ``folder/report.json``; returns the report.

    A bitstream that was built before from the same design by the same tools is kept.

    Raises
    ------
    BitstreamError, ClockMissed, BoardError, FitError, ToolError, ControllerError, ClockError, BaudError
    """
    board = find_board(job.board)
    flow = board.part.flow
    if job.tries < 1:
        raise BitstreamError(f"tries must be at least 1, not {job.tries}")
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise BitstreamError(f"{folder}: {nearest} is not a folder that can be written to; choose another")
    if job.multiplier not in board.multipliers:
        raise BitstreamError(
            f"{board.name} has no multipliers of kind {job.multiplier}, only {', '.join(board.multipliers)}"
        )
    if job.megabytes not in (board.megabytes or (0,)):
        sizes = ", ".join(map(str, board.megabytes)) or "one size only, without --megabytes"
        raise BitstreamError(f"{board.name} has no memory of {job.megabytes} MiB; there is {sizes}")
    require_multipliers(board, job)
    began = time.monotonic()
    say(f"generating the design: {job.machine.multipliers} multipliers at {job.clock_mhz:g} MHz")
    files = _design(board, job)
    tools = [find_tool(name) for name in ("yosys", flow.place, flow.pack)]
    digest = _digest(board, job, files, tools)
    report_path, bitstream = folder / "report.json", folder / flow.bitstream
    kept = _read_report(report_path)
    if not force and kept.get("digest") == digest and bitstream.exists():
        say(f"{bitstream} is already built from this design")
        return kept

    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name, content in files.items():
        (work / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    yosys, place, pack = tools
    _stage(say, yosys, ["-q", "-l", "synthesis.log", "top.ys"], work, "synthesis")
    netlist = require_fit(board, work / AREA_FILE)
    finishing.finish_netlist(work / NETLIST, flow.settings)
    report: dict[str, Any] = {}  # of the fastest seed
    for seed in range(job.seed, job.seed + job.tries):
        _place_and_route(say, place, board, seed, work)
        timing = json.loads((work / "timing.json").read_text())
        found = _report(board, job, netlist, timing, seed, tools, time.monotonic() - began, digest)
        if not report or found["clock_reached_mhz"] > report["clock_reached_mhz"]:
            report = found
        if report["clock_reached_mhz"] >= job.clock_mhz:
            break
        say(f"seed {seed} reaches {found['clock_reached_mhz']:.2f} of {job.clock_mhz:g} MHz")
    if report["clock_reached_mhz"] < job.clock_mhz:
        bitstream.unlink(missing_ok=True)  # an older one would be taken for this design
        write_whole(report_path, json.dumps(report, indent=1) + "\n")
        raise ClockMissed(
            f"the design reaches {report['clock_reached_mhz']:.2f} MHz, not {job.clock_mhz:g} MHz; try "
            f"--clock {int(report['clock_reached_mhz'])}, another --seed, or a smaller machine "
            f"(critical path: {report['critical_path']})"
        )
    _stage(say, pack, [*flow.pack_arguments], work, "bitstream")
    report["seconds"] = round(time.monotonic() - began, 1)
    report_path.unlink(missing_ok=True)  # never a report beside another build's bitstream
    os.replace(work / flow.bitstream, bitstream)
    write_whole(report_path, json.dumps(report, indent=1) + "\n")
    return report


def _arguments(board: Board) -> list[str]:
    """What the router is told, except placer and seed."""
    return [*board.part.options, "--timing-allow-fail", *board.part.flow.place_arguments]


def _place_and_route(say: Callable[[str], object], place: Tool, board: Board, seed: int, work: Path) -> None:
    """Write ``timing.json`` and the routed design into ``work``."""
    arguments = [*_arguments(board), "--seed", str(seed), "--report", "timing.json"]
    what = f"place and route, seed {seed}"
    placers = [["--placer", name] for name in board.part.flow.placers] or [[]]
    for placer in placers[:-1]:
        try:
            _stage(say, place, [*arguments, *placer], work, what, _require_end)
        except _NoEnd:
            say(f"seed {seed}: after {PLACER_STEPS} steps there is no end in sight; with another placer:")
        else:
            return
    _stage(say, place, [*arguments, *placers[-1]], work, what)


class _NoEnd(Exception):
    """A placer goes on and on."""


def _require_end(line: str) -> None:
    step = re.match(r"Info: iter=(\d+) steplen", line)
    if step and int(step[1]) > PLACER_STEPS:
        raise _NoEnd


def _design(board: Board, job: BoardBuild) -> Files:
    return {name: content for name, content in board.design(job).items() if not name.startswith("build_")}


def _digest(board: Board, job: BoardBuild, files: Files, tools: list[Tool]) -> str:
    state = hashlib.sha256(
        json.dumps(
            [asdict(job), [tool.version for tool in tools], _arguments(board), board.part.flow.placers,
             dict(board.part.flow.settings)],
            sort_keys=True,
        ).encode()
    )
    for module in (finishing, output_registers):  # they change the netlist, as a tool does
        state.update(inspect.getsource(module).encode())
    for name in sorted(files):
        content = files[name]
        text = content.decode(errors="replace") if isinstance(content, bytes) else content
        # where a line of source lies does not change the design
        state.update(name.encode() + re.sub(r'attribute \\src ".*"', "", text).encode())
    return state.hexdigest()[:32]


def _stage(
    say: Callable[[str], object],
    tool: Tool,
    arguments: list[str],
    work: Path,
    what: str,
    watch: Callable[[str], object] = lambda line: None,
) -> None:
    """Run one tool, saying what it is doing; what ``watch`` raises of a line of its output ends it."""
    say(f"{what} ({tool.version}) ...")
    shown = [0.0]

    def heard(line: str, seconds: float) -> None:
        watch(line)
        if sys.stderr.isatty() and seconds - shown[0] > 1:
            shown[0] = seconds
            print(f"\r\033[K  {seconds:5.0f} s  {line[:90]}", end="", file=sys.stderr, flush=True)

    began = time.monotonic()
    try:
        run_tool(tool, arguments, work, work / f"{tool.name}.log", heard)
    finally:
        if shown[0]:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    say(f"{what}: {time.monotonic() - began:.0f} s")


def _report(
    board: Board,
    job: BoardBuild,
    netlist: dict[str, int],
    timing: dict[str, Any],
    seed: int,
    tools: list[Tool],
    seconds: float,
    digest: str,
) -> dict[str, Any]:
    # other clocks are in a fixed relation to the system's: the one with the least to spare decides
    clocks = {name: entry["achieved"] / entry["constraint"] for name, entry in timing["fmax"].items()}
    wanted = [entry["constraint"] for entry in timing["fmax"].values()]
    if not any(abs(constraint / job.clock_mhz - 1) < 0.01 for constraint in wanted):
        raise BitstreamError("the place and route report has no clock with the wanted constraint")
    name = min(clocks, key=lambda clock: clocks[clock])
    return {
        "board": job.board,
        "part": board.part.name,
        "machine": job.machine.to_json(),
        "machine_digest": f"{job.machine.digest():016x}",
        "clock_wanted_mhz": job.clock_mhz,
        "clock_reached_mhz": round(clocks[name] * job.clock_mhz, 2),
        **board.part.flow.used_by_route(timing["utilization"], netlist),
        "multipliers": job.machine.multipliers,
        "multiplier": job.multiplier,
        "memory_megabytes": job.megabytes,
        "baud": job.baud,
        "seconds": round(seconds, 1),
        "seed": seed,
        "critical_path": _critical_path(timing, name),
        "tools": {tool.name: tool.version for tool in tools},
        "digest": digest,
    }


def _critical_path(timing: dict[str, Any], clock: str) -> str:
    """Where the slowest path of a clock begins and ends."""
    for path in timing.get("critical_paths", []):
        if path["from"] == path["to"] == f"posedge {clock}" and path["path"]:
            first, last = path["path"][0]["from"]["cell"], path["path"][-1]["to"]["cell"]
            return f"{first} to {last}"
    return "unknown"


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return report if isinstance(report, dict) else {}
