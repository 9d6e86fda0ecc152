"""Estimated cycles: those of the RTL, within 5 %, and what overlaps and waits."""

import pytest
from fixed_networks import NetworkBuilder

from bench.accuracy_data import BenchDataError, shared_folder
from bench.baseline import read_baseline
from bench.work import WORK, compile_work
from compiler.compile import compile_model
from compiler.estimate import estimate
from compiler.layer_estimate import REASONS
from compiler.listing import instructions_of
from hw.compute_cycles import AFTER_RESULTS, DRAIN_CYCLES, START_CYCLES, TAKE_CYCLES
from hw.isa import Instruction, Mode, Opcode, Unit
from hw.machine import Machine
from sim.memory_settings import memory_settings
from sim.reference import run as reference
from sim.run import simulate

MACHINE = Machine()
TILE_WORDS = MACHINE.tile_bytes // MACHINE.weight_word_bytes
IDEAL = memory_settings("ideal")
SLOW = ("N4", "N4-sparse", "N4-huffman", "N5", "N5-SVD")
#: The estimate reckons with the words that are read: it does not know how long codes of few words take.
NOT_ESTIMATED = ("L4-huffman",)
CASES = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else (), id=name)
    for name in WORK
    if name not in NOT_ESTIMATED
]

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
WORDS = 4 * 18 * 256
DRAIN = DRAIN_CYCLES + 3  # eight lanes
WEIGHTS = Instruction(Opcode.WEIGHTS, {"blocks": 4, "words": 18 * TILE_WORDS})


@pytest.mark.parametrize("name", CASES)
def test_within_5_percent_of_rtl(name):
    rows = [row for row in read_baseline() if row.name == name]
    try:
        machine = WORK[name].machine
        program = compile_work(WORK[name], machine).program
    except BenchDataError:
        if shared_folder() is not None:
            raise
        pytest.skip("the folder of models and images that POINTSHIFT_SHARED names is missing")
    later = WORK[name].images > 1  # what is measured then is an inference whose weights are kept
    for row in rows:
        found = estimate(
            instructions_of(program),
            machine,
            memory_settings(row.memory),
            kept_address=program.kept_address if later else None,
        )
        assert found.cycles == pytest.approx(row.cycles, rel=0.05), row.memory
        assert sum(layer.cycles for layer in found.layers.values()) == pytest.approx(found.cycles, abs=1)
        busy = sum(layer.array_busy for layer in row.layers)
        assert found.total().array_busy == pytest.approx(busy, rel=1e-6)


def _run(*instructions, memory=IDEAL):
    return estimate(instructions, MACHINE, memory)


def test_nothing_to_do():
    assert 0 < _run(Instruction(Opcode.LOAD, LOAD)).cycles < 1100


