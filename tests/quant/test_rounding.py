"""Error-aware rounding: its integers against exhaustive search, its errors against the layer's own."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import quant.rounding
from quant.float_run import run_node
from quant.graph import Convolution
from quant.rounding import ErrorAwareRounding
from quant.weight_formats import nearest_values


def convolution(rng, shape, **more):
    return Convolution(
        name="c",
        inputs=("x",),
        output="y",
        weight=rng.normal(size=shape).astype(np.float32),
        bias=np.zeros(shape[0], np.float32),
        **more,
    )


def correlated(rng, images, shape):
    """Images whose pixels and channels go together, and the same with some noise."""
    real = rng.normal(size=(images, *shape)) + 2 * rng.normal(size=(images, 1, *shape[1:]))
    fixed = real + 0.05 * rng.normal(size=real.shape)
    return torch.from_numpy(real).float(), torch.from_numpy(fixed).float()


def error(node, values, lengths, real, fixed):
    """Variance of the error of each output channel: what a bias cannot take away."""
    weight = np.ldexp(values.astype(np.float64), -lengths.reshape(-1, 1, 1, 1))
    found = run_node(node, [fixed.double()], (torch.from_numpy(weight), torch.zeros(len(weight)).double()))
    wanted = run_node(
        node, [real.double()], (torch.from_numpy(node.weight).double(), torch.zeros(len(weight)).double())
    )
    return (found - wanted).transpose(0, 1).flatten(1).var(dim=1, correction=0).numpy()


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(2, 5),
)
def test_never_worse_than_nearest_and_errors_are_the_layers(seed, groups, inputs, kernel, stride, bits):
    rng = np.random.default_rng(seed)
    node = convolution(
        rng,
        (groups * 2, inputs, kernel, kernel),
        groups=groups,
        stride=(stride, stride),
        pads=(kernel // 2, 0, kernel // 2, kernel // 2),
    )
    real, fixed = correlated(rng, 6, (groups * inputs, 7, 6))
    pairs = [(real[:4], fixed[:4]), (real[4:], fixed[4:])]
    lengths = rng.integers(bits - 4, bits, (3, groups * 2))
    values, errors = ErrorAwareRounding(node, lambda: pairs, 6).round(lengths, bits)
    assert values.shape == (3, *node.weight.shape)
    assert np.abs(values + 0.5).max() <= 2 ** (bits - 1)
    own = [error(node, values[k], lengths[k], real, fixed) for k in range(3)]
    near = [
        error(node, nearest_values(node.weight, bits, lengths[k]), lengths[k], real, fixed) for k in range(3)
    ]
    # what is minimised: the layer's error, plus that from a little white noise on its inputs
    padded = functional.pad(fixed.double(), (0, kernel // 2, kernel // 2, kernel // 2))
    columns = functional.unfold(padded, kernel, stride=stride).transpose(0, 1).flatten(1)
    noise = 0.1 * columns.var(dim=1, correction=0).reshape(groups, -1).mean(dim=1).repeat_interleave(2)

    def damped(values, row, errors):
        real = np.ldexp(values.astype(np.float64), -row.reshape(-1, 1, 1, 1))
        return errors + noise.numpy() * ((real - node.weight) ** 2).sum(axis=(1, 2, 3))

    mine = np.array([damped(values[k], lengths[k], own[k]) for k in range(3)])
    nearest = np.array(
        [damped(nearest_values(node.weight, bits, lengths[k]), lengths[k], near[k]) for k in range(3)]
    )
    np.testing.assert_allclose(errors - errors[0], mine - mine[0], rtol=1e-3, atol=1e-3 * mine.max())
    assert mine.sum() <= nearest.sum() * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_close_to_the_best_of_all_integers(seed):
    """Two bits and six weights: 4096 candidates can all be tried."""
    rng = np.random.default_rng(seed)
    node = convolution(rng, (1, 6, 1, 1))
    real, fixed = correlated(rng, 5, (6, 4, 4))
    lengths = np.array([1])
    rounding = ErrorAwareRounding(node, lambda: [(real, fixed)], 5)
    [values], _ = rounding.round(lengths[None], 2)
    tried = [
        error(node, np.array(candidate).reshape(1, 6, 1, 1), lengths, real, fixed)[0]
        for candidate in itertools.product(range(-2, 2), repeat=6)
    ]
    assert error(node, values, lengths, real, fixed)[0] <= 1.35 * min(tried) + 0.02
    assert error(node, values, lengths, real, fixed)[0] <= np.sort(tried)[40]


def test_grouped_equals_separate_layers():
    rng = np.random.default_rng(0)
    node = convolution(rng, (6, 2, 3, 3), groups=3)
    real, fixed = correlated(rng, 4, (6, 6, 6))
    lengths = rng.integers(1, 4, (2, 6))
    values, errors = ErrorAwareRounding(node, lambda: [(real, fixed)], 4).round(lengths, 4)
    for group in range(3):
        outputs, inputs = slice(2 * group, 2 * group + 2), slice(2 * group, 2 * group + 2)
        part = Convolution(
            name="c", inputs=("x",), output="y", weight=node.weight[outputs], bias=node.bias[outputs]
        )
        alone = ErrorAwareRounding(part, lambda inputs=inputs: [(real[:, inputs], fixed[:, inputs])], 4)
        expected = alone.round(lengths[:, outputs], 4)
        np.testing.assert_array_equal(values[:, outputs], expected[0])
        np.testing.assert_allclose(errors[:, outputs], expected[1], rtol=1e-5)


def test_long_rows_are_cut(monkeypatch):
    rng = np.random.default_rng(1)
    node = convolution(rng, (4, 40, 1, 1))
    real, fixed = correlated(rng, 30, (40, 2, 2))
    lengths = np.full((1, 4), 2)
    monkeypatch.setattr(quant.rounding, "_LONGEST", 16)
    [values], _ = ErrorAwareRounding(node, lambda: [(real, fixed)], 30).round(lengths, 4)
    near = error(node, nearest_values(node.weight, 4, lengths[0]), lengths[0], real, fixed)
    assert (error(node, values, lengths[0], real, fixed) < near).mean() >= 0.75


def test_batches_and_sampling_change_little(monkeypatch):
    """Unfolding a few images at a time is exact; looking at fewer pixels is nearly so."""
    rng = np.random.default_rng(2)
    node = convolution(rng, (3, 4, 3, 3), pads=(1, 1, 1, 1))
    real, fixed = correlated(rng, 10, (4, 12, 12))
    lengths = np.full((1, 3), 3)
    whole, errors = ErrorAwareRounding(node, lambda: [(real, fixed)], 10).round(lengths, 4)
    monkeypatch.setattr(quant.rounding, "_UNFOLDED", 1)
    pieces, same = ErrorAwareRounding(node, lambda: zip(real.split(3), fixed.split(3)), 10).round(lengths, 4)
    assert (whole == pieces).mean() > 0.98
    np.testing.assert_allclose(errors, same, rtol=1e-3)
    monkeypatch.setattr(quant.rounding, "_LEAST_COLUMNS", 400)
    monkeypatch.setattr(quant.rounding, "_COLUMNS_PER_WEIGHT", 1)
    [sampled], _ = ErrorAwareRounding(node, lambda: [(real, fixed)], 10).round(lengths, 4)
    near = error(node, nearest_values(node.weight, 4, lengths[0]), lengths[0], real, fixed)
    assert (error(node, sampled, lengths[0], real, fixed) < near).all()


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_inputs_that_never_change_leave_the_nearest(value):
    rng = np.random.default_rng(3)
    node = convolution(rng, (2, 3, 1, 1))
    image = torch.full((1, 3, 4, 4), value)
    lengths = np.full((1, 2), 2)
    [values], errors = ErrorAwareRounding(node, lambda: [(image, image)], 1).round(lengths, 4)
    np.testing.assert_array_equal(values, nearest_values(node.weight, 4, lengths[0]))
    assert np.isfinite(errors).all()


def test_a_dead_channel_and_a_giant_one():
    rng = np.random.default_rng(4)
    node = convolution(rng, (2, 3, 3, 3))
    real, fixed = correlated(rng, 4, (3, 6, 6))
    for images in (real, fixed):
        images[:, 0] = 0.0
        images[:, 1] *= 1e6
    [values], errors = ErrorAwareRounding(node, lambda: [(real, fixed)], 4).round(np.full((1, 2), 2), 4)
    assert np.isfinite(errors).all()
    near = nearest_values(node.weight, 4, np.full(2, 2))
    assert (np.abs(values - near)[:, 0] <= 1).all()
