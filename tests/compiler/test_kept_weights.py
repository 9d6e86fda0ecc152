"""Weights that stay on the chip: which come first in memory, and what they spare."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from compiler.compile import compile_model, place_instructions
from compiler.estimate import estimate
from compiler.listing import instructions_of
from compiler.traffic import transfer_of
from hw.isa import Opcode
from hw.machine import Machine
from quant.calibrate import calibrate
from quant.fixed_model import FixedModel
from quant.torch_import import import_module
from sim import reference
from sim.memory_settings import memory_settings
from sim.reference import prepare_input
from sim.run import simulate

PLAIN = Machine(scratchpad_words=2048, accumulator_depth=64, weight_fifo_words=128)
KEPT = replace(PLAIN, kept_weight_words=1024)  # the random networks run on it, too
IMAGES = np.random.default_rng(0).random((2, 24, 9, 9), np.float32)


@pytest.fixture(scope="module")
def model() -> FixedModel:
    """Convolutions whose products hide their weights, and layers that wait for theirs."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(3), nn.Flatten(), nn.Linear(288, 96), nn.ReLU(), nn.Linear(96, 20),
    )  # fmt: skip
    return calibrate(import_module(module, IMAGES.shape[1:]), [IMAGES])[0]


def weight_ranges(placed) -> dict[tuple[int, int], int]:
    """First byte and end of what each WEIGHTS reads, and its layer."""
    found = {}
    for one in placed.instructions:
        if one.opcode is Opcode.WEIGHTS:
            size = transfer_of(one, KEPT).beats * KEPT.bus_bytes
            found[one["memory_address"], one["memory_address"] + size] = one.layer
    return found


def test_the_order_is_a_permutation(model: FixedModel) -> None:
    plain, kept = (weight_ranges(place_instructions(model, machine)) for machine in (PLAIN, KEPT))
    sizes = [sorted((end - first, layer) for (first, end), layer in one.items()) for one in (plain, kept)]
    assert sizes[0] == sizes[1]
    for ranges in (sorted(plain), sorted(kept)):
        assert all(end <= first for (_, end), (first, _) in pairwise(ranges))


def test_layers_that_wait_for_weights_keep_theirs(model: FixedModel) -> None:
    placed = place_instructions(model, KEPT)
    start = placed.memory_map.weights
    assert start % KEPT.kept_alignment == 0
    inside = {layer: 0 for layer in range(5)}
    for (first, end), layer in weight_ranges(placed).items():
        inside[layer] += max(min(end, start + KEPT.kept_weight_bytes) - max(first, start), 0)
    total = sum(inside.values())
    assert total >= KEPT.kept_weight_bytes - 64 * len(placed.instructions)
    kinds = [layer.kind for layer in placed.lowered.layers]
    first = kinds.index("fully connected")
    assert inside[first] > total / 2


@pytest.mark.parametrize("memory", ["ideal", "ulx3s"])
def test_later_inferences_read_less(model: FixedModel, memory: str) -> None:
    """In RTL, every layer compared with the reference, and by the estimate."""
    inputs = prepare_input(model, IMAGES)
    program = compile_model(model, KEPT, inputs[0], reference.run(model, inputs[:1]))
    outcome = simulate(program, model, np.concatenate([inputs, inputs[:1]]), memory=memory)
    assert outcome.problem is None
    first, *others = (sum(layer.read_beats for layer in image.values()) for image in outcome.counters)
    assert len(set(others)) == 1
    assert first - others[0] == pytest.approx(KEPT.kept_weight_words, rel=0.2)
    settings = memory_settings(memory)
    instructions = instructions_of(program)
    for image, address in ((0, None), (1, program.kept_address)):
        found = estimate(instructions, KEPT, settings, kept_address=address).cycles
        assert found == pytest.approx(outcome.cycles[image], rel=0.05)
