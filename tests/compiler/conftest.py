"""What the compiler's tests share: compile, simulate, compare every tensor with the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.compile import Compilation, compile_passes
from hw.machine import Machine
from hw.program_file import Layer
from quant.fixed_model import FixedModel
from sim.program import ProgramSimulator
from sim.reference import run

#: Array shapes, bus widths, and memories so small that everything is cut into tiles.
MACHINES = {
    "8x16-64": Machine(),
    "4x4-32": Machine(
        input_lanes=4,
        output_lanes=4,
        bus_width=32,
        scratchpad_words=2048,
        accumulator_depth=64,
        weight_fifo_words=32,
    ),
    "8x8-64": Machine(
        input_lanes=8, output_lanes=8, scratchpad_words=1024, accumulator_depth=32, weight_fifo_words=128,
        kept_weight_words=1024,
    ),
    "8x16-128": Machine(bus_width=128, scratchpad_words=1024, accumulator_depth=128),
    "16x16-64": Machine(input_lanes=16, scratchpad_words=512, accumulator_depth=16),
    "4x64-128": Machine(
        input_lanes=4, output_lanes=64, bus_width=128, scratchpad_words=256, accumulator_depth=64
    ),
}


def _check(model: FixedModel, machine: Machine, image: np.ndarray, *, store_all: bool = True) -> Compilation:
    expected = run(model, image[None])
    compilation = compile_passes(model, machine, image, expected, store_all=store_all)
    program = compilation.program
    simulator = ProgramSimulator(machine, program.memory_bytes)
    simulator.load(program)
    output = simulator.run(image)
    assert not store_all or program.stored_layers == program.layers
    for layer in program.stored_layers:
        found = simulator.read(layer.tensor)
        wrong = np.argwhere(found != expected[layer.tensor.name][0])
        assert not len(wrong), f"{layer.name} ({layer.kind}): {len(wrong)} differ, the first at {wrong[0]}"
        assert layer.checksum == Layer.checksum_of(found)
    assert np.array_equal(output, expected[model.graph.output][0])
    assert np.array_equal(program.known_output, output)
    return compilation


@pytest.fixture(scope="session")
def check() -> Callable[[FixedModel, Machine, np.ndarray], Compilation]:
    """Compile and execute a network for an image; fails where a tensor differs from the reference."""
    return _check


@pytest.fixture(params=list(MACHINES))
def machine(request: pytest.FixtureRequest) -> Machine:
    """Each machine in turn."""
    return MACHINES[request.param]


@pytest.fixture(scope="session")
def machines() -> dict[str, Machine]:
    """All machines."""
    return MACHINES
