"""The model of the board's memory against the board's own memory controller."""

from __future__ import annotations

import numpy as np
import pytest
from fixed_networks import NetworkBuilder

from hw.machine import Machine
from hw.program_file import ProgramFile
from hw.registers import Register
from sim.memory_settings import memory_settings, ulx3s
from sim.verilator import VerilatedCore

# that of the board's tests, whose simulation is built anyhow
MACHINE = Machine(
    input_lanes=4, output_lanes=8, scratchpad_words=256, accumulator_depth=32, weight_fifo_words=64
)
_MHZ = 50


def _programs() -> dict[str, ProgramFile]:
    from compiler.compile import compile_model
    from sim.reference import run

    programs = {}
    for name, shape in (("fully connected", (8, 8, 8)), ("pooling", (8, 24, 24))):
        builder = NetworkBuilder(shape, seed=1)
        if name == "pooling":
            output = builder.max_pool("input", (2, 2), (1, 1))
        else:
            output = builder.fully_connected("input", 24)
        model = builder.model(output)
        known = builder.image()
        programs[name] = compile_model(model, MACHINE, known, run(model, known[None]))
    return programs


def test_settings() -> None:
    assert memory_settings("random", 3).seed == 3
    slow, fast = ulx3s(25), ulx3s(100)
    assert slow.sdram_row_miss < fast.sdram_row_miss
    assert slow.sdram_refresh_period == 195
    assert fast.sdram_refresh_period == 781


@pytest.mark.slow
def test_ulx3s_is_near_the_memory_controller() -> None:
    pytest.importorskip("litedram", reason="LiteDRAM is not installed")
    from boards.simulation import BoardSimulation
    from sw_driver.accelerator import Accelerator
    from sw_driver.serial_link import SerialLink

    with BoardSimulation(MACHINE, clock_hz=_MHZ * 1_000_000) as board:
        with SerialLink(board.port, board.baud, timeout=60) as link:
            accelerator = Accelerator(link)
            for name, program in _programs().items():
                accelerator.load(program)
                assert np.array_equal(accelerator.run(program.known_input), program.known_output)
                wanted = link.read_register(Register.CYCLES)
                with VerilatedCore(MACHINE, program.memory_bytes, ulx3s(_MHZ)) as core:
                    for segment in program.segments:
                        core.write_memory(segment.address, segment.content)
                    packed = program.input.pack(program.known_input, MACHINE.word_bytes)
                    core.write_memory(program.input.address, packed)
                    core.write_register(Register.PROGRAM_ADDRESS, program.program_address)
                    assert core.run().cycles == pytest.approx(wanted, rel=0.1), name
        assert board.close() == 0, board.log
