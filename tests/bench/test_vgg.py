"""VGG-16 as the benchmark builds it: its size, and a small one through the RTL."""

import numpy as np
import pytest

from bench.vgg import vgg16
from compiler.compile import compile_model
from hw.machine import Machine
from quant.fixed_model import FixedModel
from quant.graph import Convolution
from sim import reference
from sim.run import simulate


def _products(model: FixedModel) -> int:
    graph = model.graph
    return sum(
        model.weights[node.name].values[0].size * int(np.prod(graph.shapes[node.output]))
        for node in graph.nodes
        if isinstance(node, Convolution)
    )


@pytest.mark.parametrize("svd", [False, True])
def test_small_one_in_rtl_fills_its_bits(svd):
    model = vgg16(svd=svd, size=32, divide=16)
    names = [node.name for node in model.graph.nodes]
    assert len(names) == 13 + 5 + 3 + svd
    inputs = np.random.default_rng(1).integers(-128, 128, (1, 3, 32, 32))
    tensors = reference.run(model, inputs)
    for name, values in tensors.items():
        form = model.formats[name]
        assert 16 < values.max() <= form.high, name
        assert (values == form.high).mean() < 0.1, name
    program = compile_model(model, Machine(), inputs[0], tensors)
    assert sum(layer.macs for layer in program.layers) == _products(model)
    outcome = simulate(program, model, inputs)
    assert outcome.bit_exact, outcome.problem


def test_the_whole_one_is_as_large_as_published():
    model = vgg16(svd=True)
    assert model.weights["fc6_1"].values.shape == (500, 512, 7, 7)
    assert _products(model) == pytest.approx(15.38e9, rel=0.001)
    assert model.graph.output_shape == (1000,)
