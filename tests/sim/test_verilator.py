"""The harness and its memory model, with a copy engine in the core's place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hw.machine import Machine
from hw.registers import Register, Status
from sim.memory_settings import MEMORY_NAMES, MemorySettingsError, memory_settings
from sim.verilator import SimulationError, VerilatedCore
from sim.verilator_build import BuildError, build_library

_MEMORY = 1 << 18
_BEATS = 64


_BREAK = 0x20  # a register that the real core does not have
_HANG = 6


def _engine(width: int, *, trace: bool = False) -> Path:
    text = (Path(__file__).parent / "copy_engine.v").read_text()
    return build_library(text.replace("@WIDTH@", str(width)), f"copy engine ({width} bits)", trace=trace)


def _copy(core: VerilatedCore, width: int, base: int = 0x2000) -> bool:
    rng = np.random.default_rng(width + base)
    content = rng.bytes(_BEATS * width // 8)
    core.write_memory(base, content)
    core.write_register(Register.PROGRAM_ADDRESS, base)
    assert core.read_register(Register.PROGRAM_ADDRESS) == base
    core.run(limit=100_000)
    return core.read_memory(base + 0x10000, len(content)) == content


@pytest.mark.parametrize("width", [32, 64, 128])
def test_copies_with_every_memory(width: int) -> None:
    library = _engine(width)
    for memory in MEMORY_NAMES:
        for seed in range(20 if memory == "random" else 1):
            with VerilatedCore(Machine(), _MEMORY, memory, seed, library=library) as core:
                for base in (0x2000, 0x4000):
                    assert _copy(core, width, base), (memory, seed)
                layers = core.layer_counters()
                assert set(layers) == {3, 4}
                assert sum(counters.read_beats for counters in layers.values()) == _BEATS
                assert sum(counters.write_beats for counters in layers.values()) == _BEATS


def test_bandwidth() -> None:
    """64 beats of 8 bytes take what the setting's bandwidth says, plus latency."""
    cycles = {}
    for memory in ("ideal", "stalling", "ulx3s"):
        with VerilatedCore(Machine(), _MEMORY, memory, library=_engine(64)) as core:
            assert _copy(core, 64)
            cycles[memory] = core.read_counter(Register.CYCLES)
    assert _BEATS < cycles["ideal"] < _BEATS + 40
    assert cycles["ideal"] * 19 / 15 - 8 < cycles["stalling"] < cycles["ideal"] * 19 / 15 + 20
    # both directions share two bytes a cycle, and each beat costs one cycle more
    assert 2 * _BEATS * 5 < cycles["ulx3s"] < 2 * _BEATS * 5 * 1.4


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (1, "VALID fell before READY"),
        (2, "payload changed"),
        (3, "crosses a 4 KB boundary"),
        (4, "WLAST is 1 on beat 15 of 16"),
        (5, "past the end of memory"),
    ],
)
def test_broken_managers_are_caught(broken: str, words: str) -> None:
    with VerilatedCore(Machine(), _MEMORY, "random", 5, library=_engine(64)) as core:
        core.write_register(_BREAK, broken)
        with pytest.raises(SimulationError, match=words) as caught:
            _copy(core, 64)
        assert caught.value.kind == "protocol"


def test_hang_names_the_layer_and_reset_recovers() -> None:
    with VerilatedCore(Machine(), _MEMORY, library=_engine(64)) as core:
        core.write_register(_BREAK, _HANG)
        with pytest.raises(
            SimulationError, match=r"nothing has moved for 20000 cycles \(layer 3\)"
        ) as caught:
            _copy(core, 64)
        assert (caught.value.kind, caught.value.layer) == ("hang", 3)
    with VerilatedCore(Machine(), _MEMORY, library=_engine(64)) as core:
        core.write_register(Register.PROGRAM_ADDRESS, 0)
        core.start()
        assert not core.advance(40)
        core.reset()
        assert core.read_register(Register.STATUS) == 0
        assert _copy(core, 64)
        with pytest.raises(SimulationError, match="not done after 30 cycles") as caught:
            core.run(limit=30)
        assert caught.value.kind == "limit"


def test_injected_errors() -> None:
    with VerilatedCore(Machine(), _MEMORY, library=_engine(64)) as core:
        core.inject_error(0x2010, 0x2011, writes=False)
        assert not _copy(core, 64)
        assert Status(core.read_register(Register.STATUS)) == Status.DONE | Status.READ_ERROR
        core.clear_errors()
        assert _copy(core, 64)
        core.inject_error(0x14010, 0x14011, reads=False)
        assert not _copy(core, 64, 0x4000)
        assert Status(core.read_register(Register.STATUS)) == Status.DONE | Status.WRITE_ERROR


def test_written_data_is_not_visible_before_its_response() -> None:
    with VerilatedCore(Machine(), _MEMORY, library=_engine(64)) as core:
        core.write_memory(0x2000, b"\x55" * 512)
        core.write_register(Register.PROGRAM_ADDRESS, 0x2000)
        core.start()
        while not core.layer_counters().get(3, None) or core.layer_counters()[3].write_beats < 16:
            assert not core.advance(1)
        assert core.read_memory(0x12000, 128) == bytes(128)
        assert core.advance(1000)
        assert core.read_memory(0x12000, 128) == b"\x55" * 128


def test_trace(tmp_path: Path) -> None:
    path = tmp_path / "waves" / "copy.fst"
    with VerilatedCore(Machine(), _MEMORY, trace=path, library=_engine(64, trace=True)) as core:
        assert _copy(core, 64)
    content = path.read_bytes()
    # blocks: a type and the length of the rest; header, value changes, signal widths, hierarchy
    kinds, position = [], 0
    while position < len(content):
        kinds.append(content[position])
        position += 1 + int.from_bytes(content[position + 1 : position + 9], "big")
    assert position == len(content)
    assert kinds[0] == 0
    assert {3, 6} <= set(kinds), kinds


def test_bad_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MemorySettingsError, match="choose ideal, stalling, ulx3s, random"):
        memory_settings("fast")
    with VerilatedCore(Machine(), 5000, library=_engine(64)) as core:
        assert core.memory_bytes == 8192
        with pytest.raises(SimulationError, match="not all in the simulated memory"):
            core.write_memory(8190, b"123")
    with pytest.raises(SimulationError, match="closed"):
        core.read_memory(0, 1)


def test_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSHIFT_BUILD", str(tmp_path))
    with pytest.raises(BuildError, match=r"verilator failed: .*syntax error"):
        build_library("module core(input clk; endmodule", "broken module")
    kept = {path.name for path in (tmp_path / "verilated").iterdir() if not path.name.endswith(".lock")}
    assert kept == {"failed-build.log"}


def test_two_processes_build_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
        "from sim.verilator_build import build_library; "
        "text = Path(sys.argv[2]).read_text().replace('@WIDTH@', '64'); "
        "print(build_library(text, 'copy engine'))"
    )
    source = Path(__file__).parent / "copy_engine.v"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "POINTSHIFT_BUILD": str(tmp_path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(root), str(source)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert sum("building" in error for _, error in answers) == 1
