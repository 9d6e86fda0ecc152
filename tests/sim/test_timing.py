"""The cycle estimate: what overlaps and what waits."""

from __future__ import annotations

from hw.isa import Instruction, Mode, Opcode
from hw.machine import Machine
from sim.timing import TimingModel

MACHINE = Machine()
LOAD = {"planes": 1, "rows": 1, "words": 500}
COMPUTE = {
    "output_rows": 16,
    "output_columns": 16,
    "kernel_rows": 3,
    "kernel_columns": 3,
    "input_blocks": 2,
    "output_blocks": 4,
    "mode": Mode.DENSE.value,
}


def _cycles(*instructions: Instruction) -> int:
    model = TimingModel(MACHINE)
    for instruction in instructions:
        model.execute(instruction)
    return model.cycles


def test_compute_takes_a_word_a_cycle():
    work = 4 * 18 * 256
    assert work <= _cycles(Instruction(Opcode.COMPUTE, COMPUTE)) < 1.02 * work
    slow = _cycles(Instruction(Opcode.COMPUTE, {**COMPUTE, "residual": 1}))
    assert slow - _cycles(Instruction(Opcode.COMPUTE, COMPUTE)) == 4 * 256


def test_one_pixel_runs_at_the_speed_of_the_bus():
    blocks, passes = 8, 64
    weights = Instruction(Opcode.WEIGHTS, {"blocks": blocks, "tiles": passes})
    compute = Instruction(
        Opcode.COMPUTE,
        {
            **COMPUTE,
            "output_rows": 1,
            "output_columns": 1,
            "kernel_rows": 1,
            "kernel_columns": 1,
            "input_blocks": passes,
            "output_blocks": blocks,
        },
    )
    beats = blocks * (passes * 128 + 128) // 8
    assert beats <= _cycles(weights, compute) < 1.1 * beats


def test_units_overlap_unless_a_token_says_otherwise():
    load, compute = Instruction(Opcode.LOAD, LOAD), Instruction(Opcode.COMPUTE, COMPUTE)
    apart = _cycles(load), _cycles(compute)
    assert _cycles(load, compute) < 1.05 * max(apart)
    ordered = _cycles(Instruction(Opcode.LOAD, LOAD, signal=2), Instruction(Opcode.COMPUTE, COMPUTE, wait=1))
    assert ordered >= sum(apart) - 50


def test_layers_are_told_apart():
    model = TimingModel(MACHINE)
    for layer in (0, 1):
        model.execute(Instruction(Opcode.LOAD, LOAD, layer=layer))
    assert model.layers[0].read_beats == model.layers[1].read_beats == 1000
    assert model.layers[1].end == model.cycles > model.layers[0].end
    assert model.layers[0].cycles > 1000