def test_weights_given_again_take_no_time_of_the_bus():
    words = 4 * (MACHINE.parameter_bytes // MACHINE.weight_word_bytes + 18 * TILE_WORDS)
    again = Instruction(Opcode.WEIGHTS, WEIGHTS.fields | {"repeats": 8, "repeated_words": words})
    compute, other = Instruction(Opcode.COMPUTE, COMPUTE), Instruction(Opcode.WEIGHTS, {"blocks": 9000})
    load = Instruction(Opcode.LOAD, {"planes": 1, "rows": 1, "words": 30_000})
    for name in ("ideal", "ulx3s"):
        apart = _run(*[WEIGHTS, compute] * 9, load, memory=memory_settings(name))
        # what follows fills the FIFO while they are kept
        together = _run(again, *[compute] * 9, load, other, memory=memory_settings(name))
        assert together.total().array_busy == pytest.approx(apart.total().array_busy)
        compute_end = together.spans[9][1]
        assert compute_end <= apart.spans[17][1] + 100
        assert together.total().idle_weights <= apart.total().idle_weights + 50


def test_units_overlap_unless_a_token_says_otherwise():
    load, compute = Instruction(Opcode.LOAD, LOAD), Instruction(Opcode.COMPUTE, COMPUTE)
    apart = [_run(load).cycles, _run(WEIGHTS, compute).cycles]
    assert WORDS <= apart[1] < 1.01 * WORDS + 100
    # instructions and weights arrive between the load's bursts
    assert _run(load, WEIGHTS, compute).cycles < max(apart) + 700
    ordered = _run(
        Instruction(Opcode.LOAD, LOAD, signal=2), WEIGHTS, Instruction(Opcode.COMPUTE, COMPUTE, wait=1)
    )
    assert ordered.cycles > sum(apart) - 100
    [layer] = ordered.layers.values()
    assert 1000 < layer.idle_load < 1000 + MACHINE.weight_fifo_words + 100
    assert layer.limit() == "array"
    (_, loaded), _, (began, _) = ordered.spans
    assert began == pytest.approx(loaded)


def _computes(fields, tiles, *, linked, **more):
    """Two COMPUTEs of these fields, the second waiting for the first or not."""
    tokens = ({"signal": 1 << Unit.COMPUTE}, {"wait": 1 << Unit.COMPUTE}) if linked else ({}, {})
    blocks = 2 * fields["output_blocks"]
    weights = Instruction(Opcode.WEIGHTS, {"blocks": blocks, "words": tiles * TILE_WORDS})
    computes = [Instruction(Opcode.COMPUTE, fields | more, **token) for token in tokens]
    return _run(weights, *computes)


def test_neighbours_follow_without_a_gap_unless_one_reads_what_the_other_writes():
    apart = _computes(COMPUTE, 18, linked=False)
    (_, (_, end), (next_begin, next_end)) = apart.spans
    assert next_end - end == pytest.approx(WORDS)
    assert next_begin == pytest.approx(end - DRAIN - 256 + TAKE_CYCLES)
    (_, (_, end), (next_begin, next_end)) = _computes(COMPUTE, 18, linked=True).spans
    assert next_begin == pytest.approx(end)
    assert next_end - end == pytest.approx(WORDS + START_CYCLES + DRAIN)


def test_low_weights_go_with_loads():
    # rows of 4 beats: the bursts of loads fill what the memory accepts, and weights come only because they
    # are urgent
    load = Instruction(Opcode.LOAD, {"planes": 1, "rows": 1000, "words": 2, "memory_row_step": 512})
    long = {"planes": 1, "rows": 60, "words": 32, "memory_row_step": 512}
    compute = Instruction(Opcode.COMPUTE, COMPUTE)
    (_, _, (_, end)) = _run(load, WEIGHTS, compute).spans
    assert end < WORDS + 1000
    # rows of 64 beats leave half of the memory's queue to weights
    (_, loaded), _ = _run(Instruction(Opcode.LOAD, long), WEIGHTS).spans
    beats = 60 * 64
    assert beats + 1000 < loaded < 2 * beats + 100


def test_results_wait_for_those_of_the_neighbour():
    # with one pass the first word is already one of the last pass
    fields = COMPUTE | {"kernel_rows": 1, "kernel_columns": 1, "input_blocks": 1}
    (_, (_, end), (_, next_end)) = _computes(fields, 1, linked=False).spans
    assert next_end - end == pytest.approx(4 * 256 + DRAIN + AFTER_RESULTS)


def test_partial_sums_end_before_post_processing():
    (_, (begin, end), _) = _computes(COMPUTE, 18, linked=True, partial=1).spans
    (_, (begin_full, end_full), _) = _computes(COMPUTE, 18, linked=True).spans
    assert end - begin < end_full - begin_full


def test_narrow_loads_write_a_word_a_cycle_and_leave_the_rest_of_the_bus():
    words = {"planes": 1, "rows": 1, "words": 20_000}
    narrow = Instruction(Opcode.LOAD, words | {"narrow": 1})
    assert _run(narrow).cycles == pytest.approx(20_000, abs=200)
    slow = memory_settings("ulx3s")
    assert _run(narrow, memory=slow).cycles < 0.26 * _run(Instruction(Opcode.LOAD, words), memory=slow).cycles
    # weights have every second beat meanwhile
    weights = Instruction(Opcode.WEIGHTS, {"blocks": 500, "words": 0})
    (_, narrow_end), (_, weights_end) = _run(narrow, weights).spans
    assert narrow_end < 20_500
    assert 16_000 < weights_end < 17_000


@pytest.mark.parametrize("memory", ["ideal", "stalling", "ulx3s"])
@pytest.mark.parametrize("channels", [1, 3])
def test_first_layer_within_5_percent_of_rtl(channels, memory):
    build = NetworkBuilder((channels, 48, 48))
    out = build.convolution("input", 8, pads=(1, 1, 1, 1), stride=(2, 2))
    model, image = build.model(out), build.image()
    program = compile_model(model, MACHINE, image, reference(model, image[None]), store_all=False)
    codes = instructions_of(program)
    assert any(code["narrow"] for code in codes if code.opcode is Opcode.LOAD)
    outcome = simulate(program, model, image[None], memory=memory)
    assert outcome.problem is None
    found = estimate(codes, MACHINE, memory_settings(memory))
    assert found.cycles == pytest.approx(outcome.cycles[0], rel=0.05)


def test_both_directions_share_an_sdram():
    load, store = Instruction(Opcode.LOAD, LOAD), Instruction(Opcode.STORE, LOAD)
    assert _run(load, store).cycles < 1.2 * _run(load).cycles
    sdram = memory_settings("ulx3s")
    assert _run(load, store, memory=sdram).cycles > 1.9 * _run(load, memory=sdram).cycles


def test_one_pixel_runs_at_the_speed_of_weights():
    fields = {"output_rows": 1, "output_columns": 1, "kernel_rows": 1, "kernel_columns": 1}
    weights = Instruction(Opcode.WEIGHTS, {"blocks": 8, "words": 64 * TILE_WORDS})
    compute = Instruction(Opcode.COMPUTE, COMPUTE | fields | {"input_blocks": 64, "output_blocks": 8})
    beats = 8 * (64 * 16 + 16)
    for memory, beat in (("ideal", 1), ("stalling", 19 / 15), ("ulx3s", 4.17)):
        found = _run(weights, compute, memory=memory_settings(memory))
        assert found.cycles == pytest.approx(beats * beat, rel=0.03, abs=100)
        assert found.layers[0].limit() == "weights in"


def test_layers_are_told_apart():
    program = []
    for layer in (0, 1):
        program += [
            Instruction(Opcode.WEIGHTS, WEIGHTS.fields, layer=layer),
            Instruction(Opcode.COMPUTE, COMPUTE, layer=layer),
        ]
    found = _run(*program)
    # the last pass of the first one runs when the second one has begun
    assert [layer.array_busy for layer in found.layers.values()] == pytest.approx([WORDS, WORDS], abs=256)
    assert found.total().array_busy == pytest.approx(2 * WORDS)
    assert sum(layer.cycles for layer in found.layers.values()) == pytest.approx(found.cycles, abs=1)
    for layer in found.layers.values():
        assert list(layer.reasons()) == list(REASONS)
        assert sum(layer.reasons().values()) == pytest.approx(layer.cycles)
