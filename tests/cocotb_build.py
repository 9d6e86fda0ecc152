"""Builds Verilog for cocotb with Verilator, and runs a bench on it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from amaranth.back import verilog
from amaranth.lib import wiring
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator

from sim.verilator_build import build_folder, find_verilator, tool_environment

__all__ = ["Simulator", "build", "component_verilog"]

_VERILATOR_OPTIONS = ["-O3", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--no-timing"]

# precompiled headers off, and quick to build rather than quick to run
_MAKE_VARIABLES = ["VK_PCH_I_FAST=", "VK_PCH_I_SLOW=", "OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1"]

_REPOSITORY = Path(__file__).parents[1]


class _Runner(Verilator):
    """cocotb's runner, except that

    * only what a control file names is visible: making every signal visible, as the runner does, makes
      the build several times longer;
    * Verilator's own part, which is the same for every design, is compiled once.
    """

    def _build_command(self) -> list:
        verilate, make = super()._build_command()
        verilate = [word for word in verilate if word != "--public-flat-rw"]
        make[make.index("-j") + 1] = "1"
        make += _MAKE_VARIABLES
        key = hashlib.sha256(f"{find_verilator()}{_MAKE_VARIABLES}".encode()).hexdigest()[:24]
        runtime = build_folder() / "cocotb" / f"runtime-{key}.a"
        if runtime.exists():
            return [verilate, [*make, "VK_GLOBAL_OBJS=", f"LOADLIBES={runtime}"]]
        part = self.build_dir / "runtime.a"
        quoted = shlex.quote(str(part))
        keep = f"ar rcs {quoted} verilated*.o && mv {quoted} {shlex.quote(str(runtime))}"
        return [verilate, make, ["sh", "-c", keep]]


def component_verilog(component: wiring.Component, name: str, renamed: Mapping[str, str]) -> str:
    """A component as Verilog with flat port names.

    Members of interfaces are joined by underscores; ``renamed`` gives some members another
    name.
    """
    ports = {}
    for path, _, value in component.signature.flatten(component):
        first, *rest = map(str, path)
        flat = "_".join([renamed.get(first, first), *rest])
        ports[flat] = (value.as_value() if hasattr(value, "as_value") else value, None)
    return verilog.convert(component, name=name, ports=ports, emit_src=False, strip_internal_attrs=True)


@dataclass
class Simulator:
    """A design that is built."""

    runner: _Runner
    top: str
    folder: Path

    def run(
        self,
        bench: Path,
        results: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        tests: int,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Run the cocotb tests of the module ``bench``, which must be ``tests`` in number, and all pass."""
        monkeypatch.syspath_prepend(str(bench.parent))
        monkeypatch.syspath_prepend(str(_REPOSITORY / "tests"))
        monkeypatch.syspath_prepend(str(_REPOSITORY))
        log = results / "bench.log"
        found = results / "results.xml"
        try:
            self.runner.test(
                test_module=bench.stem,
                hdl_toplevel=self.top,
                build_dir=self.folder,
                test_dir=results,
                seed=1,
                results_xml=str(found),
                log_file=log,
                extra_env={
                    "BENCH": str(results),
                    "COCOTB_ANSI_OUTPUT": "0",
                    "PATH": os.environ["PATH"],
                    **(environment or {}),
                },
            )
        except SystemExit:
            pytest.fail(log.read_text()[-8000:], pytrace=False)
        assert get_results(found) == (tests, 0), log.read_text()[-8000:]


def build(text: str, top: str, visible: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """The Verilog's top module for cocotb, kept under ``build/cocotb`` by its digest.

    ``visible`` are the signals of the top module that a bench may see, as patterns.
    """
    environment = tool_environment()
    for name in ("PATH", "VERILATOR_ROOT"):
        if name in environment:
            monkeypatch.setenv(name, environment[name])
    control = "`verilator_config\n" + "".join(
        f'public_flat_rw -module "{top}" -var "{names}"\n' for names in visible
    )
    key = f"{find_verilator()}{_VERILATOR_OPTIONS}{_MAKE_VARIABLES}{control}{text}"
    folder = build_folder() / "cocotb" / hashlib.sha256(key.encode()).hexdigest()[:24]
    folder.parent.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole"
    runner = _Runner()
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / f"{top}.v").write_text(text)
            (folder / "visible.vlt").write_text(control)
        runner.build(
            sources=[folder / "visible.vlt", folder / f"{top}.v"],
            hdl_toplevel=top,
            build_dir=folder,
            timescale=("1ns", "1ps"),
            build_args=_VERILATOR_OPTIONS,
            log_file=folder / "build.log",
        )
        whole.touch()
    return Simulator(runner, top, folder)
