"""Choice of formats: what the two phases promise, on small networks whose right answer is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.calibrate import CalibrationError, calibrate
from quant.fixed_model import accumulator_bound
from quant.float_run import run_float
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Select
from quant.map_formats import never_negative
from quant.map_store import MapStore
from quant.number_format import Format, FormatError
from quant.qdq import fixed_model_to_onnx
from quant.search import STEPS, Search, SearchError
from quant.weight_formats import choose_weight_lengths, largest_fl_without_overflow
from sim.judge import compare_with_onnxruntime
from sim.reference import prepare_input, run


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e4, 0, width=32), st.floats(0, 1e4, width=32), st.integers(2, 16), st.booleans())
def test_largest_fl_without_overflow(low, high, bits, signed):
    low = low if signed else 0.0
    fl = largest_fl_without_overflow(low, high, bits, signed)
    if max(high, -low) == 0.0 or abs(fl) == 60:
        return

    def fits(fl):
        form = Format(bits, signed, 0)
        return form.low <= np.rint(math.ldexp(low, fl)) and np.rint(math.ldexp(high, fl)) <= form.high

    assert fits(fl)
    assert not fits(fl + 1)


@pytest.mark.parametrize(("method", "power"), [("greedy", 2), ("absolute", 1)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_take_the_best_neighbour(method, power, bits):
    rng = np.random.default_rng(bits)
    for scale in (1e-3, 1.0, 300.0):
        weight = (rng.standard_t(2, (4, 3, 3, 3)) * scale).astype(np.float32)
        start = largest_fl_without_overflow(float(weight.min()), float(weight.max()), bits, True)
        [fl] = set(choose_weight_lengths(weight, bits, method).tolist())

        def error(fl, weight=weight):
            form = Format(bits, True, fl)
            return (np.abs(weight - np.ldexp(form.quantize(weight), -fl)) ** power).sum()

        assert error(fl) == min(error(start + step) for step in range(-1, 4))
        assert set(choose_weight_lengths(weight, bits, "max").tolist()) == {start}


def test_weights_per_channel_follow_each_channel():
    weight = np.ones((3, 2, 1, 1), np.float32) * np.array([1.0, 0.25, 1e-30], np.float32).reshape(3, 1, 1, 1)
    lengths = choose_weight_lengths(weight, 8, "max", channels=True)
    assert lengths[1] == lengths[0] + 2
    assert lengths[2] == lengths[0] + 8  # no finer than the layer's own by the width


def conv(rng, name, source, output, shape, scale=0.3, **settings_):
    return Convolution(
        name=name,
        inputs=(source,),
        output=output,
        bias=rng.normal(size=shape[0]).astype(np.float32),
        weight=(rng.normal(size=shape) * scale).astype(np.float32),
        **settings_,
    )


def network(rng=None):
    """Every kind of node, with a Concat of two ranges and a residual."""
    rng = rng or np.random.default_rng(0)
    relu = Activation(0.0)
    nodes = [
        conv(rng, "c1", "x", "a", (8, 3, 3, 3), pads=(1, 1, 1, 1), activation=relu),
        MaxPool(name="p1", inputs=("a",), output="b", kernel=(2, 2), stride=(2, 2)),
        conv(rng, "c2", "b", "c", (8, 8, 1, 1), activation=relu),
        conv(rng, "c3", "b", "d", (8, 8, 3, 3), pads=(1, 1, 1, 1), scale=2.0),
        Concat(name="cat", inputs=("c", "d"), output="e"),
        conv(rng, "dw", "e", "f", (16, 1, 3, 3), pads=(1, 1, 1, 1), groups=16),
        Add(name="add", inputs=("e", "f"), output="g", activation=relu),
        Select(name="sel", inputs=("g",), output="h", step=(1, 2, 2), size=(16, 3, 3), pad_channels=(2, 0)),
        AveragePool(name="avg", inputs=("h",), output="i", kernel=(3, 3), stride=(1, 1)),
        conv(rng, "fc", "i", "y", (10, 18, 1, 1)),
    ]
    shapes = {
        "x": (3, 12, 12),
        "a": (8, 12, 12),
        "b": (8, 6, 6),
        "c": (8, 6, 6),
        "d": (8, 6, 6),
        "e": (16, 6, 6),
        "f": (16, 6, 6),
        "g": (16, 6, 6),
        "h": (18, 3, 3),
        "i": (18, 1, 1),
        "y": (10, 1, 1),
    }
    return Graph("net", nodes, shapes, "x", "y", (10,))


def batches(count=12, shape=(3, 12, 12), seed=1):
    data = np.random.default_rng(seed).uniform(0, 1, (count, *shape)).astype(np.float32)
    return [data[start : start + 5] for start in range(0, count, 5)]


def filled(model, images):
    """The images as the fixed-point network takes them: with the gain of its input."""
    return images * np.array(model.preparation.gain, np.float32).reshape(-1, 1, 1)


def signal_to_noise(model, images):
    """Of the output, in decibels, by the reference."""
    graph, images = model.graph, filled(model, images)
    real = run_float(graph, torch.from_numpy(images))[graph.output].numpy().astype(np.float64)
    fixed = model.formats[graph.output].dequantize(run(model, prepare_input(model, images))[graph.output])
    return 10 * np.log10((real**2).sum() / ((real - fixed) ** 2).sum())


@pytest.mark.parametrize("steps", [(), ("channels",), ("rounding",), ("input", "scores", "biases"), STEPS])
@pytest.mark.parametrize("formats", ["greedy", "absolute", "max"])
def test_model_is_whole_exact_and_close_to_float(formats, steps):
    model, report = calibrate(network(), batches(), search=Search.without(*steps, formats=formats))
    assert set(model.formats) == set(model.graph.shapes)
    assert report.images == 12
    assert [layer.tensor for layer in report.layers] == list(model.graph.shapes)
    held_out = batches(9, seed=2)
    inputs = prepare_input(model, filled(model, held_out[0]))
    verdict = compare_with_onnxruntime(model, fixed_model_to_onnx(model), inputs)
    assert verdict.equal
    assert not verdict.not_counted
    assert signal_to_noise(model, held_out[0]) > 20


def test_reported_noise_is_the_references():
    """The search runs in torch; the numbers that it reports are those of the integer reference."""
    images = batches()
    model, report = calibrate(network(), images)
    everything = filled(model, np.concatenate(images))
    real = run_float(model.graph, torch.from_numpy(everything))
    fixed = run(model, prepare_input(model, everything))
    for layer in report.layers:
        error = np.abs(
            real[layer.tensor].numpy() - model.formats[layer.tensor].dequantize(fixed[layer.tensor])
        ).mean()
        assert layer.error == pytest.approx(error, rel=1e-4, abs=1e-7)
        assert (layer.low, layer.high) == (real[layer.tensor].min(), real[layer.tensor].max())


def test_structure_decides_the_sign_and_pools_keep_the_format():
    model, _ = calibrate(network(), batches())
    signed = {name for name, form in model.formats.items() if form.signed}
    assert signed == {"c", "d", "e", "f", "y"}  # c only exists as part of e
    assert model.formats["a"] == model.formats["b"]
    assert model.formats["g"] == model.formats["h"]
    assert model.formats["c"] == model.formats["d"] == model.formats["e"]
    negative = [batch - 0.5 for batch in batches()]
    assert calibrate(network(), negative)[0].formats["x"].signed


def test_never_negative_needs_all_operands():
    found = never_negative(network(), True)
    assert [name for name, value in found.items() if value] == ["x", "a", "b", "c", "g", "h", "i"]


def test_outliers_are_clipped_but_never_outputs():
    """One image in hundred is a hundred times brighter: the feature map gives it up, the output does not."""
    rng = np.random.default_rng(0)
    identity = np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1)
    zeros = np.zeros(2, np.float32)
    nodes = [
        Convolution(name=name, inputs=(a,), output=b, weight=identity, bias=zeros)
        for name, a, b in (("one", "x", "m"), ("two", "m", "y"))
    ]
    graph = Graph("net", nodes, dict.fromkeys("xmy", (2, 32, 32)), "x", "y", (2, 32, 32))
    images = rng.normal(size=(20, 2, 32, 32)).astype(np.float32)
    images[7, 0, 0, 0] = 25.0
    greedy, _ = calibrate(graph, [images])
    largest, _ = calibrate(graph, [images], search=Search.paper("max"))
    assert greedy.formats["m"].fl > largest.formats["m"].fl
    assert greedy.formats["y"].fl <= largest.formats["y"].fl


@pytest.mark.parametrize(("weight_bits", "bits"), [(2, 8), (4, 4), (8, 2), (16, 16), (5, 11)])
def test_widths(weight_bits, bits):
    model, _ = calibrate(network(), batches(), weight_bits, bits)
    assert {form.bits for name, form in model.formats.items() if name != "y"} == {bits}
    assert model.formats["y"].bits == max(bits, 8)
    for weights in model.weights.values():
        assert weights.bits == weight_bits
        assert np.abs(weights.values).max() <= 1 << (weight_bits - 1)
    for node in model.graph.nodes:
        assert accumulator_bound(model, node) < 2**31


def test_more_bits_are_closer_to_float():
    held_out = batches(9, seed=2)[0]
    noise = [
        signal_to_noise(calibrate(network(), batches(), bits, bits)[0], held_out) for bits in (4, 6, 8, 12)
    ]
    assert noise == sorted(noise)


def test_bias_correction_takes_the_mean_error_away():
    """Weights of 3 bits leave a mean error in every channel; corrected biases leave less on other images."""

    def mean_errors(*without):
        model, _ = calibrate(network(), batches(40), 3, 12, search=Search.without("rounding", *without))
        images = filled(model, np.concatenate(batches(40, seed=2)))
        real = run_float(model.graph, torch.from_numpy(images))["a"].numpy()
        fixed = model.formats["a"].dequantize(run(model, prepare_input(model, images))["a"])
        return np.abs((real - fixed).mean(axis=(0, 2, 3))).max()

    assert mean_errors() < 0.5 * mean_errors("biases")


def test_one_image_corrects_no_bias():
    one = [batches()[0][:1]]
    corrected, plain = (
        calibrate(network(), one, search=Search.without(*steps))[0] for steps in ((), ("biases",))
    )
    for name, weights in plain.weights.items():
        np.testing.assert_array_equal(weights.bias, corrected.weights[name].bias)


@pytest.mark.parametrize("steps", [(), ("channels",), STEPS])
def test_biases_far_above_the_weights_cost_fractional_bits_but_fit(steps):
    rng = np.random.default_rng(0)
    node = conv(rng, "c", "x", "y", (4, 3, 1, 1), scale=1e-7)
    node.bias[:] = [3e4, -1.0, 0.5, 0.0]
    graph = Graph("net", [node], {"x": (3, 2, 2), "y": (4, 2, 2)}, "x", "y", (4, 2, 2))
    model, _ = calibrate(graph, batches(shape=(3, 2, 2)), search=Search.without(*steps))
    assert accumulator_bound(model, node) < 2**31
    assert signal_to_noise(model, batches(shape=(3, 2, 2))[0]) > 30


def test_zero_weights_and_black_images():
    node = conv(np.random.default_rng(0), "c", "x", "y", (4, 3, 1, 1), scale=0.0)
    node.bias[:] = 0
    graph = Graph("net", [node], {"x": (3, 2, 2), "y": (4, 2, 2)}, "x", "y", (4, 2, 2))
    model, _ = calibrate(graph, [np.zeros((2, 3, 2, 2), np.float32)])
    assert not run(model, np.zeros((1, 3, 2, 2), np.int64))["y"].any()
    fixed_model_to_onnx(model)


def test_disk_gives_the_same_as_memory():
    in_memory, first = calibrate(network(), batches())
    on_disk, second = calibrate(network(), batches(), memory_limit=10_000)
    assert in_memory.formats == on_disk.formats
    assert first == second


def test_map_store_spills_and_forgets():
    with MapStore(memory_limit=100) as store:
        for value in range(5):
            store.append("a", torch.full((10,), float(value)))
        store.replace("a", 3, torch.full((10,), 9.0))
        assert [float(batch[0]) for batch in store.batches("a")] == [0, 1, 2, 9, 4]
        folder = store._folder
        assert folder is not None
        store.drop("a")
        assert not store.holds("a")
    from pathlib import Path

    assert not Path(folder.name).exists()


@pytest.mark.parametrize(
    ("images", "settings_", "error", "message"),
    [
        ([], {}, CalibrationError, "there are no calibration images"),
        ([np.zeros((0, 3, 12, 12), np.float32)], {}, CalibrationError, "there are no calibration images"),
        (
            [np.zeros((2, 3, 12, 11), np.float32)],
            {},
            CalibrationError,
            r"the shape \(3, 12, 11\), but the input x is",
        ),
        ([np.full((2, 3, 12, 12), np.nan, np.float32)], {}, CalibrationError, "hold NaN or infinity"),
        (batches(), {"weight_bits": 1}, FormatError, "weights must be 2 to 16 bits wide, not 1"),
        (batches(), {"activation_bits": 17}, FormatError, "feature maps must be 2 to 16 bits wide, not 17"),
    ],
)
def test_refused(images, settings_, error, message):
    with pytest.raises(error, match=message):
        calibrate(network(), images, **settings_)


def test_unknown_steps_and_formats_are_refused():
    with pytest.raises(SearchError, match="greedy or absolute or max, not best"):
        Search("best")
    with pytest.raises(SearchError, match="no step 'bias'; the steps are input, channels, rounding, biases"):
        Search.without("bias")


def test_nan_weights_and_overflowing_float_networks_are_refused():
    graph = network()
    graph.nodes[2].weight[0, 0, 0, 0] = np.nan
    with pytest.raises(CalibrationError, match="c2: its weights hold NaN"):
        calibrate(graph, batches())
    graph = network()
    graph.nodes[0].weight[:] = 3e38
    with pytest.raises(CalibrationError, match="c1: its results are not finite"):
        calibrate(graph, batches())
