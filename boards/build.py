"""From a board's description to its bitstream."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from boards.litedram import generate
from boards.pll import pll_settings
from boards.system import memory_ports
from boards.toolchain import Tool, find_tool, run_tool
from hw.machine import Machine, MachineError
from hw.uart import clocks_per_bit
from hw.whole_file import write_whole

__all__ = ["BOARDS", "BitstreamError", "BoardBuild", "ClockMissed", "build", "machine_of"]

#: Boards by the name on the command line, and what they are.
BOARDS = {"ecp5": "Radiona ULX3S-85F: LFE5U-85F, 32 or 64 MiB SDRAM, USB serial port"}

DEFAULT_CLOCK_MHZ = 50.0
DEFAULT_BAUD = 1_000_000


class BitstreamError(ValueError):
    """A bitstream cannot be built as asked; the message says why."""


class ClockMissed(BitstreamError):
    """The routed design is slower than the clock that it was built for."""


@dataclass(frozen=True)
class BoardBuild:
    """What to build.

    Attributes
    ----------
    board : str
        One of `BOARDS`.
    machine : Machine
    clock_mhz : float
        System clock; an error if the routed design does not reach it.
    seed : int
        Where placement starts.
    tries : int
        Seeds to try, from ``seed`` on, until the clock is reached.
    megabytes : int
        Size of the SDRAM, 32 or 64; 32 works on both.
    baud : int
        Rate of the serial line.
    multiplier : str
        ``"ecp5"`` instantiates the DSP blocks, ``"portable"`` leaves them to inference: slower, but
        without our reading of the block's data sheet.
    """

    board: str = "ecp5"
    machine: Machine = field(default_factory=Machine)
    clock_mhz: float = DEFAULT_CLOCK_MHZ
    seed: int = 1
    tries: int = 3
    megabytes: int = 32
    baud: int = DEFAULT_BAUD
    multiplier: Literal["ecp5", "portable"] = "ecp5"


def machine_of(text: str | None) -> Machine:
    """The default machine with the fields of a JSON object (or file) changed.

    Raises
    ------
    BitstreamError
        If the text is no JSON object or names an unknown field.
    """
    if not text:
        return Machine()
    try:
        fields = json.loads(Path(text).read_text() if Path(text).is_file() else text)
        return replace(Machine(), **fields)
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
    BitstreamError, ClockMissed, ToolError, ControllerError, ClockError, BaudError, MachineError
    """
    if job.board not in BOARDS:
        raise BitstreamError(f"no board is called {job.board}; there are {', '.join(BOARDS)}")
    if job.tries < 1:
        raise BitstreamError(f"tries must be at least 1, not {job.tries}")
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise BitstreamError(f"{folder}: {nearest} is not a folder that can be written to; choose another")
    began = time.monotonic()
    say(f"generating the design: {job.machine.multipliers} multipliers at {job.clock_mhz:g} MHz")
    files = _design(job)
    tools = [find_tool(name) for name in ("yosys", "nextpnr-ecp5", "ecppack")]
    digest = _digest(job, files, tools)
    report_path, bitstream = folder / "report.json", folder / "top.bit"
    kept = _read_report(report_path)
    if not force and kept.get("digest") == digest and bitstream.exists():
        say(f"{bitstream} is already built from this design")
        return kept

    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name, content in files.items():
        (work / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    yosys, nextpnr, ecppack = tools
    _stage(say, yosys, ["-q", "-l", "synthesis.log", "top.ys"], work, "synthesis")
    report: dict[str, Any] = {}
    for seed in range(job.seed, job.seed + job.tries):
        _stage(
            say,
            nextpnr,
            [
                *_PLACE,
                "--seed",
                str(seed),
                "--json",
                "top.json",
                "--lpf",
                "top.lpf",
                "--textcfg",
                "top.config",
                "--report",
                "timing.json",
            ],
            work,
            f"place and route, seed {seed}",
        )
        report = _report(
            job, json.loads((work / "timing.json").read_text()), seed, tools, time.monotonic() - began, digest
        )
        if report["clock_reached_mhz"] >= job.clock_mhz:
            break
        say(f"seed {seed} reaches {report['clock_reached_mhz']:.2f} of {job.clock_mhz:g} MHz")
    if report["clock_reached_mhz"] < job.clock_mhz:
        bitstream.unlink(missing_ok=True)  # an older one would be taken for this design
        _write(report_path, json.dumps(report, indent=1) + "\n")
        raise ClockMissed(
            f"the design reaches {report['clock_reached_mhz']:.2f} MHz, not {job.clock_mhz:g} MHz; try "
            f"--clock {int(report['clock_reached_mhz'])}, another --seed, or a smaller machine "
            f"(critical path: {report['critical_path']})"
        )
    _stage(say, ecppack, ["--compress", "--input", "top.config", "--bit", "top.bit"], work, "bitstream")
    report["seconds"] = round(time.monotonic() - began, 1)
    report_path.unlink(missing_ok=True)  # never a report beside another build's bitstream
    os.replace(work / "top.bit", bitstream)
    _write(report_path, json.dumps(report, indent=1) + "\n")
    return report


_PLACE = ["--85k", "--package", "CABGA381", "--speed", "6", "--timing-allow-fail"]


def _design(job: BoardBuild) -> dict[str, str | bytes]:
    from boards.ulx3s_85f import DEVICE, INPUT_HZ, ULX3SPlatform, ULX3STop
    from hw.core import Core

    # refuse clocks and rates before anything is made
    clocks_per_bit(pll_settings(INPUT_HZ, job.clock_mhz * 1e6).clock_hz, job.baud)
    controller = generate(job.megabytes, job.clock_mhz * 1e6, memory_ports(job.machine.bus_width), DEVICE)
    platform = ULX3SPlatform()
    platform.add_file("litedram_core.v", controller.verilog)
    top = ULX3STop(
        Core(job.machine, multiplier=job.multiplier), controller, clock_hz=job.clock_mhz * 1e6, baud=job.baud
    )
    plan = platform.prepare(top, "top", debug_verilog=False)
    return {name: content for name, content in plan.files.items() if not name.startswith("build_")}


def _digest(job: BoardBuild, files: dict[str, str | bytes], tools: list[Tool]) -> str:
    state = hashlib.sha256(
        json.dumps([asdict(job), [tool.version for tool in tools], _PLACE], sort_keys=True).encode()
    )
    for name in sorted(files):
        content = files[name]
        text = content.decode(errors="replace") if isinstance(content, bytes) else content
        # where a line of source lies does not change the design
        state.update(name.encode() + re.sub(r'attribute \\src ".*"', "", text).encode())
    return state.hexdigest()[:32]


def _stage(say: Callable[[str], object], tool: Tool, arguments: list[str], work: Path, what: str) -> None:
    """Run one tool, saying what it is doing."""
    say(f"{what} ({tool.version}) ...")
    shown = [0.0]

    def heard(line: str, seconds: float) -> None:
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
    job: BoardBuild, timing: dict[str, Any], seed: int, tools: list[Tool], seconds: float, digest: str
) -> dict[str, Any]:
    used = {name: entry["used"] for name, entry in timing["utilization"].items()}
    # The SDRAM's clock does nothing but leave the device; the system clock is the slower one.
    clocks = {
        name: entry["achieved"]
        for name, entry in timing["fmax"].items()
        if entry["constraint"] > 0.99 * job.clock_mhz
    }
    if not clocks:
        raise BitstreamError("the place and route report has no clock with the wanted constraint")
    name = min(clocks, key=lambda clock: clocks[clock])
    return {
        "board": job.board,
        "machine": job.machine.to_json(),
        "machine_digest": f"{job.machine.digest():016x}",
        "clock_wanted_mhz": job.clock_mhz,
        "clock_reached_mhz": round(clocks[name], 2),
        "luts": used.get("TRELLIS_COMB", 0),
        "ffs": used.get("TRELLIS_FF", 0),
        "dsps": used.get("MULT18X18D", 0),
        "block_rams": used.get("DP16KD", 0),
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


def _write(path: Path, text: str) -> None:
    write_whole(path, text)
