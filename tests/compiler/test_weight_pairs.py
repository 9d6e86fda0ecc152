"""Layers of 4-bit weights on machines that take them in pairs: passes, bytes, and every result."""

from __future__ import annotations

import numpy as np
import pytest
from fixed_networks import NetworkBuilder
from random_network import random_input, random_network
from test_random_networks import with_few_weights, with_narrow_weights

from compiler.compile import Compilation, compile_passes, place_instructions
from compiler.error import CompileError
from compiler.estimate import estimate
from compiler.graph_cycles import GraphCycles
from compiler.lower import lower
from compiler.weights import block_tiles
from hw.isa import Instruction, Mode, Opcode
from hw.machine import Machine
from hw.weight_pairs import fits_pairs, pair_tiles, unpair_tiles
from sim.memory_settings import memory_settings
from sim.reference import run

MACHINES = {
    "8x16": Machine(scratchpad_words=1024, accumulator_depth=64, weight_pairs=True),
    "4x16-32": Machine(
        input_lanes=4, bus_width=32, scratchpad_words=2048, accumulator_depth=32, weight_pairs=True
    ),
    "16x64-128": Machine(
        input_lanes=16, output_lanes=64, bus_width=128, scratchpad_words=512, weight_pairs=True
    ),
    "8x16-decoder": Machine(
        scratchpad_words=1024, accumulator_depth=64, weight_pairs=True, weight_decoder=True
    ),
}


@pytest.fixture(params=list(MACHINES))
def machine(request: pytest.FixtureRequest) -> Machine:
    """Each machine in turn."""
    return MACHINES[request.param]


def computes(compilation: Compilation) -> list[Instruction]:
    return [one for one in compilation.instructions if one.opcode is Opcode.COMPUTE]


def test_tiles_of_all_pairs(machine: Machine) -> None:
    weights = np.random.default_rng(0).integers(
        -8, 8, (40, machine.output_lanes, 2 * machine.input_lanes)
    )
    tiles = pair_tiles(weights, machine)
    assert tiles.nbytes * 2 == weights.size
    assert np.array_equal(unpair_tiles(tiles, machine), weights)
    assert fits_pairs(weights)
    assert not fits_pairs(np.array([8]))
    assert not fits_pairs(np.array([-9, 0]))


def test_dense_stream() -> None:
    """Byte (column, lane): the weights of two output lanes, half of all apart; upper columns have the second
    half of the inputs."""
    machine = Machine(input_lanes=4, output_lanes=8, weight_pairs=True)
    build = NetworkBuilder((11, 5, 5))
    model = build.model(build.convolution("input", 11, (2, 2), bits=4))
    operation = lower(model, machine).layers[0].operations[0]
    assert operation.pairs
    assert operation.tail is not None
    values = np.zeros((16, 16, 2, 2), np.int64)
    values[:11, :11] = model.weights["conv0"].values
    tiles = block_tiles(machine, operation, 0, 2)
    assert tiles.shape == (2, 2 * 4, machine.tile_bytes)
    for block, number in np.ndindex(2, 8):
        ib, ky, kx = number // 4, number // 2 % 2, number % 2
        for column, lane in np.ndindex(8, 4):
            channel = 8 * ib + 4 * (column // 4) + lane
            lower_output, upper_output = 8 * block + column % 4, 8 * block + column % 4 + 4
            pair = 16 * values[upper_output, channel, ky, kx] + values[lower_output, channel, ky, kx]
            assert (tiles[block, number, 4 * column + lane] - pair) % 256 == 0


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "groups"),
    [(64, 40, (3, 3), 1), (50, 21, (1, 1), 1), (36, 16, (2, 3), 1), (35, 20, (3, 3), 1), (66, 22, (2, 2), 2),
     (3, 30, (3, 3), 1), (1, 20, (5, 5), 1), (40, 40, (3, 3), 40)],
)  # fmt: skip
def test_every_kind_of_convolution(check, machine, bits, channels, outputs, kernel, groups) -> None:
    build = NetworkBuilder((channels, 9, 8))
    out = build.convolution("input", outputs, kernel, pads=(1, 0, 1, 1), groups=groups, bits=bits)
    compilation = check(build.model(out), machine, build.image())
    [operation] = compilation.lowered.layers[0].operations
    fits = bits == 4 and channels != 1 and groups != channels
    assert operation.pairs == fits
    for code in computes(compilation):
        pairs = fits and not (code["mode"] == Mode.THIN.value and code["thin_channels"] == 1)
        assert code["pairs"] == pairs


def test_networks(check, machine: Machine) -> None:
    """Residuals, poolings, permutations, fully connected layers; some layers of 8 bits between."""
    checked = 0
    for seed in range(30):
        model = with_narrow_weights(random_network(seed, 8), seed)
        if seed % 3 == 0:
            model = with_narrow_weights(with_few_weights(model, seed), seed)
        try:
            compilation = check(model, machine, random_input(model, seed)[0], store_all=bool(seed % 2))
        except CompileError as error:
            assert "smallest tile" in str(error)  # noqa: PT017
            continue
        checked += any(code["pairs"] for code in computes(compilation))
    assert checked >= 8


@pytest.mark.parametrize(
    ("channels", "kernel", "size", "tiles"),
    [(64, (3, 3), 16, 72), (128, (1, 1), 14, 16), (256, (4, 4), 4, 512)],
)
def test_half_the_passes_and_half_the_bytes(channels, kernel, size, tiles) -> None:
    """Of whole words of channels, on the default machine; ``tiles``: of 8-bit weights for an output block."""
    build = NetworkBuilder((channels, size, size))
    model = build.model(build.convolution("input", 64, kernel, bits=4))
    found = {}
    for pairs in (False, True):
        machine = Machine(weight_pairs=pairs)
        placed = place_instructions(model, machine)
        weights = (one for one in placed.instructions if one.opcode is Opcode.WEIGHTS)
        words = sum(one["blocks"] * one["words"] for one in weights)
        # all of them come once for each rectangle of pixels
        once = 4 * tiles * machine.tile_bytes // (2 if pairs else 1)
        rectangles, rest = divmod(words * machine.weight_word_bytes, once)
        assert rest == 0
        busy = estimate(placed.instructions, machine, memory_settings("ideal")).total().array_busy
        found[pairs] = rectangles, busy
    assert found[False][0] == found[True][0]
    assert found[False][1] == pytest.approx(2 * found[True][1])


def test_single_pixels_are_left_to_a_decoder() -> None:
    """It has as few bytes for 4 bits, or fewer."""
    build = NetworkBuilder((64, 3, 3))
    convolution = build.convolution("input", 32, (2, 2), bits=4)
    model = build.model(build.convolution(convolution, 40, (2, 2), bits=4))
    pairs = [
        [layer.operations[0].pairs for layer in lower(model, machine).layers]
        for machine in (MACHINES["8x16"], MACHINES["8x16-decoder"])
    ]
    assert pairs == [[True, True], [True, False]]
    image = build.image()
    program = compile_passes(model, MACHINES["8x16-decoder"], image, run(model, image[None])).program
    assert program.output_shape == (40, 1, 1)


def test_graphs_that_are_not_calibrated_count_as_8_bits() -> None:
    build = NetworkBuilder((64, 9, 9))
    model = build.model(build.convolution("input", 48, (3, 3)))
    machine, memory = Machine(weight_pairs=True), memory_settings("ideal")
    placed = place_instructions(model, machine)
    [layer] = estimate(placed.instructions, machine, memory).layers.values()
    assert GraphCycles(machine, memory)(model.graph) == {"conv0": layer.cycles}
