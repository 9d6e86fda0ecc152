"""Tiles fit, cover everything, and sensible ones are chosen."""

from __future__ import annotations

import pytest
from fixed_networks import NetworkBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.error import CompileError
from compiler.lower import lower
from compiler.tile import MOST_SLOTS, best_tiling, choose_tiling
from compiler.tiling_problem import TilingProblem
from hw.machine import Machine


def _operation(machine: Machine, channels: int, outputs: int, size: int, kernel: int, groups: int = 1):
    build = NetworkBuilder((channels, size, size))
    pad = kernel // 2
    out = build.convolution("input", outputs, (kernel, kernel), pads=(pad, pad, pad, pad), groups=groups)
    return lower(build.model(out), machine).layers[0].operations[0]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.integers(1, 40),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([512, 2048, 8192]),
    st.sampled_from([16, 128, 512]),
    st.booleans(),
    st.booleans(),
)
def test_tilings_fit(channels, outputs, size, kernel, words, depth, source, destination):
    machine = Machine(scratchpad_words=words, accumulator_depth=depth)
    operation = _operation(machine, channels, outputs, size, kernel)
    pitches = {"source_pitch": size * source, "destination_pitch": size * destination}
    problem = TilingProblem(operation, machine, **pitches)
    room = words // 2
    tiling = best_tiling(problem, room)
    if tiling is None:
        assert problem.least_words() + machine.output_lanes > room
        return
    assert tiling.tile_rows * tiling.tile_columns <= depth
    assert tiling.words <= room
    assert (tiling.source_slots == 0) == source
    assert (tiling.destination_slots == 0) == destination
    rows = min(size, tiling.tile_rows + kernel - 1)
    columns = min(size, tiling.tile_columns + kernel - 1)
    if not source:
        assert tiling.source_words >= rows * columns * operation.source.planes


@pytest.mark.parametrize("bus_width", [32, 64, 128])
def test_tiles_of_a_narrow_map_have_whole_beats(bus_width):
    machine = Machine(scratchpad_words=256, accumulator_depth=16, bus_width=bus_width, weight_fifo_words=64)
    together = bus_width // 32
    for kernel, stride, size in ((3, 1, 40), (5, 2, 48), (1, 3, 44), (3, 2, 20)):
        build = NetworkBuilder((3, size, size))
        out = build.convolution("input", 8, (kernel, kernel), stride=(stride, stride))
        operation = lower(build.model(out), machine).layers[0].operations[0]
        assert operation.source.storage.beat_pixels == together
        tiling = choose_tiling(TilingProblem(operation, machine), 200)
        for first in range(0, operation.columns, tiling.tile_columns):
            count = min(tiling.tile_columns, operation.columns - first)
            low, high = operation.window(1, first, count)
            assert low % together == high % together == 0
            assert low <= first * stride
            assert (first + count - 1) * stride + kernel <= high <= size
            assert (high - low) * (operation.window(0, 0, tiling.tile_rows)[1]) <= tiling.source_words


def test_large_maps_have_all_slots_and_wide_tiles():
    machine = Machine()
    tiling = choose_tiling(TilingProblem(_operation(machine, 64, 64, 56, 3), machine), 8192)
    assert tiling.source_slots == tiling.destination_slots == MOST_SLOTS
    assert tiling.tile_rows * tiling.tile_columns >= 100


def test_channelwise_layers_load_only_their_planes():
    machine = Machine(scratchpad_words=512)
    tiling = choose_tiling(TilingProblem(_operation(machine, 256, 256, 28, 3, groups=256), machine), 512)
    assert tiling.group_blocks < 16


def test_too_small_a_scratchpad():
    machine = Machine(scratchpad_words=256)
    operation = _operation(machine, 1024, 16, 8, 5)
    with pytest.raises(
        CompileError,
        match=r"^conv0: its smallest tile takes 1601 words of 16 bytes \(64 input planes, "
        r"kernel 5x5\), the scratchpad has 256",
    ):
        choose_tiling(TilingProblem(operation, machine), 256)
