"""The best single format for all weights and the best for all feature maps."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from quant.fixed_model import Preparation, accumulator_bound
from quant.float_run import run_float
from quant.graph import Activation, Add, AveragePool, Convolution, Graph, Shape
from quant.map_formats import CalibrationError
from quant.number_format import FL_LIMIT
from quant.static_precision import FloatSample, _Candidates, find_static_precision, sample_float
from quant.widths import Widths
from sim.reference import prepare_input, run


def network(seed: int = 0, *, spread: float = 1.0, classes: int = 6, bias: float = 0.1) -> Graph:
    """Two convolutions with a shortcut, a pool and a classifier; ``spread`` is the last layer's scale."""
    random = np.random.default_rng(seed)

    def convolution(name: str, source: str, shape: tuple, scale: float, **fields) -> Convolution:
        return Convolution(
            name=name,
            inputs=(source,),
            output=f"{name}_out",
            weight=random.normal(0, scale, shape).astype(np.float32),
            bias=random.normal(0, bias, shape[0]).astype(np.float32),
            **fields,
        )

    relu = Activation(low=0.0)
    nodes = [
        convolution("a", "x", (8, 3, 3, 3), 0.3, pads=(1, 1, 1, 1), activation=relu),
        convolution("b", "a_out", (8, 8, 3, 3), 0.2, pads=(1, 1, 1, 1)),
        Add(name="sum", inputs=("b_out", "a_out"), output="sum_out", activation=relu),
        AveragePool(name="pool", inputs=("sum_out",), output="pool_out", kernel=(8, 8), stride=(8, 8)),
        convolution("fc", "pool_out", (classes, 8, 1, 1), spread),
    ]
    shapes: dict[str, Shape] = {
        "x": (3, 8, 8),
        **dict.fromkeys(("a_out", "b_out", "sum_out"), (8, 8, 8)),
        "pool_out": (8, 1, 1),
        "fc_out": (classes, 1, 1),
    }
    return Graph("hand-made", nodes, shapes, "x", "fc_out", (classes,))


def images(count: int = 60, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (count, 3, 8, 8)).astype(np.float32)


def sampled(graph: Graph, data: np.ndarray | None = None) -> FloatSample:
    data = images() if data is None else data
    return sample_float(graph, [data[:7], data[7:]], len(data))


@pytest.mark.parametrize("text", ["8/8", "4/4", "8/8,fc=4", "6/3"])
def test_one_length_for_all_weights_and_one_for_all_maps(text: str) -> None:
    maps, weights = (Widths.parse(side) for side in text.split("/"))
    graph = network(spread=2.0)
    of_weights, of_maps = weights.weights_of(graph), maps.maps_of(graph)
    found = find_static_precision(graph, sampled(graph), of_weights, of_maps)
    assert {form.fl for form in found.model.formats.values()} == {found.map_fl}
    assert {int(fl) for fixed in found.model.weights.values() for fl in fixed.fl} == {found.weight_fl}
    assert {tensor: form.bits for tensor, form in found.model.formats.items()} == of_maps
    assert {name: fixed.bits for name, fixed in found.model.weights.items()} == of_weights
    # signs are those of dynamic precision: only what has no bound at 0 needs one
    signed = {tensor for tensor, form in found.model.formats.items() if form.signed}
    assert signed == {"b_out", "fc_out"}


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("classes", [6, 1])
def test_no_neighbour_is_better(bits: int, classes: int) -> None:
    """On the search's own numbers; that of the best is the criterion computed anew with `sim.reference`."""
    graph = network(3, classes=classes)
    sample = sampled(graph)
    widths = Widths(bits).weights_of(graph), Widths(bits).maps_of(graph)
    found = find_static_precision(graph, sample, *widths)
    best = found.errors[found.weight_fl, found.map_fl]
    for weight, data in itertools.product((-1, 0, 1), repeat=2):
        assert best <= found.errors[found.weight_fl + weight, found.map_fl + data]
    output = run(found.model, prepare_input(found.model, sample.batch.numpy()), {"fc_out"})["fc_out"]
    fixed = torch.from_numpy(np.ldexp(output[:, :, 0, 0].astype(np.float64), -found.map_fl))
    real = sample.output.double()
    if classes == 1:
        expected = (fixed - real).square().mean()
    else:
        real, fixed = real.log_softmax(1), fixed.log_softmax(1)
        expected = (real.exp() * (real - fixed)).sum(1).mean()
    assert best == pytest.approx(float(expected), rel=1e-6, abs=1e-9)


def test_finds_the_best_of_a_whole_grid() -> None:
    graph = network(5, spread=3.0)
    sample = sampled(graph)
    widths = Widths(5).weights_of(graph), Widths(5).maps_of(graph)
    found = find_static_precision(graph, sample, *widths)
    candidates = _Candidates(graph, sample, *widths, Preparation())
    whole = itertools.product(range(-2, 9), range(-2, 9))
    assert min(candidates.error(lengths) for lengths in whole) == found.errors[found.weight_fl, found.map_fl]


def test_sample_is_spread_over_the_images() -> None:
    graph, data = network(), images(120)
    sample = sampled(graph, data)
    picked = np.arange(50) * 120 // 50
    np.testing.assert_array_equal(sample.batch.numpy(), data[picked])
    real = run_float(graph, torch.from_numpy(data))
    torch.testing.assert_close(sample.output, real["fc_out"].flatten(1)[picked])
    for tensor, (low, high) in sample.ranges.items():
        assert (low, high) == pytest.approx((float(real[tensor].min()), float(real[tensor].max())), rel=1e-5)


def test_sums_that_would_pass_32_bits() -> None:
    """16 bits: weights are words of the common format, whose lowest bits are 0 where sums get too large."""
    graph = network(spread=0.5, bias=300.0)
    widths = Widths(16).weights_of(graph), Widths(16).maps_of(graph)
    found = find_static_precision(graph, sampled(graph), *widths)
    shorter = 0
    for node in graph.nodes:
        if isinstance(node, Convolution):
            fixed = found.model.weights[node.name]
            assert accumulator_bound(found.model, node) < 1 << 31
            dropped = found.weight_fl - int(fixed.fl[0])
            assert dropped >= 0
            shorter += dropped
            words = fixed.values << dropped
            assert -(1 << 15) <= words.min() <= words.max() < 1 << 15
    assert shorter > 0
    assert {form.fl for form in found.model.formats.values()} == {found.map_fl}


def test_weights_and_maps_of_zeros() -> None:
    graph = network(bias=0.0)
    for node in graph.nodes:
        if isinstance(node, Convolution):
            node.weight[:] = 0.0
    sample = sampled(graph, np.zeros((3, 3, 8, 8), np.float32))
    found = find_static_precision(graph, sample, Widths(8).weights_of(graph), Widths(8).maps_of(graph))
    assert found.errors[found.weight_fl, found.map_fl] == 0.0
    assert max(abs(found.weight_fl), abs(found.map_fl)) <= FL_LIMIT


def test_no_images() -> None:
    with pytest.raises(CalibrationError, match="there are no calibration images"):
        sample_float(network(), [], 0)


def test_float_network_that_overflows() -> None:
    graph = network()
    with pytest.raises(CalibrationError, match="a: its results are not finite"):
        sampled(graph, np.full((2, 3, 8, 8), 3e38, np.float32))
    assert math.isfinite(sampled(graph).ranges["fc_out"][1])
