"""Cycles of one COMPUTE instruction, against what the RTL is documented to do."""

import pytest

from hw.compute_cycles import compute_cycles
from hw.isa import Instruction, Mode, Opcode
from hw.machine import Machine
from hw.pass_loops import taps_pass_cycles

MACHINE = Machine()  # a tile is 16 beats, a parameter block 16; two beats leave the FIFO in a cycle


def _work(**fields):
    instruction = Instruction(
        Opcode.COMPUTE,
        {
            "output_rows": 16,
            "output_columns": 20,
            "kernel_rows": 3,
            "kernel_columns": 3,
            "input_blocks": 2,
            "output_blocks": 4,
            "mode": Mode.DENSE.value,
            **fields,
        },
    )
    return compute_cycles(MACHINE, instruction)


def test_a_word_a_cycle():
    work = _work()
    assert work.words == work.cycles == 4 * 18 * 320
    assert work.weight_wait == 0
    assert work.weight_beats == 4 * (18 * 16 + 16)
    assert work.first_beats == 32


@pytest.mark.parametrize(("fields", "cadence"), [({"residual": 1}, 2), ({"average": 1}, 16)])
def test_the_last_pass_is_slow(fields, cadence):
    assert _work(**fields).cycles == 4 * 320 * (17 + cadence)


def test_other_modes_keep_channels_apart():
    assert _work(mode=Mode.MAXIMUM.value, input_blocks=1).words == 4 * 9 * 320
    held = _work(mode=Mode.MAXIMUM.value, input_blocks=1, hold_weights=1)
    assert held.weight_beats == 4 * (16 + 16)


@pytest.mark.parametrize("mode", [Mode.DEPTHWISE, Mode.THIN])
def test_taps_on_the_input_lanes(mode):
    # 9 taps on 8 lanes
    work = _work(mode=mode.value)
    assert work.words == work.cycles == 4 * 2 * 320
    assert work.weight_beats == 4 * (2 * 16 + 16)
    assert work.start == _work().start + MACHINE.input_lanes
    short = _work(mode=mode.value, output_rows=1, output_columns=1, hold_weights=1)
    assert short.cycles == 4 * max(2 * taps_pass_cycles(MACHINE), (16 + 16) // 2)


def test_results_come_with_the_last_pass():
    work = _work(residual=1)
    assert (work.before_results, work.last_pass) == (17 * 320, 2 * 320)
    assert _work(partial=1).drain < _work().drain < work.drain


def test_short_passes_wait_for_weights():
    work = _work(output_rows=1, output_columns=1)
    assert work.weight_beats == 4 * (18 * 16 + 16)
    assert work.cycles == work.weight_beats // 2
    assert work.words + work.weight_wait == work.cycles
    # held weights do not arrive, and the accumulators' loop is the limit
    held = _work(output_rows=1, output_columns=1, mode=Mode.MAXIMUM.value, input_blocks=1, hold_weights=1)
    assert held.cycles == 4 * 45
    assert held.weight_wait == 0
