"""Corners of the quantization: degenerate images and weights, odd widths, interruptions.

Each is either a model that onnxruntime and the reference agree on, or refused by the project's own error.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from random_network import random_network

from quant.budget import Budget, BudgetError
from quant.calibrate import CalibrationError, calibrate
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool
from quant.mixed_widths import find_widths
from quant.number_format import FL_LIMIT, FormatError
from quant.qdq import write_fixed_model
from quant.qdq_import import read_fixed_model
from quant.search import STEPS, Search
from quant.weight_formats import fixed_weights
from quant.widths import Widths, read_widths
from sim.judge import compare_with_onnxruntime
from sim.reference import prepare_input


def conv(name, source, output, weight, bias=None, **more):
    weight = np.asarray(weight, np.float32)
    bias = np.zeros(len(weight)) if bias is None else bias
    return Convolution(
        name=name, inputs=(source,), output=output, weight=weight, bias=np.asarray(bias, np.float32), **more
    )


def check(graph, images, path, *widths, **settings):
    """Calibrate, write, read back, and compare with onnxruntime on these images and on random integers."""
    model, report = calibrate(graph, [images], *widths, **settings)
    assert all(np.isfinite(layer.error) for layer in report.layers)
    write_fixed_model(model, path)
    back = read_fixed_model(path)
    assert back.formats == model.formats
    assert back.preparation == model.preparation
    for name, weights in model.weights.items():
        again = back.weights[name]
        np.testing.assert_array_equal(weights.values, again.values)
        np.testing.assert_array_equal(weights.bias, again.bias)
        np.testing.assert_array_equal(weights.fl, again.fl)
        assert weights.bits == again.bits
    form, rng = back.formats[graph.input], np.random.default_rng(0)
    gain = np.array(model.preparation.gain, np.float32).reshape(-1, 1, 1)
    for inputs in (
        prepare_input(back, images * gain),
        rng.integers(form.low, form.high + 1, (2, *graph.shapes[graph.input])),
    ):
        verdict = compare_with_onnxruntime(back, path, inputs)
        assert verdict.equal, verdict.differences[0]
    return model, report


def damaged(graph, rng):
    """Some convolutions with outliers, dead channels, zero weights, or values of another magnitude."""
    nodes = []
    for node in graph.nodes:
        if isinstance(node, Convolution) and rng.random() < 0.5:
            weight, bias = node.weight.copy(), node.bias.copy()
            place = tuple(rng.integers(0, size) for size in weight.shape)
            match rng.integers(7):
                case 0:
                    weight[place] = 1e6
                case 1:
                    weight[place] = 1e30
                case 2:
                    weight[place[0]] *= 1e-30
                case 3:
                    weight[:] = bias[:] = 0
                case 4:
                    weight[place[0]], bias[place[0]] = 0, -1
                case 5:
                    bias[place[0]] = 1e9
                case _:
                    weight, bias = weight * np.float32(1e-20), bias * np.float32(1e-20)
            node = replace(node, weight=weight, bias=bias)
        nodes.append(node)
    return replace(graph, nodes=nodes, _producers={})


IMAGES = {
    "uniform": lambda rng, shape: rng.uniform(0, 1, shape),
    "normal": lambda rng, shape: rng.normal(size=shape),
    "never positive": lambda rng, shape: -rng.uniform(0, 1, shape),
    "constant": lambda rng, shape: np.full(shape, rng.uniform(-1, 1)),
    "black": lambda rng, shape: np.zeros(shape),
    "one": lambda rng, shape: rng.normal(size=(1, *shape[1:])),
    "large": lambda rng, shape: rng.normal(size=shape) * 1e18,
    "tiny": lambda rng, shape: rng.normal(size=shape) * 1e-25,
    "dead channels": lambda rng, shape: rng.normal(size=shape) * (rng.random((1, shape[1], 1, 1)) < 0.5),
    "offset": lambda rng, shape: 1000 + 1e-3 * rng.normal(size=shape),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_networks_on_degenerate_images(kind, tmp_path):
    done = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        graph = damaged(random_network(seed + 100, int(rng.integers(1, 6))).graph, rng)
        images = IMAGES[kind](rng, (4, *graph.shapes[graph.input])).astype(np.float32)
        maps = {tensor: int(rng.choice([2, 4, 8, 8, 11, 16])) for tensor in graph.shapes}
        without = [step for step in STEPS if rng.random() < 0.3]
        search = Search.without(*without, formats=str(rng.choice(["greedy", "max", "absolute"])))
        try:
            check(graph, images, tmp_path / "f.onnx", int(rng.choice([2, 4, 5, 8, 16])), maps, search=search)
            done += 1
        except CalibrationError as error:
            assert "look at" in str(error)  # noqa: PT017
    assert done >= 3


@pytest.mark.parametrize(("level", "bits"), [(0.3, 16), (-0.7, 11), (1000.0, 8)])
def test_layers_whose_inputs_do_not_change_keep_their_weights(level, bits, tmp_path):
    """Covariances of constant inputs are rounding errors of float sums: not positive definite."""
    rng = np.random.default_rng(0)
    nodes = [
        conv("one", "x", "m", rng.normal(size=(8, 4, 3, 3)), activation=Activation(0.0)),
        conv("two", "m", "y", rng.normal(size=(4, 8, 3, 3))),
    ]
    graph = Graph("net", nodes, {"x": (4, 24, 24), "m": (8, 22, 22), "y": (4, 20, 20)}, "x", "y", (4, 20, 20))
    model, _ = check(graph, np.full((7, 4, 24, 24), level, np.float32), tmp_path / "f.onnx", 8, bits)
    weights = model.weights["two"]
    real = np.ldexp(weights.values, -weights.fl.reshape(-1, 1, 1, 1))
    assert np.abs(real - nodes[1].weight).max() < 0.06


def pointwise(*nodes, channels=2, output=None):
    tensors = ["x", *(node.output for node in nodes)]
    last = output or tensors[-1]
    return Graph("net", list(nodes), dict.fromkeys(tensors, (channels, 4, 4)), "x", last, (channels, 4, 4))


IDENTITY = np.eye(2).reshape(2, 2, 1, 1)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("small", [1e-10, 1e-20, 1e-30])
def test_an_operand_of_add_that_vanishes_is_coarsened(order, small, tmp_path):
    """A pruned branch whose values are next to nothing must not make the exact sum pass 32 bits."""
    branches = [conv("tiny", "x", "a", IDENTITY * small), conv("plain", "x", "b", IDENTITY)][::order]
    graph = pointwise(*branches, Add(name="add", inputs=("a", "b"), output="y"))
    images = np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype(np.float32)
    model, report = check(graph, images, tmp_path / "f.onnx")
    assert model.formats["a"].fl - model.formats["b"].fl <= 22
    assert report.layers[-1].noise_db > 35


def test_an_operand_of_add_that_others_have_read_cannot_be_coarsened():
    graph = pointwise(
        conv("tiny", "x", "a", IDENTITY * 1e-20),
        conv("plain", "a", "b", IDENTITY, [1.0, 2.0]),
        Add(name="add", inputs=("a", "b"), output="y"),
    )
    images = np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype(np.float32)
    with pytest.raises(CalibrationError, match="add: the values of a and b are too far apart"):
        calibrate(graph, [images])


def test_an_average_that_cancels(tmp_path):
    images = np.random.default_rng(0).uniform(1e5, 2e5, (4, 1, 4, 4)).astype(np.float32)
    images[:, :, 2:] = -images[:, :, :2]
    images[0, 0, 0, 0] += 1e-2
    pool = AveragePool(name="p", inputs=("x",), output="y", kernel=(4, 4), stride=(1, 1))
    graph = Graph("net", [pool], {"x": (1, 4, 4), "y": (1, 1, 1)}, "x", "y", (1, 1, 1))
    for bits in (2, 8, 16):
        check(graph, images, tmp_path / "f.onnx", 8, bits)


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (1e30, 0.0, "c: its values reach"),
        (1.0, 1e30, "c: its weights or biases are too large"),
        (np.inf, 0.0, "c: its weights hold NaN or infinity"),
    ],
)
def test_values_beyond_every_format_are_refused(weight, bias, message):
    graph = pointwise(conv("c", "x", "y", IDENTITY * 0 + weight, [bias, 0.0]))
    with pytest.raises(CalibrationError, match=message):
        calibrate(graph, [np.ones((3, 2, 4, 4), np.float32)])


def test_images_beyond_every_format_are_refused_without_the_inputs_factor():
    graph = pointwise(conv("c", "x", "y", IDENTITY * 1e-25))
    images = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32) * np.float32(1e25)
    with pytest.raises(CalibrationError, match="x: its values reach"):
        calibrate(graph, [images], search=Search.paper())


def test_huge_biases_do_not_round_the_layer_again_and_again():
    node = conv("c", "x", "y", np.ones((2, 2, 1, 1)), [1e15, 0.0])
    calls = []

    def rounding(lengths):
        calls.append(lengths)
        return np.zeros((2, 2, 1, 1), np.int64)

    found = fixed_weights(node, 8, np.array([6, 6]), 7, (0, 255), rounding)
    assert len(calls) <= 2
    assert 1 << 30 <= found.bias[0] < 1 << 31  # as fine as 32 bits allow


def test_nested_concats_report_every_map(tmp_path):
    nodes = [
        conv("c", "x", "a", IDENTITY),
        Concat(name="inner", inputs=("a", "a"), output="b"),
        Concat(name="outer", inputs=("b", "b"), output="y"),
    ]
    shapes = {"x": (2, 4, 4), "a": (2, 4, 4), "b": (4, 4, 4), "y": (8, 4, 4)}
    graph = Graph("net", nodes, shapes, "x", "y", (8, 4, 4))
    images = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
    model, _ = check(graph, images, tmp_path / "f.onnx")
    assert model.formats["a"] == model.formats["b"] == model.formats["y"]


@pytest.mark.parametrize(
    "maps", ["4,output=8", "8,pool=4", "4,pool=8", "8,a=4", "8,b=16", "16,input=2", "2,output=2", "16"]
)
@pytest.mark.parametrize("weight_bits", [2, 16])
def test_widths_of_single_maps(maps, weight_bits, tmp_path):
    """Pools, a Concat, grouped and depthwise layers between maps of different widths; a map as output."""
    rng = np.random.default_rng(0)
    nodes = [
        MaxPool(name="pool", inputs=("x",), output="p", kernel=(2, 2), stride=(1, 1)),
        conv("depthwise", "p", "a", rng.normal(size=(4, 1, 3, 3)), groups=4, activation=Activation(0, 6)),
        conv("grouped", "p", "b", rng.normal(size=(4, 2, 3, 3)), groups=2),
        Concat(name="cat", inputs=("a", "b"), output="c"),
        MaxPool(name="last", inputs=("c",), output="y", kernel=(2, 2), stride=(2, 2)),
    ]
    shapes = {"x": (4, 9, 9), "p": (4, 8, 8), "a": (4, 6, 6), "b": (4, 6, 6), "c": (8, 6, 6), "y": (8, 3, 3)}
    graph = Graph("net", nodes, shapes, "x", "y", (8, 3, 3))
    images = rng.normal(size=(5, 4, 9, 9)).astype(np.float32)
    wanted = Widths.parse(maps).maps_of(graph)
    model, _ = check(graph, images, tmp_path / "f.onnx", weight_bits, wanted)
    # what only feeds a Concat has the format of the whole
    whole = {**wanted, "a": wanted["c"], "b": wanted["c"]}
    assert {tensor: form.bits for tensor, form in model.formats.items()} == whole


def test_budgets_that_nothing_meets_and_degenerate_networks():
    graph = Graph("net", [conv("fc", "x", "y", np.zeros((4, 2, 1, 1)))], {"x": (2, 1, 1), "y": (4, 1, 1)},
                  "x", "y", (4,))
    images = [np.ones((1, 2, 1, 1), np.float32)]
    with pytest.raises(BudgetError, match="do not fit 1 bytes"):
        find_widths(graph, lambda: images, Budget.parse("1B"))
    assert find_widths(graph, lambda: images, Budget.parse("2bits")).chosen.bits == {"fc": 2}
    assert find_widths(graph, lambda: images, Budget.parse("0points")).chosen.bits == {"fc": 2}


def test_a_width_out_of_range_names_file_and_table(tmp_path):
    path = tmp_path / "w.toml"
    path.write_text("[activations]\ndefault = 1\n")
    with pytest.raises(FormatError, match=r"w\.toml: \[activations\] words of default must be 2 to 16"):
        read_widths(path)


def test_fractional_lengths_stay_within_their_limit(tmp_path):
    graph = pointwise(conv("c", "x", "m", IDENTITY * 1e-30), conv("d", "m", "y", IDENTITY * 1e17))
    images = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
    model, _ = check(graph, images, tmp_path / "f.onnx")
    assert all(np.abs(weights.fl).max() <= FL_LIMIT for weights in model.weights.values())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_nothing_behind(number, code, tmp_path):
    """In the middle of a calibration whose feature maps have gone to temporary files."""
    rng = np.random.default_rng(0)
    arrays = {"v": rng.normal(size=(64, 3, 3, 3)), "w": rng.normal(size=(64, 64, 3, 3))}
    proto = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "v"], ["a"], pads=[1] * 4),
            helper.make_node("Conv", ["a", "w"], ["y"], pads=[1] * 4),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64, 64, 64])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(proto, opset_imports=opset, ir_version=8), tmp_path / "net.onnx")
    np.save(tmp_path / "data.npy", rng.integers(0, 256, (160, 64, 64, 3)).astype(np.uint8))
    spill = tmp_path / "spill"
    spill.mkdir()
    # a process that a shell started in the background ignores Ctrl-C
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from quant.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "calibrate", "net.onnx", "--data", "data.npy", "-o", "fixed.onnx",
         "--json", "report.json", "--quiet"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(spill), "OMP_NUM_THREADS": "1",
             "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    deadline = time.monotonic() + 60
    while not list(spill.rglob("*.npy")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(number)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == code
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not list(spill.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npy", "net.onnx", "spill"]
