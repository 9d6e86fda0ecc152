"""A board's own gateware in Verilator, its serial line on a pseudo-terminal.

Simulated are `boards.system.System` with the memory controller's Verilog as it goes into the
bitstream, the SDRAM as a model at its pins (`boards/sdram_model.h`), and the serial line bit by bit.
Only clock generation and pads are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from amaranth.back import verilog
from amaranth.hdl import IOPort
from amaranth.lib.wiring import Component

from boards.litedram import generate
from boards.system import System, memory_ports
from hw.machine import Machine
from sim.verilator_build import BuildError, build_folder, tool_environment

__all__ = ["BoardSimulation", "BoardSimulationError", "build_board"]

_HERE = Path(__file__).parent
_SOURCES = ("board_simulation.cpp", "sdram_model.h", "terminal.h", "ecp5_pins.v")
_CLOCKS_PER_BIT = 8
_OPTIONS = (
    "--cc",
    "--exe",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "--pins-inout-enables",
    "-Wno-lint",
    "-Wno-style",
    "-Wno-fatal",
    "--no-timing",
    "--top-module",
    "board",
    "-CFLAGS",
    "-std=c++20",
)
# Precompiled headers save little here, and race in a parallel build.
_MAKE = (
    "make",
    "-s",
    "-C",
    "model",
    "-f",
    "Vboard.mk",
    "-j2",
    "OPT_FAST=-O2",
    "OPT_SLOW=-O1",
    "OPT_GLOBAL=-O2",
    "VK_PCH_I_FAST=",
    "VK_PCH_I_SLOW=",
)


class BoardSimulationError(ValueError):
    """The board's simulation did not start or has ended; the message says why."""


def _core(machine: Machine) -> Component:
    from hw.core import Core

    return Core(machine)


class BoardSimulation:
    """A running simulation; use it in a ``with`` statement.

    Building takes a minute or two; the result is kept under ``build/board/``.

    Parameters
    ----------
    machine : Machine
    clock_hz : int
        The clock that the board's timing is computed for.  The simulation runs as fast as it can.
    megabytes : int
        Size of the memory, 32 or 64 MiB.
    core : callable
        Makes the core of a machine.

    Attributes
    ----------
    port : str
        Path of the pseudo-terminal, for `sw_driver.serial_link.SerialLink`.
    baud : int
        Rate that the gateware was built for.
    log : str
        What the simulation said when it ended.

    Raises
    ------
    BuildError
        If a tool is missing or fails.
    BoardSimulationError
        If the simulation does not start.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        clock_hz: int = 50_000_000,
        megabytes: int = 32,
        core: Callable[[Machine], Component] = _core,
    ) -> None:
        self.baud = clock_hz // _CLOCKS_PER_BIT
        self.log = ""
        self._controller = generate(megabytes, clock_hz, memory_ports(machine.bus_width))
        data_pins = IOPort(16, name="sdram_dq")
        system = System(
            core(machine), self._controller, clock_hz=clock_hz, baud=self.baud, data_pins=data_pins
        )
        program = build_board(
            {"board.v": _verilog(system, data_pins), "litedram_core.v": self._controller.verilog}, _SOURCES
        )
        self._start(
            [
                str(program),
                str(self._controller.row_bits),
                str(self._controller.column_bits),
                str(clock_hz),
                str(_CLOCKS_PER_BIT),
                str(self._controller.timing.capture_edge),
            ]
        )

    def _start(self, command: list[str]) -> None:
        """Start the program, and learn the terminal's path from it."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = self._process.stdout.readline().strip()
        if not self.port:
            self.close()
            raise BoardSimulationError(f"the board's simulation did not start: {self.log}")

    def check(self) -> None:
        """Raise BoardSimulationError if the simulation has ended, as it does when a rule is broken."""
        if self._process.poll() is not None:
            self.close()
            raise BoardSimulationError(f"the board's simulation has ended: {self.log}")

    def close(self) -> int:
        """End the simulation; its exit status is 0 if no rule of the memory was broken."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                _, log = self._process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                _, log = self._process.communicate()
            self.log = log.strip()
        return self._process.returncode

    def __enter__(self) -> BoardSimulation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _verilog(system: System, data_pins: IOPort) -> str:
    ports = {name: (getattr(system, name), None) for name in system.signature.members}
    return verilog.convert(
        system,
        name="board",
        ports={**ports, "sdram_dq": (data_pins, None)},
        emit_src=False,
        strip_internal_attrs=True,
    )


def build_board(designs: dict[str, str], sources: tuple[str, ...]) -> Path:
    """The simulation of a board, kept by its digest.

    Parameters
    ----------
    designs : dict
        Verilog files and their text; the top module is ``board``.
    sources : tuple of str
        Files of this folder: the main program, what it includes, and Verilog.

    Raises
    ------
    BuildError
        If a tool is missing or fails.
    """
    digest = hashlib.sha256(json.dumps([_OPTIONS, _MAKE, designs, sources]).encode())
    for name in sources:
        digest.update((_HERE / name).read_bytes())
    folder = build_folder() / "board"
    target = folder / digest.hexdigest()[:24]
    program = target / "Vboard"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".building-", dir=folder))
    try:
        for name, text in designs.items():
            (beside / name).write_text(text)
        for name in sources:
            shutil.copy(_HERE / name, beside)
        for command in (
            (
                "verilator",
                *_OPTIONS,
                "--Mdir",
                "model",
                "-CFLAGS",
                f"-I{_HERE}",
                "-o",
                "../Vboard",
                *designs,
                *(name for name in sources if not name.endswith(".h")),
            ),
            _MAKE,
        ):
            done = subprocess.run(
                command, cwd=beside, env=tool_environment(), capture_output=True, text=True, check=False
            )
            if done.returncode:
                log = folder / "failed-build.log"
                log.write_text(done.stdout + done.stderr)
                lines = [line for line in (done.stderr + done.stdout).splitlines() if "rror:" in line]
                raise BuildError(f"{command[0]} failed: {(lines or ['no message'])[0]} (all of it: {log})")
        shutil.rmtree(beside / "model")
        try:
            os.rename(beside, target)
        except OSError:  # another process was faster
            if not program.exists():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return program
