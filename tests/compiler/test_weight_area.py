"""Encodings that the compiler chooses: few values stay few from float weights to a smaller stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from compiler.compile import compile_model
from compiler.listing import instructions_of
from compiler.weight_area import _runs_of
from hw.isa import INSTRUCTION_BYTES, Opcode
from hw.machine import Machine
from hw.program_file import ProgramFile
from quant.calibrate import calibrate
from quant.fixed_model import FixedModel
from quant.torch_import import import_module
from quant.weight_choice import shares_values
from sim.program import ProgramSimulator
from sim.reference import prepare_input, run

DECODER = Machine(weight_decoder=True)
IMAGES = np.random.default_rng(0).random((8, 3, 8, 8), np.float32)


def network(values: list[float], density: float) -> nn.Module:
    """A convolution and a layer whose weights are these values, or zero, and one that has any."""
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 24, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(216, 70), nn.ReLU(),
        nn.Linear(70, 10),
    )  # fmt: skip
    rng = np.random.default_rng(4)
    for layer in (module[0], module[4]):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        shape = tuple(layer.weight.shape)
        chosen = rng.choice(values, shape) * (rng.random(shape) < density)
        layer.weight.data = torch.from_numpy(chosen.astype(np.float32))
    return module


def fixed(values: list[float], density: float) -> FixedModel:
    model, _ = calibrate(import_module(network(values, density), (3, 8, 8)), [IMAGES])
    return model


def weight_bytes(program: ProgramFile) -> int:
    """Of the second layer's tiles, as they are encoded."""
    machine = program.machine
    words = sum(
        one["blocks"] * one["words"]
        for one in instructions_of(program)
        if one.opcode is Opcode.WEIGHTS and one.layer == 2
    )
    return words * machine.weight_word_bytes


@pytest.mark.parametrize(
    ("values", "density", "smaller"),
    [
        ([-0.11, 0.07], 0.6, 2.9),
        ([*np.linspace(-0.2, 0.2, 15)], 0.08, 4.5),
        ([*np.linspace(-0.2, 0.2, 15)], 1, 1.45),
    ],
    ids=["ternary", "sparse", "four bits"],
)
def test_few_values_are_a_smaller_program(values: list[float], density: float, smaller: float) -> None:
    model = fixed(values, density)
    counts = [len(np.unique(weights.values)) for weights in model.weights.values()]
    assert counts[1] <= 16 < counts[2]
    image = prepare_input(model, IMAGES[:1])
    tensors = run(model, image)
    raw, encoded = (compile_model(model, machine, image[0], tensors) for machine in (Machine(), DECODER))
    assert weight_bytes(raw) > smaller * weight_bytes(encoded)
    folded = [
        one["fold"] for one in instructions_of(encoded) if one.opcode is Opcode.COMPUTE and one.layer == 2
    ]
    assert folded
    assert all(folded)
    simulator = ProgramSimulator(DECODER, encoded.memory_bytes)
    simulator.load(encoded)
    assert np.array_equal(simulator.run(image[0]), tensors[model.graph.output][0])


def test_what_shares_values() -> None:
    rng = np.random.default_rng(0)
    assert shares_values(rng.choice(np.linspace(-1, 1, 16), (8, 8)))
    assert not shares_values(rng.choice(np.linspace(-1, 1, 17), 1000))
    assert not shares_values(np.arange(10.0))
    assert shares_values(np.array([-2.0, 0, 3, 3]))


def test_runs_are_cut_where_that_is_less() -> None:
    # one long block among short ones; filling costs less than an instruction for small differences
    sizes = [160, 160, 176, 800, 160, 160]
    assert _runs_of((*sizes,), 0, fill=True) == [[160, 160, 176], [800], [160, 160]]
    assert _runs_of((*sizes,), 640, fill=True) == [[800], [160, 176], [800], [160, 160]]
    assert _runs_of((160, 160, 160), 16, fill=True) == [[176, 160, 160]]
    assert _runs_of((160, 160, 160), 16, fill=False) == [[176], [160, 160]]
    assert _runs_of((), 0, fill=True) == []
    rng = np.random.default_rng(1)
    for _ in range(50):
        sizes = rng.integers(1, 20, rng.integers(1, 8)) * 16
        cost = sum(
            len(run) * max(run) + INSTRUCTION_BYTES for run in _runs_of(tuple(sizes.tolist()), 0, fill=True)
        )
        cuts = range(1 << (len(sizes) - 1))
        best = min(
            sum(len(part) * max(part) + INSTRUCTION_BYTES
                for part in np.split(sizes, [n + 1 for n in range(len(sizes) - 1) if cut >> n & 1]))
            for cut in cuts
        )  # fmt: skip
        assert cost == best
