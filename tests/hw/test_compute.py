"""The whole compute unit against `docs/machine.md`: random instructions, stalls and machines."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import rtlil

from hw.accumulators import LOOP_LATENCY
from hw.array import array_latency
from hw.compute import Compute
from hw.isa import Instruction, Mode, Opcode, Unit
from hw.machine import Machine
from hw.pixel_loops import AVERAGE_CADENCE, RESIDUAL_CADENCE
from hw.scratchpad import READ_LATENCY
from hw.weight_stream import BlockHeader, Encoding, encode_tiles, encodings_of

sys.path.append(str(Path(__file__).parent))
from compute_model import beats_of, encoded, execute, passes, random_chain, random_instruction
from verilated_compute import Outcome, VerilatedCompute

MACHINES = {
    "4x4x32": Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=1024,
                      accumulator_depth=64),
    "8x8x64": Machine(input_lanes=8, output_lanes=8, bus_width=64, scratchpad_words=1024,
                      accumulator_depth=64),
    "8x16x64": Machine(input_lanes=8, output_lanes=16, scratchpad_words=1024, accumulator_depth=128),
    "4x16x128-pairs": Machine(input_lanes=4, output_lanes=16, bus_width=128, scratchpad_words=1024,
                              accumulator_depth=64, average_pooling=False, weight_pairs=True),
    "16x16x128": Machine(input_lanes=16, output_lanes=16, bus_width=128, scratchpad_words=1024,
                         accumulator_depth=64),
    "8x8x64-decoder": Machine(input_lanes=8, output_lanes=8, scratchpad_words=1024, accumulator_depth=64,
                              weight_decoder=True),
    "4x32x32-decoders-pairs": Machine(input_lanes=4, output_lanes=32, bus_width=32, scratchpad_words=1024,
                                      accumulator_depth=64, weight_decoder=True, huffman_decoder=True,
                                      weight_pairs=True),
}

#: Cycles from taking an instruction to its first read: wait, place and mark the first pass, see its
#: weights, start it, issue the word, register its address.
FIRST_READ = 7


@pytest.fixture(scope="module", params=list(MACHINES))
def unit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VerilatedCompute:
    return VerilatedCompute(MACHINES[request.param], tmp_path_factory.mktemp("compute"))


def run_and_compare(unit: VerilatedCompute, codes: list[Instruction], seed: int, *, raw: bool = False,
                    **stalls: int) -> Outcome:
    """Run instructions with random weights and data; compare the scratchpad after each.

    A machine with a weight decoder gets encoded weights, unless they are to be ``raw``.
    """
    machine = unit.machine
    rng = np.random.default_rng(seed)
    blocks: list[bytes] = []
    given: list[bytes] = []
    kinds: list[bool] = []
    for code in codes:
        more, which = beats_of(machine, code, rng)
        blocks += more
        if machine.weight_decoder and not raw:
            more, which = encoded(machine, code, more, rng)
        given += more
        kinds += which
    scratch = rng.integers(0, 256, (machine.scratchpad_words, machine.word_bytes), dtype=np.uint8)
    outcome = unit.run(codes, given, kinds, scratch, seed=seed, **stalls)
    assert outcome.collisions == 0, "residual read and write in the same cycle"
    assert outcome.outside == 0, "a word outside the scratchpad, or an instruction taken while not idle"
    assert outcome.weight_words == sum(map(len, given)) // machine.weight_word_bytes
    stream, sums = iter(blocks), []
    for number, (code, record) in enumerate(zip(codes, outcome.records, strict=True)):
        execute(machine, code, scratch, stream, sums)
        wrong = np.argwhere(scratch != outcome.snapshots[number])
        assert not len(wrong), (f"instruction {number} {code}: {len(wrong)} bytes differ, the first in word "
                                f"{wrong[0][0]} lane {wrong[0][1]}")
        assert record.wait_mask == code.wait
        assert record.signal_mask == code.signal
    assert sum(record.busy for record in outcome.records) == sum(map(words_of, codes))
    return outcome


def words_of(code: Instruction) -> int:
    """Words that an instruction reads."""
    return code["output_blocks"] * len(passes(code)) * code["output_rows"] * code["output_columns"]


def least_cycles(code: Instruction) -> int:
    """Cycles that the words of an instruction take when no pass waits for weights."""
    pixels = code["output_rows"] * code["output_columns"]
    cadence = AVERAGE_CADENCE if code["average"] else RESIDUAL_CADENCE if code["residual"] else 1
    return code["output_blocks"] * sum(
        max(pixels * (cadence if one.last else 1), LOOP_LATENCY) for one in passes(code))


def weight_cycles(machine: Machine, code: Instruction) -> int:
    """Cycles in which the weights of an instruction leave the FIFO."""
    tiles = sum(one.tiles for one in passes(code)) * machine.tile_bytes
    return code["output_blocks"] * (tiles + machine.parameter_bytes) // machine.weight_word_bytes


@pytest.mark.parametrize("seed", range(6))
def test_random(unit: VerilatedCompute, seed: int) -> None:
    """Back-to-back random instructions; every other seed with slow weights, instructions, tokens."""
    machine = unit.machine
    rng = np.random.default_rng(1000 + seed)
    codes = [random_instruction(machine, rng) for _ in range(25)]
    run_and_compare(unit, codes, seed, weight_stall=(0, 50, 0, 95, 0, 10)[seed],
                    instruction_stall=(0, 90)[seed % 2], token_stall=(0, 0, 80)[seed % 3])


@pytest.mark.parametrize("seed", range(2))
def test_sums_that_go_on(unit: VerilatedCompute, seed: int) -> None:
    """Sums that one instruction leaves and the next one continues, between others."""
    rng = np.random.default_rng(2000 + seed)
    codes: list[Instruction] = []
    for _ in range(8):
        codes += [*random_chain(unit.machine, rng), random_instruction(unit.machine, rng)]
    run_and_compare(unit, codes, seed, weight_stall=(0, 60)[seed], token_stall=(0, 60)[seed])


def convolution(machine: Machine, **more: int) -> Instruction:
    """A padded 3x3 convolution of two words of channels."""
    size = 7
    fields = {
        "source_address": -size - 1 & 0xFFFF, "source_plane_step": size * size, "source_row_step": size,
        "source_tap_row_step": size, "image_rows": size, "image_columns": size, "origin_row": -1,
        "origin_column": -1, "stride_rows": 1, "stride_columns": 1, "dilation_rows": 1,
        "dilation_columns": 1, "kernel_rows": 3, "kernel_columns": 3,
        "input_blocks": 2 * machine.blocks_per_word, "output_blocks": 3, "mode": Mode.DENSE.value,
        "output_rows": size, "output_columns": size, "destination_address": 512,
        "destination_plane_step": size * size, "destination_row_step": size, "low": 0, "high": 255,
        "sum_low": -128, "sum_high": 127, "divisor": 9,
    }
    return Instruction(Opcode.COMPUTE, {**fields, **more}, wait=1, signal=4)


@pytest.mark.parametrize("kind", ["plain", "residual", "hold_weights", "average"])
def test_cycles_of_long_passes(unit: VerilatedCompute, kind: str) -> None:
    """One word a cycle, with nothing lost between passes, blocks and instructions: exact."""
    machine = unit.machine
    if kind == "average" and not machine.average_pooling:
        pytest.skip("built without average pooling")
    code = convolution(machine, **({} if kind == "plain" else {kind: 1}))
    outcome = run_and_compare(unit, [code] * 4, 7, raw=True)
    # a block's last word gives way to the next block at once
    not_waited = code["output_blocks"] * {"residual": 1, "average": AVERAGE_CADENCE - 1}.get(kind, 0)
    expected = least_cycles(code) - not_waited
    # residual turns come at every second cycle, whenever the last pass of a block starts
    slack = code["output_blocks"] if kind == "residual" else 0
    # the first word's way from its read address to its write address
    pipeline = READ_LATENCY + array_latency(machine) + 2 + 8
    pipeline += {"residual": 9, "average": 11}.get(kind, 0)
    first = outcome.records[0]
    # its parameters and first tile are on their way while it is placed and marked
    bytes_before = machine.parameter_bytes + machine.tile_bytes
    assert first.weight_wait == bytes_before // machine.weight_word_bytes - 1
    ideal = FIRST_READ + expected + pipeline + first.weight_wait - 2
    assert ideal <= first.end - first.start <= ideal + slack
    for before, record in zip(outcome.records, outcome.records[1:]):
        assert expected <= record.end - before.end <= expected + slack
        assert record.weight_wait == 0
        assert record.token_wait == 0


def test_fully_connected_runs_at_the_speed_of_the_weights(unit: VerilatedCompute) -> None:
    """One output pixel: each weight is used once, so the stream of weights sets the pace."""
    machine = unit.machine
    code = convolution(machine, kernel_rows=7, kernel_columns=7, output_rows=1, output_columns=1,
                       source_address=0, origin_row=0, origin_column=0, output_blocks=5)
    outcome = run_and_compare(unit, [code] * 3, 3, raw=True)
    # small tiles come every five cycles: one is in the way for ten, and three are held
    tile = machine.tile_bytes // machine.weight_word_bytes
    words = 3 * weight_cycles(machine, code) * max(tile, 5) // tile
    assert outcome.cycles <= words + 60, "the weight stream stood still"
    slow = run_and_compare(unit, [code] * 3, 3, raw=True, weight_stall=50).records[1]
    assert slow.weight_wait > 0.9 * (slow.end - slow.start - LOOP_LATENCY * words_of(code)) - 40


@pytest.mark.parametrize(("encoding", "density"), [
    (Encoding.TWO_BITS, 0.7), (Encoding.FOUR_BITS, 0.9), (Encoding.SPARSE, 0.08), (Encoding.SPARSE, 0.0),
    (Encoding.SPARSE_VALUES, 0.3),
])
def test_encoded_weights_are_folded_at_their_speed(unit: VerilatedCompute, encoding: Encoding, density: float,
                                                   ) -> None:
    """A tile in as many cycles as it has pieces, words, or sparse beats, whichever are most; and in
    1.6 at least, 1.4 if sparse, because there is room for five or six of them in the eight cycles from its
    announcement to its use."""
    machine = unit.machine
    if not machine.weight_decoder:
        pytest.skip("built without a weight decoder")
    code = convolution(machine, kernel_rows=1, kernel_columns=1, fold=1, source_address=0, origin_row=0,
                       origin_column=0, output_rows=10, output_columns=12, image_rows=12, image_columns=14,
                       output_blocks=2, source_plane_step=168, input_blocks=2)
    tiles = 2 * 10 * 12
    rng = np.random.default_rng(5)
    values = np.array([-3, 5] if encoding is Encoding.TWO_BITS else range(1, 16))
    if encoding is Encoding.SPARSE_VALUES:
        values = np.array([*range(-128, 0), *range(1, 128)])
    given, kinds, raw = [], [], []
    for _ in range(code["output_blocks"]):
        shape = (1, tiles, machine.tile_bytes)
        content = (rng.choice(values, shape) * (rng.random(shape) < density)).astype(np.int8)
        book = encodings_of(content, machine)[encoding]
        parameters = np.zeros((machine.output_lanes, 8), np.uint8)
        raw += [parameters.tobytes(), *(tile.tobytes() for tile in content[0])]
        parameters[0, 7] = BlockHeader(encoding, encoding.has_codebook).to_byte()
        [stream] = encode_tiles(content, encoding, book, machine)
        padding = -16 % machine.weight_word_bytes
        given += [parameters.tobytes(), *[book.tobytes() + bytes(padding)] * encoding.has_codebook, stream]
        kinds += [True, *[False] * encoding.has_codebook, False]
    scratch = rng.integers(0, 256, (machine.scratchpad_words, machine.word_bytes), dtype=np.uint8)
    outcome = unit.run([code], given, kinds, scratch)
    execute(machine, code, scratch, iter(raw), [])
    assert np.array_equal(scratch, outcome.snapshots[0])
    words = len(stream) / machine.weight_word_bytes
    # one entry of each lane in a cycle
    words *= {Encoding.SPARSE: 2, Encoding.SPARSE_VALUES: 4 / 3}.get(encoding, 1)
    pieces = tiles * machine.tile_bytes // machine.tile_piece_bytes
    parameters = machine.parameter_bytes // machine.weight_word_bytes
    room = {Encoding.SPARSE: 1.4, Encoding.SPARSE_VALUES: 1.4}.get(encoding, 1.6) * tiles
    least = code["output_blocks"] * (max(words, pieces, room) + parameters + 16)
    assert outcome.cycles < 1.1 * least + 60


def test_short_blocks(unit: VerilatedCompute) -> None:
    """Single-pass blocks: bounded by words or by weights, with a short gap between blocks at most."""
    machine = unit.machine
    for size in (1, 4, 7):
        code = convolution(machine, kernel_rows=1, kernel_columns=1, input_blocks=1, source_address=0,
                           origin_row=0, origin_column=0, output_rows=size, output_columns=size)
        outcome = run_and_compare(unit, [code] * 3, size, raw=True)
        beats = weight_cycles(machine, code) // code["output_blocks"]
        latency = 24 + array_latency(machine)  # from a block's claim of its parameters to their release
        bound = code["output_blocks"] * (max(size * size, LOOP_LATENCY, beats) + latency) + 42
        assert outcome.records[-1].end - outcome.records[-1].start <= bound


def test_in_place(unit: VerilatedCompute) -> None:
    """An elementwise instruction may write where it reads, a residual lie where the result goes."""
    machine = unit.machine
    common = {"kernel_rows": 1, "kernel_columns": 1, "source_address": 0, "origin_row": 0, "origin_column": 0}
    elementwise = convolution(machine, mode=Mode.DEPTHWISE.value, input_blocks=1, slot_columns=1,
                              destination_address=0, low=-128, high=127, input_signed=1, **common)
    added = convolution(machine, input_blocks=1, residual=1, residual_signed=1, own_shift=3, residual_shift=1,
                        sum_shift=4, **common)
    for code in (elementwise, added):
        code.wait |= 1 << Unit.COMPUTE  # for what the one before has written
    run_and_compare(unit, [elementwise, added, elementwise, added], 11, weight_stall=20)


def test_ecp5_multipliers_have_the_same_ports() -> None:
    """The form for the ECP5 has one primitive for each multiplier."""
    machine = MACHINES["4x4x32"]
    text = rtlil.convert(Compute(machine, multiplier="ecp5"))
    assert text.count("cell \\MULT18X18D") == machine.multipliers
