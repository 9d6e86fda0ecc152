"""Strips of many heights: they cover everything, end together, and compute what the reference computes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from fixed_networks import NetworkBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

import compiler.tile
from compiler.compile import place_instructions
from compiler.estimate import estimate
from compiler.strips import StripCosts, Strips, _falling, lower_strips
from hw.isa import Opcode
from hw.machine import Machine
from sim.memory_settings import memory_settings

#: Depthwise 3x3, 64 channels, 28x28.
COSTS = StripCosts(
    rows=28,
    groups=4,
    most=16,
    new_rows=1,
    ahead=1,
    load_row=56,
    store_row=56,
    loads_whole=False,
    compute_row=56,
    compute_strip=6,
    strip=7,
    group=48,
    slots=4,
)
PRESENT = ((1, 16, 11), (16, 12), (16, 12), (16, 11, 1))


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 60),
    groups=st.integers(1, 6),
    most=st.integers(1, 40),
    strip=st.floats(1, 200),
    row=st.floats(1, 200),
)
def test_falling_strips_cover_all_rows(rows, groups, most, strip, row):
    costs = replace(COSTS, rows=rows, groups=groups, most=most, compute_row=row)
    strips = _falling(costs, strip)
    assert len(strips) == groups
    for heights in strips:
        assert sum(heights) == rows
        assert all(1 <= height <= most for height in heights)
    # none is higher than the ones before it, but for rests
    whole = [height for heights in strips for height in heights[:-1]]
    assert whole == sorted(whole, reverse=True)


def test_dear_strips_are_few():
    counts = [sum(map(len, _falling(COSTS, strip))) for strip in (2, 8, 32, 128)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[-1]


def test_lower_strips_are_faster_where_all_three_take_equally_long():
    found = lower_strips(COSTS, PRESENT)
    assert found is not None
    assert COSTS.fast(found, 1.0) < 0.88 * COSTS.fast(PRESENT, 1.0)
    assert COSTS.narrow(found, 4.0) < 1.05 * COSTS.narrow(PRESENT, 4.0)
    assert lower_strips(replace(COSTS, strip=300), PRESENT) is None


def _layer(channels: int, rows: int, columns: int, stride: int, pool: bool) -> NetworkBuilder:
    build = NetworkBuilder((channels, rows, columns))
    if pool:
        build.max_pool("input")
    else:
        pads = (1, 1, 1, 1)
        build.convolution("input", channels, (3, 3), stride=(stride, stride), pads=pads, groups=channels)
    return build


@pytest.mark.parametrize("name", ["8x16-64", "8x8-64", "8x16-128", "4x64-128"])
@pytest.mark.parametrize("seed", range(6))
def test_any_strips_compute_the_same(check, machines, monkeypatch, name, seed):
    """Random heights instead of the chosen ones, below the tile's."""
    rng = random.Random(seed)
    cut: list[Strips] = []

    def any_strips(costs: StripCosts, present: Strips) -> Strips:
        strips = []
        for _ in range(costs.groups):
            heights: list[int] = []
            while left := costs.rows - sum(heights):
                heights.append(rng.randint(1, min(left, costs.most, 5)))
            strips.append(tuple(heights))
        cut.append(tuple(strips))
        return cut[-1]

    monkeypatch.setattr(compiler.tile, "lower_strips", any_strips)
    machine = machines[name]
    pool = rng.random() < 0.3
    channels = rng.choice([3, 16, 37, 64])
    build = _layer(channels, rng.randint(6, 20), rng.randint(4, 14), rng.choice([1, 2]), pool)
    model, image = build.model(next(reversed(build.shapes))), build.image()
    compilation = check(model, machine, image)
    tiling = compilation.plan.steps[0].tiling
    if tiling.strips:
        assert tiling.strips in cut
        assert any(one.left_out for one in compilation.instructions) or len(compilation.instructions) < 9


def test_weights_come_once_for_each_plane_and_words_are_left_out():
    machine = Machine()
    build = _layer(64, 28, 28, 1, False)
    placed = place_instructions(build.model(next(reversed(build.shapes))), machine)
    assert placed.plan.steps[0].tiling.strips
    weights = [one for one in placed.instructions if one.opcode is Opcode.WEIGHTS]
    computes = [one for one in placed.instructions if one.opcode is Opcode.COMPUTE]
    assert len(weights) == 4
    assert sum(one["repeats"] + 1 for one in weights) == len(computes) > 20
    assert sum(one.left_out.bit_count() for one in computes) >= 4 * (len(computes) - 1)
    found = estimate(placed.instructions, machine, memory_settings("ideal"))
    assert found.cycles < 7400
