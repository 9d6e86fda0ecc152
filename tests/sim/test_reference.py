"""The reference against onnxruntime, node kind by node kind, on generated fixed-point models."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.fixed_model import FixedModel, FixedWeights, accumulator_bound, inexact_in_float32
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Node, Select
from quant.number_format import Format
from quant.qdq import fixed_model_to_onnx
from sim.judge import compare_with_onnxruntime, first_difference
from sim.reference import ReferenceRunError, run

RELU, RELU6 = Activation(0.0), Activation(0.0, 6.0)
S8 = Format(8, True, 4)


def fixed_weights(rng, shape, groups, bits, fl, fl_in, bias_limit=2000):
    half = 1 << (bits - 1)
    return FixedWeights(
        rng.integers(-half, half, shape),
        bits,
        np.asarray(fl, np.int64) + np.zeros(shape[0], np.int64),
        rng.integers(-bias_limit, bias_limit, shape[0]),
    )


def convolution(shape, name="conv", inputs=("x",), output="y", **settings):
    zeros = np.zeros(shape, np.float32)
    return Convolution(
        name=name, inputs=inputs, output=output, weight=zeros, bias=zeros[:, 0, 0, 0], **settings
    )


def model_of(nodes: list[Node], shapes, formats, weights=None, **settings):
    graph = Graph("net", nodes, shapes, "x", nodes[-1].output, shapes[nodes[-1].output], **settings)
    return FixedModel(graph, formats, weights or {})


def random_input(rng, model, count=3):
    form = model.formats["x"]
    inputs = rng.integers(form.low, form.high + 1, (count, *model.graph.shapes["x"]))
    inputs.flat[:2] = form.low, form.high
    return inputs


def judged(model, rng, count=3):
    """Compare with onnxruntime; every tensor must count."""
    verdict = compare_with_onnxruntime(model, fixed_model_to_onnx(model), random_input(rng, model, count))
    assert not verdict.differences, verdict.differences[0]
    assert verdict.compared == ["x", *(node.output for node in model.graph.nodes)]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_convolution_equals_onnxruntime(data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_group, outputs = draw(st.integers(1, 5)), groups * draw(st.integers(1, 4))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 3)]))
    size = draw(st.tuples(st.integers(9, 12), st.integers(9, 12)))
    bits, activation_bits = draw(st.integers(2, 8)), draw(st.integers(2, 8))
    fl_in, fl_out = draw(st.integers(-9, 12)), draw(st.integers(-12, 12))
    form = Format(activation_bits, draw(st.booleans()), fl_in)
    fl_w = draw(
        st.one_of(st.integers(-4, 10), st.lists(st.integers(-3, 12), min_size=outputs, max_size=outputs))
    )
    shape = (outputs, per_group, *kernel)
    out_size = [
        (size[axis] + pads[axis] + pads[axis + 2] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis]
        + 1
        for axis in (0, 1)
    ]
    signed = draw(st.booleans())
    node = convolution(
        shape,
        stride=stride,
        pads=pads,
        dilation=dilation,
        groups=groups,
        activation=draw(st.sampled_from([Activation(), RELU, RELU6, Activation(-0.5, 3.25)])),
    )
    model = model_of(
        [node],
        {"x": (groups * per_group, *size), "y": (outputs, *out_size)},
        {"x": form, "y": Format(draw(st.integers(2, 8)), signed, fl_out)},
        {"conv": fixed_weights(rng, shape, groups, bits, fl_w, fl_in)},
    )
    judged(model, rng)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 7, 8, 9, 10])
@pytest.mark.parametrize("activation_bits", [2, 4, 6, 8, 10])
def test_widths(bits, activation_bits):
    rng = np.random.default_rng(bits * 16 + activation_bits)
    shape = (5, 3, 3, 3)
    model = model_of(
        [convolution(shape, pads=(1, 1, 1, 1))],
        {"x": (3, 6, 6), "y": (5, 6, 6)},
        {"x": Format(activation_bits, False, 3), "y": Format(activation_bits, True, bits - 4)},
        {"conv": fixed_weights(rng, shape, 1, bits, bits - 1, 3)},
    )
    judged(model, rng)


def test_ties_round_to_even_both_ways():
    """A 1x1 convolution by 1 with a right shift of 1 meets every tie; by a left shift none is lost."""
    for fl_out, expected in (
        (3, [-64, -64, -63, -62, -62, 0, 0, 1, 2, 2]),
        (6, [-128, -128, -128, -128, -128, 0, 4, 8, 12, 16]),
    ):
        model = model_of(
            [convolution((1, 1, 1, 1))],
            {"x": (1, 1, 10), "y": (1, 1, 10)},
            {"x": Format(8, True, 4), "y": Format(8, True, fl_out)},
            {
                "conv": FixedWeights(
                    np.ones((1, 1, 1, 1), np.int64), 8, np.zeros(1, np.int64), np.zeros(1, np.int64)
                )
            },
        )
        inputs = np.array([-128, -127, -126, -125, -124, 0, 1, 2, 3, 4]).reshape(1, 1, 1, 10)
        assert run(model, inputs)["y"].ravel().tolist() == expected
        judged(model, np.random.default_rng(0))


def test_accumulator_past_2_24_is_not_counted():
    """512 channels of 3x3 at full scale pass 2^24 units at 16-bit activations: the report says so."""
    rng = np.random.default_rng(1)
    shape = (2, 64, 3, 3)
    nodes = [
        convolution(shape, output="z"),
        MaxPool(name="pool", inputs=("z",), output="y", kernel=(2, 2), stride=(2, 2)),
    ]
    model = model_of(
        nodes,
        {"x": (64, 4, 4), "z": (2, 2, 2), "y": (2, 1, 1)},
        {"x": Format(16, True, 8), "z": Format(16, True, 3), "y": Format(16, True, 3)},
        {"conv": fixed_weights(rng, shape, 1, 6, 5, 8)},
    )
    assert 2**24 < accumulator_bound(model, nodes[0]) < 2**31
    assert inexact_in_float32(model) == ["z"]
    verdict = compare_with_onnxruntime(model, fixed_model_to_onnx(model), random_input(rng, model))
    assert verdict.compared == ["x"]
    assert verdict.not_counted == ["z", "y"]


def test_sums_past_32_bits_are_refused():
    shape = (1, 64, 3, 3)
    weights = FixedWeights(np.full(shape, 127), 8, np.full(1, 7), np.array([2**31 - 1]))
    model = model_of(
        [convolution(shape)], {"x": (64, 3, 3), "y": (1, 1, 1)}, {"x": S8, "y": S8}, {"conv": weights}
    )
    with pytest.raises(ReferenceRunError, match=r"conv: sums can reach \d+, past the 32-bit accumulator"):
        run(model, np.zeros((1, 64, 3, 3), np.int64))


def test_accumulator_bound_is_reached_but_not_passed():
    rng = np.random.default_rng(5)
    shape = (3, 4, 3, 3)
    weights = fixed_weights(rng, shape, 1, 8, 0, 0)
    node = convolution(shape)
    model = model_of(
        [node],
        {"x": (4, 3, 3), "y": (3, 1, 1)},
        {"x": Format(8, True, 0), "y": Format(32, True, 0)},
        {"conv": weights},
    )
    extremes = [np.where(weights.values > 0, a, b) for a, b in ((127, -128), (-128, 127))]
    sums = run(model, np.concatenate(extremes))["y"]
    assert np.abs(sums).max() == accumulator_bound(model, node)


@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "dilation"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
        ((3, 3), (2, 2), (0, 0, 1, 1), (1, 1)),
        ((3, 2), (1, 2), (1, 1, 1, 0), (1, 1)),
        ((2, 2), (1, 1), (1, 1, 1, 1), (2, 2)),
    ],
)
@pytest.mark.parametrize("fl_out", [-3, 4, 5])
def test_max_pool(kernel, stride, pads, dilation, fl_out):
    rng = np.random.default_rng(fl_out + 10)
    size = [(7 + pads[a] + pads[a + 2] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in (0, 1)]
    node = MaxPool(
        name="pool", inputs=("x",), output="y", kernel=kernel, stride=stride, pads=pads, dilation=dilation
    )
    judged(model_of([node], {"x": (3, 7, 7), "y": (3, *size)}, {"x": S8, "y": Format(8, True, fl_out)}), rng)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [
        ((3, 3), (1, 1), (1, 1, 1, 1)),
        ((3, 3), (2, 2), (0, 0, 1, 1)),
        ((7, 7), (1, 1), (0, 0, 0, 0)),
        ((2, 3), (2, 1), (1, 0, 0, 2)),
        ((5, 5), (1, 1), (2, 2, 2, 2)),
    ],
)
@pytest.mark.parametrize(("fl_in", "fl_out"), [(4, 4), (4, 7), (4, 1), (-2, 3)])
def test_average_pool(include, kernel, stride, pads, fl_in, fl_out):
    rng = np.random.default_rng(fl_out)
    size = [(7 + pads[a] + pads[a + 2] - kernel[a]) // stride[a] + 1 for a in (0, 1)]
    for signed in (True, False):
        node = AveragePool(
            name="pool",
            inputs=("x",),
            output="y",
            kernel=kernel,
            stride=stride,
            pads=pads,
            count_include_pad=include,
        )
        judged(
            model_of(
                [node],
                {"x": (9, 7, 7), "y": (9, *size)},
                {"x": Format(8, signed, fl_in), "y": Format(8, signed, fl_out)},
            ),
            rng,
            count=20,
        )


@pytest.mark.parametrize("size", range(2, 17))
def test_every_sum_of_a_global_average_is_rounded_correctly(size):
    """All sums of a size x 1 window, ties included, against integer arithmetic and onnxruntime."""
    node = AveragePool(name="pool", inputs=("x",), output="y", kernel=(size, 1), stride=(1, 1))
    model = model_of(
        [node], {"x": (1, size, 256), "y": (1, 1, 256)}, {"x": Format(8, False, 0), "y": Format(8, False, 0)}
    )
    sums = np.arange(255 * size + 1)
    x = np.stack([np.clip(sums - 255 * row, 0, 255) for row in range(size)])
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % 256))).reshape(size, -1, 256).transpose(1, 0, 2)[:, None]
    verdict = compare_with_onnxruntime(model, fixed_model_to_onnx(model), x)
    assert verdict.compared == ["x", "y"]
    assert verdict.equal, verdict.differences
    exact = [round(Fraction(int(total), size)) for total in sums]
    assert run(model, x)["y"].ravel()[: len(exact)].tolist() == exact


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_add_concat_select(data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    formats = {
        name: Format(draw(st.integers(2, 8)), draw(st.booleans()), draw(st.integers(-4, 8)))
        for name in ("x", "a", "b", "c", "d", "y")
    }
    activation = st.sampled_from([Activation(), RELU, RELU6])
    shapes = {"x": (4, 6, 5), "a": (4, 6, 5), "b": (4, 6, 5), "c": (8, 6, 5), "d": (6, 3, 2), "y": (6, 3, 2)}
    nodes = [
        Select(name="relu", inputs=("x",), output="a", size=(4, 6, 5), activation=draw(activation)),
        Add(name="add", inputs=("x", "a"), output="b", activation=draw(activation)),
        Concat(name="concat", inputs=("b", "x"), output="c", activation=draw(activation)),
        Select(
            name="shortcut",
            inputs=("c",),
            output="d",
            start=(1, 0, 1),
            step=(2, 2, 3),
            size=(3, 3, 2),
            pad_channels=(1, 2),
            activation=draw(activation),
        ),
        Add(name="twice", inputs=("d", "d"), output="y"),
    ]
    judged(model_of(nodes, shapes, formats), rng)


def test_channels_last_input_and_reshaped_output_with_softmax():
    rng = np.random.default_rng(3)
    shape = (10, 3, 4, 5)
    node = convolution(shape)
    graph = Graph("net", [node], {"x": (3, 4, 5), "y": (10, 1, 1)}, "x", "y", (10,), "NHWC", ("Softmax",))
    model = FixedModel(
        graph, {"x": Format(8, False, 0), "y": S8}, {"conv": fixed_weights(rng, shape, 1, 8, 9, 0)}
    )
    judged(model, rng)


def test_first_difference_names_the_element():
    expected = np.zeros((2, 3, 4, 5), np.int64)
    found = expected.copy()
    found[1, 2, 0, 3] = 7
    found[1, 2, 1, 3] = 9
    assert str(first_difference("t", expected, found)) == "t[1, 2, 0, 3]: 7, not 0 (2 elements differ)"
    assert first_difference("t", expected, expected) is None


def test_inputs_of_another_shape_or_range_are_refused():
    model = model_of(
        [Select(name="s", inputs=("x",), output="y", size=(1, 2, 2))],
        {"x": (1, 2, 2), "y": (1, 2, 2)},
        {"x": S8, "y": S8},
    )
    with pytest.raises(ReferenceRunError, match="x has the shape"):
        run(model, np.zeros((1, 2, 2, 1), np.int64))
    with pytest.raises(ReferenceRunError, match="x must be -128 to 127"):
        run(model, np.full((1, 1, 2, 2), 128))


def test_kept_tensors_only():
    nodes = [
        Select(name="s", inputs=("x",), output="t", size=(1, 2, 2)),
        Select(name="u", inputs=("t",), output="y", size=(1, 2, 2)),
    ]
    model = model_of(nodes, dict.fromkeys(("x", "t", "y"), (1, 2, 2)), dict.fromkeys(("x", "t", "y"), S8))
    assert set(run(model, np.zeros((1, 1, 2, 2), np.int64), keep=["y"])) == {"y"}
