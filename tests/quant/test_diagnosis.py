"""What a diagnosis measures, against numpy and `sim.reference` on small networks."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_network import random_input, random_network

from quant.data import images_per_batch
from quant.diagnosis import DiagnosisError, diagnose
from quant.fixed_model import FixedModel, FixedWeights, inexact_in_float32
from quant.float_run import run_float
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Select
from quant.grid_histogram import MOST_BINS, HistogramCounter
from quant.layer_diagnosis import LayerDiagnosis, Noise
from quant.network_match import check_same_network
from quant.number_format import Format
from quant.weight_formats import largest_fl_without_overflow, real_parameters
from sim.reference import prepare_input, run


def conv(rng, name, source, output, shape, scale=0.3, **more):
    return Convolution(
        name=name,
        inputs=(source,),
        output=output,
        bias=rng.normal(size=shape[0]).astype(np.float32),
        weight=(rng.normal(size=shape) * scale).astype(np.float32),
        **more,
    )


def network(seed=0):
    """Every kind of node."""
    rng = np.random.default_rng(seed)
    relu = Activation(0.0)
    nodes = [
        conv(rng, "c1", "x", "a", (8, 3, 3, 3), pads=(1, 1, 1, 1), activation=relu),
        MaxPool(name="p1", inputs=("a",), output="b", kernel=(2, 2), stride=(2, 2)),
        conv(rng, "c2", "b", "c", (8, 8, 1, 1), activation=Activation(0.0, 6.0)),
        conv(rng, "c3", "b", "d", (8, 8, 3, 3), pads=(1, 1, 1, 1), scale=2.0),
        Concat(name="cat", inputs=("c", "d"), output="e"),
        conv(rng, "dw", "e", "f", (16, 1, 3, 3), pads=(1, 1, 1, 1), groups=16),
        Add(name="add", inputs=("e", "f"), output="g", activation=relu),
        Select(name="sel", inputs=("g",), output="h", step=(1, 2, 2), size=(16, 3, 3), pad_channels=(2, 0)),
        AveragePool(name="avg", inputs=("h",), output="i", kernel=(3, 3), stride=(1, 1)),
        conv(rng, "fc", "i", "y", (10, 18, 1, 1)),
    ]
    shapes = {"x": (3, 12, 12), "a": (8, 12, 12), "e": (16, 6, 6), "f": (16, 6, 6), "g": (16, 6, 6)}
    shapes |= {"h": (18, 3, 3), "i": (18, 1, 1), "y": (10, 1, 1)} | dict.fromkeys("bcd", (8, 6, 6))
    return Graph("net", nodes, shapes, "x", "y", (10,))


def images(count=12, seed=1):
    """Outliers among them, so that finer formats clip few values."""
    rng = np.random.default_rng(seed)
    data = rng.standard_t(3, (count, 3, 12, 12)).astype(np.float32)
    return [data[start : start + 5] for start in range(0, count, 5)]


def fixed_model(graph, batches, weight_bits=5, bits=6, *, finer=1, per_channel=False):
    """Formats that are ``finer`` by that many bits than the largest values allow; moved words keep theirs."""
    real = run_float(graph, torch.from_numpy(np.concatenate(batches)))
    formats = {}
    for tensor, values in real.items():
        low, high = float(values.min()), float(values.max())
        fl = largest_fl_without_overflow(low, high, bits, low < 0) + finer
        formats[tensor] = Format(bits, low < 0, fl)
    for tensor, source in (("b", "a"), ("c", "e"), ("d", "e"), ("h", "g")):
        formats[tensor] = formats[source]
    weights = {}
    for node in graph.nodes:
        if isinstance(node, Convolution):
            form = Format(weight_bits, True, 0)
            parts = node.weight if per_channel else [node.weight] * len(node.weight)
            lengths = [largest_fl_without_overflow(float(part.min()), float(part.max()), weight_bits, True)
                       for part in parts]  # fmt: skip
            fl = np.array(lengths, np.int64) + finer
            values = np.rint(np.ldexp(node.weight, fl.reshape(-1, 1, 1, 1))).clip(form.low, form.high)
            bias = np.rint(np.ldexp(node.bias, fl + formats[node.inputs[0]].fl))
            weights[node.name] = FixedWeights(values.astype(np.int64), weight_bits, fl, bias.astype(np.int64))
    return FixedModel(graph, formats, weights)


@pytest.fixture(scope="module")
def measured():
    graph = network()
    model = fixed_model(graph, images())
    return graph, model, diagnose(graph, model, images, output_effects=True)


def layer(diagnosis, tensor) -> LayerDiagnosis:
    return next(found for found in diagnosis.layers if found.tensor == tensor)


def db(real, other):
    noise = ((real.astype(np.float64) - other) ** 2).sum()
    return math.inf if noise == 0 else 10 * math.log10((real.astype(np.float64) ** 2).sum() / noise)


def whole_images():
    return np.concatenate(images())


def test_whole_network_is_the_references(measured):
    graph, model, diagnosis = measured
    real = run_float(graph, torch.from_numpy(whole_images()))
    fixed = run(model, prepare_input(model, whole_images()))
    assert [found.tensor for found in diagnosis.layers] == ["x", *(node.output for node in graph.nodes)]
    for found in diagnosis.layers:
        values = model.formats[found.tensor].dequantize(fixed[found.tensor])
        assert found.whole.db == pytest.approx(db(real[found.tensor].numpy(), values), abs=1e-3)
        assert found.whole.relative == pytest.approx(10 ** (-found.whole.db / 20))
        assert found.format == model.formats[found.tensor]
        assert (found.low, found.high) == (real[found.tensor].min(), real[found.tensor].max())
    wanted, softmax = (softmax_of(np.asarray(values).reshape(12, -1)) for values in
                       (real["y"], model.formats["y"].dequantize(fixed["y"])))  # fmt: skip
    divergence = (wanted * np.log(wanted / softmax)).sum(axis=1).mean()
    assert diagnosis.divergence == pytest.approx(divergence, rel=1e-3)
    answers = real["y"].flatten(1).numpy().argmax(1) != fixed["y"].reshape(12, -1).argmax(1)
    assert diagnosis.images == 12
    assert diagnosis.changed == pytest.approx(answers.mean())


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_are_the_references(seed):
    """Weights of the float network are not those of the fixed-point one; all other errors are rounding."""
    model = random_network(seed, 6)
    rng, nodes = np.random.default_rng(seed), []
    for node in model.graph.nodes:
        if isinstance(node, Convolution):
            weight, bias = real_parameters(model.weights[node.name], model.formats[node.inputs[0]].fl)
            weight *= rng.uniform(0.9, 1.1, weight.shape).astype(np.float32)
            node = dataclasses.replace(node, weight=weight, bias=bias)
        nodes.append(node)
    graph = dataclasses.replace(model.graph, nodes=nodes, _producers={})
    integers = random_input(model, seed, 3)
    prepared = model.formats[graph.input].dequantize(integers)
    diagnosis = diagnose(graph, model, lambda: [prepared[:2], prepared[2:]], output_effects=True)
    fixed, real = run(model, integers), run_float(graph, torch.from_numpy(prepared))
    inexact = set(inexact_in_float32(model))
    for found in diagnosis.layers:
        if found.tensor not in inexact:
            values = model.formats[found.tensor].dequantize(fixed[found.tensor]).astype(np.float64)
            signal = real[found.tensor].numpy().astype(np.float64)
            expected = Noise.of((signal**2).sum(), ((values - signal) ** 2).sum())
            assert found.whole.relative == pytest.approx(expected.relative, rel=1e-3, abs=1e-7)
    assert diagnosis.layers[0].whole.relative == 0.0


def test_clipped_shares_and_histograms_are_counts(measured):
    graph, model, diagnosis = measured
    real = run_float(graph, torch.from_numpy(whole_images()))
    some = 0
    for found in diagnosis.layers:
        values, form = real[found.tensor].numpy().astype(np.float64), found.format
        units = np.rint(np.ldexp(values, form.fl))
        assert found.clipped == np.mean((units < form.low) | (units > form.high))
        some += found.clipped > 0
        edges = np.array(found.histogram.edges())
        counts, _ = np.histogram(units, edges)
        assert found.histogram.counts == tuple(counts.tolist())
        assert sum(found.histogram.counts) == values.size
        assert len(counts) <= MOST_BINS
        # limits are edges of bins, so what is outside of them is what is clipped
        assert {form.low - 0.5, form.high + 0.5} <= set(edges)
        outside = counts[(edges[:-1] > form.high) | (edges[1:] < form.low)].sum()
        assert outside == np.rint(found.clipped * values.size)
    assert some > 2
    for node in graph.nodes:
        if isinstance(node, Convolution):
            weights = layer(diagnosis, node.output).weights
            assert weights is not None
            [fl] = set(weights.fl)
            units = np.rint(np.ldexp(node.weight.astype(np.float64), fl))
            assert weights.clipped == np.mean((units < -16) | (units > 15))
            assert sum(weights.histogram.counts) == node.weight.size
            fixed, _ = real_parameters(model.weights[node.name], 0)
            assert weights.noise.db == pytest.approx(db(node.weight, fixed), abs=1e-3)


def test_the_first_layer_inherits_nothing(measured):
    _, _, diagnosis = measured
    first = diagnosis.layers[0]
    assert first.injected == first.whole
    assert first.inherited == Noise(math.inf, 0.0)
    # an exact input: the first convolution is then where errors begin
    graph = network()
    whole = [np.rint(8 * batch).clip(-100, 100).astype(np.float32) for batch in images()]
    model = fixed_model(graph, whole, bits=8, finer=0)
    assert model.formats["x"].fl == 0
    exact = diagnose(graph, model, lambda: whole)
    assert layer(exact, "x").whole.relative == 0.0
    assert layer(exact, "a").inherited.relative == 0.0
    assert layer(exact, "a").injected == layer(exact, "a").whole
    assert layer(exact, "a").fall is None
    assert layer(exact, "a").output is None


def test_injected_and_inherited_are_what_they_say(measured):
    """For one convolution and one sum, by hand."""
    graph, model, diagnosis = measured
    real = run_float(graph, torch.from_numpy(whole_images()))
    fixed = run(model, prepare_input(model, whole_images()))
    c3 = graph.nodes[3]
    weight, bias = (torch.from_numpy(part) for part in real_parameters(model.weights["c3"],
                                                                       model.formats["b"].fl))
    conv2d = torch.nn.functional.conv2d
    alone = conv2d(real["b"], weight, bias, padding=1).numpy()
    alone = model.formats["d"].dequantize(model.formats["d"].quantize(alone))
    assert layer(diagnosis, "d").injected.db == pytest.approx(db(real["d"].numpy(), alone), abs=1e-3)
    source = torch.from_numpy(model.formats["b"].dequantize(fixed["b"]))
    inherited = conv2d(source, torch.from_numpy(c3.weight), torch.from_numpy(c3.bias), padding=1).numpy()
    assert layer(diagnosis, "d").inherited.db == pytest.approx(db(real["d"].numpy(), inherited), abs=1e-3)
    e, f = (model.formats[name].dequantize(fixed[name]) for name in "ef")
    found, total = layer(diagnosis, "g"), np.maximum(e + f, 0)
    assert found.inherited.db == pytest.approx(db(real["g"].numpy(), total), abs=1e-3)
    units = np.rint(np.ldexp(total, found.fl))
    assert found.clipped_fixed == np.mean(units > found.format.high) > 0


def test_layers_that_only_move_words_inject_nothing(measured):
    _, model, diagnosis = measured
    assert model.formats["a"] == model.formats["b"]
    for tensor in "beh":
        found = layer(diagnosis, tensor)
        assert found.injected.relative == 0.0
        assert found.output is not None
        assert found.output.noise.relative == 0.0
        assert found.output.changed == 0.0
        assert found.inherited == found.whole


def test_the_last_layers_effect_is_its_injected_error(measured):
    _, _, diagnosis = measured
    last = diagnosis.layers[-1]
    assert last.output is not None
    assert last.output.noise == last.injected
    assert diagnosis.output == last.whole


def softmax_of(values):
    powers = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_effect_of_a_layer_in_the_middle(measured):
    """The float network with the input rounded coarsely, by hand."""
    graph, model, _ = measured
    form = Format(2, True, 0)
    coarse = FixedModel(graph, {**model.formats, "x": form}, model.weights)
    diagnosis = diagnose(graph, coarse, images, output_effects=True)
    rounded = form.dequantize(form.quantize(whole_images()))
    expected, found = (run_float(graph, torch.from_numpy(batch), {"y"})["y"].flatten(1).numpy()
                       for batch in (whole_images(), rounded))
    effect = diagnosis.layers[0].output
    assert effect.noise.db == pytest.approx(db(expected, found), abs=1e-2)
    assert effect.changed == np.mean(expected.argmax(1) != found.argmax(1)) > 0
    wanted, softmax = (softmax_of(values) for values in (expected, found))
    divergence = (wanted * np.log(wanted / softmax)).sum(axis=1).mean()
    assert effect.divergence == pytest.approx(divergence, rel=1e-3)
    assert divergence > 0


def test_saturated_scores_that_no_answer_depends_on_cost_little():
    """Two layers: one disturbs the largest scores a little, one clips the smallest a lot."""
    weight = np.zeros((3, 1, 1, 1), np.float32)
    weight[:, 0, 0, 0] = 1.0, -1.0, 0.0
    bias = np.array([0.0, 0.0, -30.0], np.float32)
    one = np.ones((1, 1, 1, 1), np.float32)
    nodes = [
        Convolution(name="a", inputs=("x",), output="a", weight=one, bias=np.zeros(1, np.float32)),
        Convolution(name="y", inputs=("a",), output="y", weight=weight, bias=bias),
    ]
    graph = Graph("net", nodes, {"x": (1, 1, 1), "a": (1, 1, 1), "y": (3, 1, 1)}, "x", "y", (3,))
    batch = np.array([0.4, 0.6, 1.4], np.float32).reshape(3, 1, 1, 1)
    weights = {
        "a": FixedWeights(np.array(one, np.int64), 8, np.zeros(1, np.int64), np.zeros(1, np.int64)),
        "y": FixedWeights((weight * 64).astype(np.int64), 8, np.full(3, 6), (bias * 64).astype(np.int64)),
    }
    formats = {"x": Format(16, True, 12), "a": Format(4, True, 0), "y": Format(8, True, 4)}
    diagnosis = diagnose(graph, FixedModel(graph, formats, weights), lambda: [batch], output_effects=True)
    a, y = (layer(diagnosis, tensor).output for tensor in "ay")
    assert a is not None
    assert y is not None
    assert y.noise.relative > 5 * a.noise.relative
    assert 0.0 < (y.divergence or 0.0) < 0.1 * (a.divergence or 0.0)
    assert diagnosis.worst().name == "a"


def test_an_image_as_output_has_no_softmax():
    graph = network()
    graph = dataclasses.replace(graph, nodes=graph.nodes[:5], output="e", _producers={},
                                shapes={name: graph.shapes[name] for name in "xabcde"})  # fmt: skip
    model = fixed_model(network(), images())
    model = FixedModel(graph, {name: model.formats[name] for name in "xabcde"}, model.weights)
    diagnosis = diagnose(graph, model, images, output_effects=True)
    assert diagnosis.divergence is None
    assert all(found.output.divergence is None for found in diagnosis.layers)
    assert diagnosis.worst() == max(diagnosis.layers, key=lambda found: found.output.noise.relative)


def test_falls(measured):
    graph, _, diagnosis = measured
    falls = {}
    for node in graph.nodes:
        worst = min(layer(diagnosis, tensor).whole.db for tensor in node.inputs)
        falls[node.output] = worst - layer(diagnosis, node.output).whole.db
        assert layer(diagnosis, node.output).fall == pytest.approx(falls[node.output])
    assert diagnosis.steepest().tensor == max(falls, key=lambda tensor: falls[tensor])


@pytest.mark.parametrize("name", ["c1", "c3", "dw", "fc"])
def test_wrecked_weights_are_found(name, measured):
    graph, model, _ = measured
    weights = model.weights[name]
    weights = dataclasses.replace(weights, values=weights.values[:, :, ::-1] // 4)
    wrecked = FixedModel(model.graph, model.formats, {**model.weights, name: weights})
    for effects in (False, True):
        assert diagnose(graph, wrecked, images, output_effects=effects).worst().name == name


def test_json_and_determinism(measured):
    graph, model, diagnosis = measured
    assert diagnose(graph, model, images, output_effects=True) == diagnosis
    content = json.loads(json.dumps(diagnosis.to_json()))
    assert content["layers"][1]["weights"]["bits"] == 5
    assert len(content["layers"]) == len(graph.nodes) + 1


def test_batches_change_nothing_and_are_called_twice(measured):
    graph, model, diagnosis = measured
    passes, counted = [], []

    def single():
        passes.append(1)
        for batch in images():
            yield from batch[:, None]

    other = diagnose(graph, model, single, progress=counted.append)
    assert len(passes) == 2
    assert sum(counted) == 2 * 12
    for one, two in zip(diagnosis.layers, other.layers):
        assert one.histogram == two.histogram
        assert one.whole.db == pytest.approx(two.whole.db, abs=1e-2)


def test_per_channel_weights_are_counted_in_steps_of_their_channel():
    graph = network()
    graph.nodes[0].weight[0] *= 0.01
    model = fixed_model(graph, images(), finer=0, per_channel=True)
    weights = layer(diagnose(graph, model, images), "a").weights
    assert weights.fl[0] < weights.fl[1]
    assert weights.clipped == 0.0
    # every channel reaches the upper half of its own format
    values = np.abs(np.ldexp(graph.nodes[0].weight, model.weights["c1"].fl.reshape(-1, 1, 1, 1)))
    assert (values.max(axis=(1, 2, 3)) > 7).all()
    edges = np.array(weights.histogram.edges())
    assert np.array(weights.histogram.counts)[np.abs(edges[:-1] + 0.5) > 7].sum() >= 8


@settings(max_examples=100, deadline=None)
@given(
    st.integers(2, 16), st.booleans(), st.integers(-60, 60), st.integers(0, 2**32 - 1), st.floats(-3, 12)
)
def test_histograms_cover_what_they_count(bits, signed, fl, seed, magnitude):
    form = Format(bits, signed, fl)
    steps = np.random.default_rng(seed).standard_t(2, 500) * 2.0**magnitude
    counter = HistogramCounter(form, steps.min(), steps.max())
    counter.add(torch.from_numpy(steps[:200].copy()))
    counter.add(torch.from_numpy(steps[200:].copy()))
    found = counter.histogram()
    edges = found.edges(form.scale)
    assert 1 <= len(found.counts) <= MOST_BINS
    assert edges[0] <= (min(form.low, np.rint(steps.min())) - 0.5) * form.scale
    assert edges[-1] >= (max(form.high, np.rint(steps.max())) + 0.5) * form.scale
    counts, _ = np.histogram(np.rint(steps), found.edges())
    assert found.counts == tuple(counts.tolist())
    assert counter.clipped == np.mean((np.rint(steps) < form.low) | (np.rint(steps) > form.high))


def test_noise():
    assert Noise.of(100.0, 1.0) == Noise(20.0, 0.1)
    assert Noise.of(0.0, 0.0) == Noise(math.inf, 0.0)
    assert Noise.of(0.0, 1.0) == Noise(-math.inf, math.inf)


def test_batch_size_follows_the_feature_maps():
    graph = network()
    assert images_per_batch(graph) == 50
    graph.shapes["a"] = (64, 1000, 1000)
    assert images_per_batch(graph) == 1


def other_stride(graph):
    graph.nodes[3] = dataclasses.replace(graph.nodes[3], dilation=(2, 2))


def other_name(graph):
    graph.nodes[-1] = dataclasses.replace(graph.nodes[-1], output="z")
    graph.output = "z"
    graph.shapes["z"] = graph.shapes.pop("y")


def other_shape(graph):
    graph.shapes["a"] = (9, 12, 12)


def more_channels(graph):
    graph.nodes[0] = dataclasses.replace(graph.nodes[0], weight=np.zeros((8, 3, 5, 5), np.float32))


def another_tensor(graph):
    graph.shapes["extra"] = (1, 1, 1)


def renamed(graph):
    graph.nodes[1] = dataclasses.replace(graph.nodes[1], output="b\n2")
    graph.shapes["b\n2"] = graph.shapes.pop("b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_stride, "c3: the fixed-point model computes d in another way"),
        (other_name, "the output of the fixed-point model is y, of the float model z"),
        (other_shape, "the tensor a has the shape"),
        (more_channels, "c1: the fixed-point model computes a in another way"),
        (another_tensor, "the fixed-point model has no tensor extra"),
        (renamed, "the float model has no tensor b"),
    ],
)
def test_networks_that_do_not_belong_together(change, message, measured):
    _, model, _ = measured
    graph = network()
    check_same_network(graph, model)
    change(graph)
    with pytest.raises(DiagnosisError, match=message) as caught:
        diagnose(graph, model, images)
    assert str(caught.value).endswith("; give the float model that it was calibrated from")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "there are no images to compare on"),
        ([np.zeros((0, 3, 12, 12), np.float32)], "there are no images to compare on"),
        ([np.zeros((1, 3, 12, 11), np.float32)], r"the shape \(3, 12, 11\), but the input x is"),
        ([np.full((1, 3, 12, 12), np.nan, np.float32)], "x: its float results are not finite"),
        ([np.full((1, 3, 12, 12), 3e38, np.float32)], "c1: its float results are not finite"),
    ],
)
def test_images_that_do_not_fit(batches, message, measured):
    graph, model, _ = measured
    with pytest.raises(DiagnosisError, match=message):
        diagnose(graph, model, lambda: batches)
