"""The factor on the input: it fills the format, and the first layers take it back."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quant.calibrate import calibrate
from quant.fixed_model import Preparation
from quant.float_run import run_float
from quant.graph import Add, Convolution, Graph, MaxPool
from quant.input_gain import choose_gain, takes_gain, with_input_gain
from quant.number_format import Format
from quant.qdq import write_fixed_model
from quant.qdq_import import read_fixed_model
from quant.search import Search


def convolution(rng, name, source, output, shape, **more):
    return Convolution(
        name=name, inputs=(source,), output=output, weight=rng.normal(size=shape).astype(np.float32),
        bias=rng.normal(size=shape[0]).astype(np.float32), **more,
    )


def two_readers(groups=1):
    rng = np.random.default_rng(0)
    nodes = [
        convolution(rng, "c", "x", "a", (6, 6 // groups, 3, 3), pads=(1, 1, 1, 1), groups=groups),
        convolution(rng, "d", "x", "b", (6, 6, 1, 1)),
        Add(name="s", inputs=("a", "b"), output="y"),
    ]
    return Graph("net", nodes, {t: (6, 5, 5) for t in "xaby"}, "x", "y", (6, 5, 5))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_first_layers_take_the_gain_back(groups):
    graph, gain = two_readers(groups), (1.5, 2.0, 0.75, 1.0, 4.0, 1.25)
    images = torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(1))
    expected = run_float(graph, images)
    found = run_float(with_input_gain(graph, gain), images * torch.tensor(gain).reshape(-1, 1, 1))
    for tensor in "aby":
        torch.testing.assert_close(found[tensor], expected[tensor], atol=1e-4, rtol=1e-4)
    assert with_input_gain(graph, (1.0,)) is graph


def test_only_convolutions_take_it():
    assert takes_gain(two_readers())
    pool = MaxPool(name="p", inputs=("x",), output="y", kernel=(1, 1), stride=(1, 1))
    assert not takes_gain(Graph("net", [pool], {"x": (1, 2, 2), "y": (1, 2, 2)}, "x", "y", (1, 2, 2)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-8, 0), st.floats(0, 8)), min_size=1, max_size=4),
    st.booleans(),
    st.integers(2, 8),
)
# no float32 lifts this to the format's range
@example(ranges=[(0.0, 1.401298464324817e-45)], signed=False, bits=2)
def test_no_channel_overflows_and_one_fills_its_range(ranges, signed, bits):
    low, high = (np.array(side, np.float32) for side in zip(*ranges))
    low = low if signed else np.zeros_like(low)
    form = Format(bits, signed, 2)
    gain = np.broadcast_to(choose_gain(low, high, form), low.shape)
    top, bottom = high * gain / form.scale, low * gain / form.scale
    assert (top <= form.high * (1 + 1e-6)).all()
    assert (bottom >= form.low * (1 + 1e-6)).all()
    if max(high.max(), -low.min()) > 1e-6:
        assert np.isclose(top, form.high).any() or np.isclose(bottom, form.low).any()


def test_pixels_become_exact(tmp_path):
    """0 … 1 in steps of 1/255 fits no power of two, but 8 bits hold every pixel with the right factor."""
    rng = np.random.default_rng(0)
    node = convolution(rng, "c", "x", "y", (4, 1, 3, 3))
    graph = Graph("net", [node], {"x": (1, 8, 8), "y": (4, 6, 6)}, "x", "y", (4, 6, 6))
    pixels = rng.integers(0, 256, (8, 1, 8, 8))
    pixels[0, 0, 0, :2] = 0, 255
    images = (pixels / 255).astype(np.float32)
    model, report = calibrate(graph, [images], preparation=Preparation(255.0))
    assert report.layers[0].noise_db > 120
    form = model.formats["x"]
    filled = images * np.float32(model.preparation.gain[0])
    np.testing.assert_array_equal(form.quantize(filled), pixels)
    plain, without = calibrate(graph, [images], search=Search.without("input"))
    assert without.layers[0].noise_db < 60
    assert plain.preparation.gain == (1.0,)
    write_fixed_model(model, tmp_path / "m.onnx")
    found = read_fixed_model(tmp_path / "m.onnx")
    assert found.preparation == model.preparation
    assert found.preparation.of_float() == Preparation(255.0)


def test_raw_pixels_stay_as_they_are():
    rng = np.random.default_rng(0)
    node = convolution(rng, "c", "x", "y", (4, 1, 3, 3))
    graph = Graph("net", [node], {"x": (1, 8, 8), "y": (4, 6, 6)}, "x", "y", (4, 6, 6))
    images = rng.integers(0, 250, (8, 1, 8, 8)).astype(np.float32)
    model, _ = calibrate(graph, [images])
    assert model.preparation.gain == (1.0,)
    assert (model.formats["x"].fl, model.formats["x"].signed) == (0, False)
    assert model.graph is graph


def test_black_images_and_dead_channels():
    assert choose_gain(np.zeros(3), np.zeros(3), Format(8, True, 4)) == (1.0,)
    gain = choose_gain(np.zeros(3), np.array([1.0, 0.0, 0.5]), Format(8, False, 7))
    assert gain == (255 / 128, 255 / 128, 255 / 64)
    gain = choose_gain(np.zeros(2), np.array([1.0, 1e-6]), Format(8, False, 7))
    assert gain == (255 / 128, 8 * 255 / 128)
