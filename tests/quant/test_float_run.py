"""Float graphs in torch against numpy written out element by element."""

import numpy as np
import pytest
import torch

from quant.float_run import float_steps, last_uses, run_float
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Select


def one_node(node, shape):
    return Graph("net", [node], {"x": shape, "y": (0, 0, 0)}, "x", "y", (1,))


def windows(x, node):
    """Each window's elements by output row and column, with whether they lie inside the image."""
    kernel = node.weight.shape[2:] if isinstance(node, Convolution) else node.kernel
    dilation = getattr(node, "dilation", (1, 1))
    top, left, bottom, right = node.pads
    rows, columns = x.shape[2:]
    out = [
        (size + before + after - d * (k - 1) - 1) // s + 1
        for size, before, after, d, k, s in zip(
            (rows, columns), (top, left), (bottom, right), dilation, kernel, node.stride
        )
    ]
    for r in range(out[0]):
        for c in range(out[1]):
            inside = {}
            for ky in range(kernel[0]):
                for kx in range(kernel[1]):
                    y, z = (
                        r * node.stride[0] - top + ky * dilation[0],
                        c * node.stride[1] - left + kx * dilation[1],
                    )
                    if 0 <= y < rows and 0 <= z < columns:
                        inside[ky, kx] = x[:, :, y, z]
            yield r, c, inside


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 1)])
def test_convolution(groups, pads):
    rng = np.random.default_rng(groups)
    weight, bias = (
        rng.normal(size=(8, 4 // groups, 3, 2)).astype(np.float32),
        rng.normal(size=8).astype(np.float32),
    )
    node = Convolution(
        name="n",
        inputs=("x",),
        output="y",
        weight=weight,
        bias=bias,
        pads=pads,
        stride=(2, 1),
        dilation=(1, 2),
        groups=groups,
        activation=Activation(0.0, 6.0),
    )
    x = rng.normal(size=(2, 4, 7, 8)).astype(np.float32)
    got = run_float(one_node(node, (4, 7, 8)), torch.from_numpy(x))["y"].numpy()
    for r, c, inside in windows(x, node):
        for o in range(8):
            first = o // (8 // groups) * (4 // groups)
            total = bias[o] + sum(
                values[:, first : first + 4 // groups] @ weight[o, :, ky, kx]
                for (ky, kx), values in inside.items()
            )
            np.testing.assert_allclose(got[:, o, r, c], np.clip(total, 0, 6), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 0)])
def test_pools(pads):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, 7, 8)).astype(np.float32)
    largest = MaxPool(name="n", inputs=("x",), output="y", kernel=(2, 3), stride=(2, 1), pads=pads)
    got = run_float(one_node(largest, (3, 7, 8)), torch.from_numpy(x))["y"].numpy()
    for r, c, inside in windows(x, largest):
        np.testing.assert_array_equal(got[:, :, r, c], np.max(list(inside.values()), axis=0))
    for include in (False, True):
        mean = AveragePool(
            name="n",
            inputs=("x",),
            output="y",
            kernel=(2, 3),
            stride=(2, 1),
            pads=pads,
            count_include_pad=include,
        )
        got = run_float(one_node(mean, (3, 7, 8)), torch.from_numpy(x))["y"].numpy()
        for r, c, inside in windows(x, mean):
            count = 6 if include else len(inside)
            np.testing.assert_allclose(got[:, :, r, c], sum(inside.values()) / count, rtol=1e-5, atol=1e-6)


def chain():
    nodes = [
        Select(
            name="s",
            inputs=("x",),
            output="a",
            start=(1, 0, 1),
            step=(2, 2, 3),
            size=(2, 3, 2),
            pad_channels=(1, 2),
        ),
        Add(name="d", inputs=("a", "a"), output="b", activation=Activation(0.0)),
        Concat(name="c", inputs=("a", "b"), output="y"),
    ]
    return Graph(
        "net", nodes, {"x": (4, 6, 5), "a": (5, 3, 2), "b": (5, 3, 2), "y": (10, 3, 2)}, "x", "y", (10, 3, 2)
    )


def test_select_add_concat():
    x = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    values = run_float(chain(), x)
    assert torch.equal(values["a"][:, 1:3], x[:, 1::2, ::2, 1::3])
    assert not values["a"][:, [0, 3, 4]].any()
    assert torch.equal(values["b"], (2 * values["a"]).clamp(min=0))
    assert torch.equal(values["y"], torch.cat([values["a"], values["b"]], 1))


def test_order_keep_and_last_uses():
    x = torch.zeros(1, 4, 6, 5)
    assert [name for name, _ in float_steps(chain(), x)] == ["x", "a", "b", "y"]
    assert set(run_float(chain(), x, keep={"b"})) == {"b"}
    assert last_uses(chain()) == {"x": 0, "a": 2, "b": 2, "y": 3}
