"""Each habit of an exporter, in a model of its own, against onnxruntime."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Select
from quant.onnx_import import import_model, import_with_aliases

SHARED = Path(os.environ.get("POINTSHIFT_SHARED", Path(__file__).parents[2].parent / "shared")) / "models"
RANDOM = np.random.default_rng(11)
Check = Callable[..., Graph]


def array(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def model_of(
    nodes: Sequence[NodeProto],
    stored: dict[str, Any],
    shape: Sequence[int | str] = (1, 4, 6, 6),
    output: str = "y",
    opset: int = 17,
) -> onnx.ModelProto:
    """A model with the input x and the initializers ``stored``; scalars and lists become arrays."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(
        operator,
        [name.replace("-", "") for name in inputs.split()],
        outputs.split(),
        name=f"{operator}_{outputs.split()[0]}",
        **attributes,
    )


def kinds(graph: Graph) -> list[type]:
    return [type(entry) for entry in graph.nodes]


BN = {"g": array(4) + 3, "b": array(4), "m": array(4), "v": np.abs(array(4)) + 0.5}


@pytest.mark.parametrize(
    "name", ["cifar10_resnet20", "mlperf_resnet8", "mlperf_vww", "squeezenet_v1_0_imagenet"]
)
def test_shared_models(name: str, same_meaning: Check) -> None:
    path = SHARED / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    graph = same_meaning(path, low=0, high=1)
    # nothing is left beside convolutions, pools, sums, concatenations and ResNet-20's two shortcuts
    assert sum(isinstance(entry, Select) for entry in graph.nodes) == (2 if name == "cifar10_resnet20" else 0)
    assert graph.input_layout == ("NHWC" if name.startswith("mlperf") else "NCHW")


@pytest.mark.parametrize("opset", [11, 13, 15, 18, 21, 23])
def test_opsets(opset: int, same_meaning: Check) -> None:
    squeeze = node("Squeeze", "p", "s", axes=[2, 3]) if opset < 13 else node("Squeeze", "p axes", "s")
    mean = node("ReduceMean", "r", "p", axes=[2, 3]) if opset < 18 else node("ReduceMean", "r axes", "p")
    graph = same_meaning(
        model_of(
            [
                node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
                node("BatchNormalization", "c g b m v", "n"),
                node("Clip", "n low high", "r"),
                mean,
                squeeze,
                node("Gemm", "s f fb", "d", transB=1),
                node("Softmax", "d", "y", axis=1),
            ],
            {
                "w": array(4, 4, 3, 3),
                **BN,
                "f": array(5, 4),
                "fb": array(5),
                "axes": np.array([2, 3]),
                "low": np.float32(0),
                "high": np.float32(6),
            },
            ("batch", 4, 6, 6),
            opset=opset,
        )
    )
    assert kinds(graph) == [Convolution, AveragePool, Convolution]
    assert graph.nodes[0].activation == Activation(0, 6)
    assert graph.nodes[0].name == "Conv_c"
    assert graph.nodes[0].output == "r"
    assert graph.host_operations == ("Softmax",)
    assert graph.output == "d"
    assert graph.output_shape == (5,)


def test_clip_with_attributes(same_meaning: Check) -> None:
    nodes = [node("Conv", "x w", "c"), node("Clip", "c", "y", min=0.0, max=6.0)]
    graph = import_model(model_of(nodes, {"w": array(4, 4, 1, 1)}, opset=10))
    assert kinds(graph) == [Convolution]
    assert graph.nodes[0].activation == Activation(0, 6)


@pytest.mark.parametrize(
    ("inputs", "bounds"),
    [("c low -", (0.5, np.inf)), ("c - high", (-np.inf, 1.5)), ("c low high", (0.5, 1.5))],
)
def test_clip_with_inputs(inputs: str, bounds: tuple[float, float], same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [node("Conv", "x w", "c"), node("Clip", inputs, "y")],
            {"w": array(4, 4, 1, 1), "low": np.float32(0.5), "high": np.float32(1.5)},
        )
    )
    assert graph.nodes[0].activation == Activation(*bounds)


def test_activations_in_a_row_are_one(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Conv", "x w", "c"),
                node("Relu", "c", "r"),
                node("Min", "r six", "s"),
                node("Max", "one s", "t"),
                node("Clip", "t - half", "y"),
            ],
            {"w": array(4, 4, 1, 1), "six": np.float32(2), "one": np.float32(-1), "half": np.float32(1.25)},
        )
    )
    assert kinds(graph) == [Convolution]
    assert graph.nodes[0].activation == Activation(0, 1.25)
    assert graph.nodes[0].output == "y"


def test_lone_activation_is_a_select(same_meaning: Check) -> None:
    assert kinds(same_meaning(model_of([node("Relu", "x", "y")], {}))) == [Select]


def test_activation_of_a_tensor_that_is_read_twice(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Add", "c r", "y")],
            {"w": array(4, 4, 1, 1)},
        )
    )
    assert kinds(graph) == [Convolution, Select, Add]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 0, 2, 1]},
        {"strides": [2, 1], "dilations": [2, 1]},
        {"group": 2},
        {"group": 4},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"auto_pad": "VALID"},
    ],
)
def test_convolutions(attributes: dict[str, Any], same_meaning: Check) -> None:
    groups = attributes.get("group", 1)
    stored = {"w": array(8, 4 // groups, 3, 2), "k": array(8)}
    assert kinds(
        same_meaning(model_of([node("Conv", "x w k", "y", **attributes)], stored, (1, 4, 7, 9)))
    ) == [Convolution]


def test_batch_norm_alone_and_in_front_of_a_padded_convolution(same_meaning: Check) -> None:
    lone = same_meaning(model_of([node("BatchNormalization", "x g b m v", "y")], BN))
    assert [(type(entry), entry.groups) for entry in lone.nodes] == [(Convolution, 4)]
    graph = same_meaning(
        model_of(
            [node("BatchNormalization", "x g b m v", "n"), node("Conv", "n w", "y", pads=[1, 1, 1, 1])],
            {**BN, "w": array(4, 4, 3, 3)},
        )
    )
    assert kinds(graph) == [Convolution, Convolution]  # the shift does not commute with zero padding


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_scale_in_front_of_a_convolution_is_folded(groups: int, same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [node("Sub", "x mean", "a"), node("Div", "a std", "b"), node("Conv", "b w k", "y", group=groups)],
            {
                "mean": array(1, 4, 1, 1),
                "std": np.abs(array(4, 1, 1)) + 1,
                "w": array(8, 4 // groups, 3, 3),
                "k": array(8),
            },
        )
    )
    assert kinds(graph) == [Convolution]


def test_affine_operators_behind_a_convolution(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
                node("Mul", "s c", "d"),
                node("Add", "t d", "e"),
                node("Neg", "e", "f"),
                node("Sub", "one f", "g"),
                node("Mul", "g half", "h"),
                node("Relu", "h", "y"),
            ],
            {
                "w": array(4, 4, 3, 3),
                "s": array(4, 1, 1),
                "t": array(1, 4, 1, 1),
                "one": np.float32(1),
                "half": np.array([0.5], np.float32),
            },
        )
    )
    assert kinds(graph) == [Convolution]
    assert graph.nodes[0].output == "y"


def test_neutral_operators_leave_nothing(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Identity", "x", "a"),
                node("Dropout", "a", "b"),
                node("Cast", "b", "c", to=1),
                node("Mul", "c one", "d"),
                node("Add", "d zero", "e"),
                node("Expand", "e shape", "f"),
                node("Conv", "f w", "g"),
                node("Identity", "g", "y"),
            ],
            {
                "one": np.float32(1),
                "zero": np.zeros((4, 1, 1), np.float32),
                "shape": np.array([1, 4, 1, 1]),
                "w": array(4, 4, 1, 1),
            },
        )
    )
    assert kinds(graph) == [Convolution]
    assert graph.nodes[0].inputs == ("x",)
    assert graph.output == "y"


def test_constant_subgraphs(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Constant", "", "raw", value=numpy_helper.from_array(array(3, 3, 4, 4))),
                node("Transpose", "raw", "w", perm=[3, 2, 0, 1]),
                node("Exp", "k", "k1"),
                node("Sqrt", "k1", "bias"),
                node("Conv", "x w bias", "c"),
                node("Shape", "c", "shape"),
                node("Gather", "shape zero", "batch"),
                node("Unsqueeze", "batch axis", "batch1"),
                node("Concat", "batch1 minus", "target", axis=0),
                node("Reshape", "c target", "f"),
                node("MatMul", "f m", "d"),
                node("Add", "d n", "y"),
            ],
            {
                "k": array(4),
                "zero": np.array(0),
                "axis": np.array([0]),
                "minus": np.array([-1]),
                "m": array(64, 3),
                "n": array(3),
            },
            ("batch", 4, 6, 6),
        )
    )
    assert kinds(graph) == [Convolution, Convolution]
    assert graph.shapes["y"] == (3, 1, 1)


def test_if_with_a_constant_condition(same_meaning: Check) -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node(operator, "c", f"{name}_out")],
            name,
            [],
            [helper.make_empty_tensor_value_info(f"{name}_out")],
        )

    choice = helper.make_node(
        "If",
        ["yes"],
        ["y"],
        name="choice",
        then_branch=branch("yes_branch", "Relu"),
        else_branch=branch("no_branch", "Sigmoid"),
    )
    model = model_of([node("Conv", "x w", "c"), choice], {"w": array(4, 4, 1, 1), "yes": np.array(True)})
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6]))
    assert kinds(same_meaning(model)) == [Convolution]


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}])
@pytest.mark.parametrize("bias", [None, (), (3,), (1, 3)])
def test_gemm(attributes: dict[str, Any], bias: tuple[int, ...] | None, same_meaning: Check) -> None:
    stored = {"w": array(3, 144) if attributes.get("transB") else array(144, 3)}
    if bias is not None:
        stored["k"] = array(*bias) if bias else np.float32(0.7)
    graph = same_meaning(
        model_of(
            [
                node("Flatten", "x", "f"),
                node("Gemm", "f w" + (" k" if bias is not None else ""), "y", **attributes),
            ],
            stored,
        )
    )
    assert kinds(graph) == [Convolution]
    assert graph.nodes[0].weight.shape == (3, 4, 6, 6)


def test_weight_on_the_left_and_transposed_input(same_meaning: Check) -> None:
    same_meaning(model_of([node("MatMul", "w x", "y")], {"w": array(3, 5)}, (5,)))
    same_meaning(
        model_of(
            [node("Reshape", "x s", "c"), node("Gemm", "c w", "y", transA=1)],
            {"s": np.array([5, 1]), "w": array(5, 3)},
            (1, 5),
        )
    )
    same_meaning(model_of([node("MatMul", "x w", "y")], {"w": array(5)}, (1, 5)))


def test_perceptron(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Gemm", "x w k", "a"),
                node("Relu", "a", "b"),
                node("MatMul", "b v", "c"),
                node("Add", "c n", "d"),
                node("LogSoftmax", "d", "y", axis=-1),
            ],
            {"w": array(12, 7), "k": array(7), "v": array(7, 3), "n": array(3)},
            ("n", 12),
        )
    )
    assert kinds(graph) == [Convolution, Convolution]
    assert graph.host_operations == ("LogSoftmax",)


def test_channels_last_model(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Transpose", "x", "a", perm=[0, 3, 1, 2]),
                node("Conv", "a w", "b", pads=[1, 1, 1, 1]),
                node("Transpose", "b", "c", perm=[0, 2, 3, 1]),
                node("Add", "c k", "d"),
                node("Relu", "d", "e"),
                node("Transpose", "e", "f", perm=[0, 3, 1, 2]),
                node("MaxPool", "f", "g", kernel_shape=[2, 2], strides=[2, 2]),
                node("Transpose", "g", "h", perm=[0, 2, 3, 1]),
                node("Reshape", "h shape", "i"),
                node("MatMul", "i m", "j"),
                node("Softmax", "j", "s"),
                node("ArgMax", "s", "y", axis=1, keepdims=0),
            ],
            {"w": array(5, 3, 3, 3), "k": array(5), "shape": np.array([-1, 80]), "m": array(80, 6)},
            ("n", 8, 8, 3),
        )
    )
    assert kinds(graph) == [Convolution, MaxPool, Convolution]
    assert graph.input_layout == "NHWC"
    assert graph.host_operations == ("Softmax", "ArgMax")
    assert graph.nodes[0].activation == Activation(0.0)


def test_channels_last_blocks_with_pad_concat_slice_and_mean(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Pad", "x pads", "p"),
                node("Transpose", "p", "a", perm=[0, 3, 1, 2]),
                node("Conv", "a w", "b", strides=[2, 2]),
                node("Transpose", "b", "c", perm=[0, 2, 3, 1]),
                node("Relu", "c", "r"),
                node("Slice", "r start end axes step", "s"),
                node("Concat", "s s", "t", axis=3),
                node("MatMul", "t m", "u"),
                node("ReduceMean", "u", "y", axes=[1, 2], keepdims=0),
            ],
            {
                "pads": np.array([0, 0, 0, 0, 0, 1, 1, 0]),
                "w": array(6, 3, 3, 3),
                "start": np.array([0, 1]),
                "end": np.array([4, 6]),
                "axes": np.array([2, 3]),
                "step": np.array([2, 2]),
                "m": array(6, 5),
            },
            (1, 8, 8, 3),
        )
    )
    assert kinds(graph) == [Convolution, Select, Concat, Convolution, AveragePool]
    assert graph.nodes[0].pads == (0, 0, 1, 1)
    assert graph.nodes[1].step == (2, 1, 2)


def test_channels_last_output_is_transposed_by_the_host(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Transpose", "x", "a", perm=[0, 3, 1, 2]),
                node("Conv", "a w", "b"),
                node("Transpose", "b", "y", perm=[0, 2, 3, 1]),
            ],
            {"w": array(5, 3, 1, 1)},
            (1, 4, 4, 3),
        )
    )
    assert graph.host_operations == ("Transpose",)
    assert graph.output_shape == (5, 4, 4)


def test_static_batch(same_meaning: Check) -> None:
    graph = import_model(
        model_of(
            [node("Conv", "x w", "c"), node("Reshape", "c shape", "f"), node("Gemm", "f m", "y")],
            {"w": array(2, 4, 1, 1), "shape": np.array([8, 72]), "m": array(72, 3)},
            (8, 4, 6, 6),
        )
    )
    assert graph.shapes == {"x": (4, 6, 6), "c": (2, 6, 6), "y": (3, 1, 1)}


@pytest.mark.parametrize("value", [None, 0.0])
def test_pad_in_front_of_convolution_and_average(value: float | None, same_meaning: Check) -> None:
    stored = {"pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "w": array(3, 4, 3, 3)}
    if value is not None:
        stored["zero"] = np.float32(value)
    pad = node("Pad", "x pads" + (" zero" if value is not None else ""), "p")
    graph = same_meaning(model_of([pad, node("Conv", "p w", "y", pads=[1, 0, 0, 1])], stored))
    assert kinds(graph) == [Convolution]
    assert graph.nodes[0].pads == (2, 2, 0, 2)
    for attributes in (
        {},
        {"pads": [1, 1, 0, 0], "count_include_pad": 1},
        {"pads": [1, 1, 0, 0]},
        {"strides": [2, 2], "ceil_mode": 1},
    ):
        same_meaning(
            model_of(
                [pad, node("AveragePool", "p", "y", kernel_shape=[2, 3], **attributes)],
                {name: stored[name] for name in stored if name != "w"},
            )
        )


def test_pad_in_front_of_max_pool(same_meaning: Check) -> None:
    stored = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "low": np.float32(-np.inf)}
    pool = node("MaxPool", "p", "y", kernel_shape=[3, 3], strides=[2, 2])
    assert kinds(same_meaning(model_of([node("Pad", "x pads low", "p"), pool], stored), high=-1)) == [MaxPool]
    relu = same_meaning(model_of([node("Relu", "x", "r"), node("Pad", "r pads", "p"), pool], stored))
    assert kinds(relu) == [Select, MaxPool]
    assert relu.nodes[1].pads == (1, 1, 1, 1)
    # negative inputs: the zeros win, so they must be real
    signed = same_meaning(model_of([node("Pad", "x pads", "p"), pool], stored), low=-2, high=-1)
    assert kinds(signed) == [Convolution, MaxPool]


def test_window_on_zero_padding_only(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Relu", "x", "r"),
                node("Pad", "r pads", "p"),
                node("MaxPool", "p", "y", kernel_shape=[2, 2]),
            ],
            {"pads": np.array([0, 0, 2, 2, 0, 0, 2, 2])},
        )
    )
    assert kinds(graph) == [Select, Convolution, MaxPool]


def test_pad_that_is_read_by_an_addition(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Pad", "x pads", "p"),
                node("Conv", "p w", "c", pads=[1, 1, 1, 1]),
                node("Add", "p c", "y"),
            ],
            {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "w": array(4, 4, 3, 3)},
        )
    )
    assert kinds(graph).count(Add) == 1


def test_cropping_pad(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [node("Pad", "x pads", "p"), node("Conv", "p w", "y")],
            {"pads": np.array([0, 0, -1, 0, 0, 0, 0, -2]), "w": array(3, 4, 2, 2)},
        )
    )
    assert kinds(graph) == [Select, Convolution]


def test_parameter_free_shortcut(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Relu", "x", "r"),
                node("Slice", "r s e a t", "d"),
                node("Pad", "d pads", "p"),
                node("Conv", "r w", "c", strides=[2, 2], pads=[1, 1, 1, 1]),
                node("Add", "c p", "q"),
                node("Relu", "q", "y"),
            ],
            {
                "s": np.array([0, 0]),
                "e": np.array([2**31, 2**31]),
                "a": np.array([2, 3]),
                "t": np.array([2, 2]),
                "pads": np.array([0, 2, 0, 0, 0, 2, 0, 0]),
                "w": array(8, 4, 3, 3),
            },
        )
    )
    assert kinds(graph) == [Select, Convolution, Select, Add]
    select = graph.nodes[2]
    assert isinstance(select, Select)
    assert (select.step, select.size, select.pad_channels) == ((1, 2, 2), (4, 3, 3), (2, 2))
    assert select.output == "p"


def test_concatenation_with_zeros_is_padding(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [node("Concat", "zero x zero", "p", axis=1), node("Relu", "p", "y")],
            {"zero": np.zeros((1, 2, 6, 6), np.float32)},
        )
    )
    assert kinds(graph) == [Select]


def test_split_and_concat(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Conv", "x w", "c"),
                node("Split", "c parts", "a b", axis=1),
                node("Relu", "b", "d"),
                node("Concat", "d a d", "e", axis=1),
                node("Conv", "e v", "y"),
            ],
            {"w": array(6, 4, 1, 1), "parts": np.array([2, 4]), "v": array(3, 10, 1, 1)},
        )
    )
    assert Concat in kinds(graph)


def test_channel_shuffle_and_reversed_channels(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Reshape", "x s1", "a"),
                node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
                node("Reshape", "b s2", "c"),
                node("Conv", "c w", "d", group=2),
                node("Gather", "d order", "e", axis=1),
                node("Conv", "e v", "y"),
            ],
            {
                "s1": np.array([1, 2, 2, 6, 6]),
                "s2": np.array([1, 4, 6, 6]),
                "w": array(4, 2, 1, 1),
                "order": np.array([3, 2, 1, 0]),
                "v": array(2, 4, 1, 1),
            },
        )
    )
    assert all(isinstance(entry, Convolution) for entry in graph.nodes)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"])
def test_pool_of_shuffled_channels(operator: str, same_meaning: Check) -> None:
    """A ShuffleNet that ends without another convolution: means in the order of the shuffle."""
    axes = {"axes": [2]} if operator.startswith("Reduce") else {}
    graph = same_meaning(
        model_of(
            [
                node("Relu", "x", "r"),
                node("Reshape", "r s1", "a"),
                node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
                node("Reshape", "b s2", "c"),
                node(operator, "c", "p", **axes),
                node("Flatten", "p", "f"),
                node("Gemm", "f w", "y", transB=1),
            ],
            {
                "s1": np.array([1, 3, 2, 4, 5]),
                "s2": np.array([1, 6, 4, 5]),
                "w": array(7, 6 * (5 if axes else 1)),
            },
            (1, 6, 4, 5),
            opset=13,
        )
    )
    assert len(graph.nodes) == 3


def test_sums(same_meaning: Check) -> None:
    stored = {"w": array(4, 4, 1, 1)}
    assert kinds(same_meaning(model_of([node("Conv", "x w", "c"), node("Add", "c c", "y")], stored))) == [
        Convolution,
        Add,
    ]
    assert kinds(
        same_meaning(
            model_of([node("Conv", "x w", "c"), node("Sum", "c x c", "d"), node("Relu", "d", "y")], stored)
        )
    ) == [Convolution, Add, Add]


@pytest.mark.parametrize(("operator", "kind"), [("ReduceMean", AveragePool), ("ReduceMax", MaxPool)])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3], [2]])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(operator: str, kind: type, axes: list[int], keep: int, same_meaning: Check) -> None:
    graph = same_meaning(model_of([node(operator, "x", "y", axes=axes, keepdims=keep)], {}, (1, 4, 5, 7)))
    assert kinds(graph) == [kind]


def test_global_pools_and_reduction_of_flattened_pixels(same_meaning: Check) -> None:
    assert kinds(same_meaning(model_of([node("GlobalAveragePool", "x", "y")], {}))) == [AveragePool]
    assert kinds(same_meaning(model_of([node("GlobalMaxPool", "x", "y")], {}))) == [MaxPool]
    assert kinds(
        same_meaning(
            model_of(
                [node("Reshape", "x s", "f"), node("ReduceMean", "f", "y", axes=[2])],
                {"s": np.array([0, 0, -1])},
            )
        )
    ) == [AveragePool]


def test_activation_moves_in_front_of_pool_and_concat(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [
                node("Conv", "x w", "a"),
                node("Conv", "x w", "b"),
                node("Concat", "a b", "c", axis=1),
                node("MaxPool", "c", "d", kernel_shape=[2, 2]),
                node("Relu", "d", "y"),
            ],
            {"w": array(4, 4, 1, 1)},
        )
    )
    assert kinds(graph) == [Convolution, Convolution, Concat, MaxPool]
    assert [entry.activation for entry in graph.nodes] == [Activation(0.0)] * 2 + [Activation()] * 2


def test_unused_nodes_are_dropped(same_meaning: Check) -> None:
    graph = same_meaning(
        model_of(
            [node("Sigmoid", "x", "s"), node("Conv", "x w", "c"), node("Relu", "c", "y")],
            {"w": array(4, 4, 1, 1)},
        )
    )
    assert kinds(graph) == [Convolution]


def test_boundaries_stop_fusion() -> None:
    model = model_of(
        [
            node("Conv", "x w", "c"),
            node("Relu", "c", "r"),
            node("Flatten", "r", "f"),
            node("Gemm", "f m", "d"),
            node("Relu", "d", "y"),
        ],
        {"w": array(4, 4, 1, 1), "m": array(144, 3)},
    )
    assert kinds(import_model(model)) == [Convolution, Convolution]
    graph, aliases = import_with_aliases(model, boundaries=frozenset({"x", "c", "f", "d", "y"}))
    assert [(type(entry), entry.output) for entry in graph.nodes] == [
        (Convolution, "c"),
        (Select, "r"),
        (Convolution, "d"),
        (Select, "y"),
    ]
    assert aliases["f"] == "r"
    graph, aliases = import_with_aliases(model, boundaries=frozenset({"x", "r", "y"}))
    assert [entry.output for entry in graph.nodes] == ["r", "y"]
    assert aliases["f"] == "r"


def test_distinct_boundary_behind_a_flatten() -> None:
    model = model_of(
        [node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("Gemm", "f m", "y")],
        {"w": array(4, 4, 1, 1), "m": array(144, 3)},
    )
    boundaries = frozenset({"x", "c", "f", "y"})
    graph, aliases = import_with_aliases(model, boundaries=boundaries, distinct=frozenset({"f"}))
    assert [(type(entry), entry.output) for entry in graph.nodes] == [
        (Convolution, "c"),
        (Select, "f"),
        (Convolution, "y"),
    ]
    assert graph.shapes["f"] == (4, 6, 6)
    assert "f" not in aliases


def test_boundary_on_a_pad_and_on_a_slice(same_meaning: Check) -> None:
    model = model_of(
        [node("Slice", "x s e a", "d"), node("Pad", "d pads", "p"), node("Conv", "p w", "y")],
        {
            "s": np.array([1]),
            "e": np.array([5]),
            "a": np.array([3]),
            "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
            "w": array(3, 4, 3, 3),
        },
    )
    boundaries = frozenset({"x", "d", "p", "y"})
    graph = same_meaning(model, boundaries=boundaries)
    assert [entry.output for entry in graph.nodes] == ["d", "y"]
    assert import_with_aliases(model, boundaries=boundaries)[1]["p"] == "d"


def test_boundary_between_convolution_and_batch_norm(same_meaning: Check) -> None:
    model = model_of(
        [node("Conv", "x w", "c"), node("BatchNormalization", "c g b m v", "y")],
        {"w": array(4, 4, 1, 1), **BN},
    )
    assert len(same_meaning(model).nodes) == 1
    assert [entry.output for entry in same_meaning(model, boundaries=frozenset({"c"})).nodes] == ["c", "y"]


def test_activation_does_not_move_across_a_boundary(same_meaning: Check) -> None:
    model = model_of(
        [node("Conv", "x w", "c"), node("MaxPool", "c", "p", kernel_shape=[2, 2]), node("Relu", "p", "y")],
        {"w": array(4, 4, 1, 1)},
    )
    graph = same_meaning(model, boundaries=frozenset({"c", "y"}))
    assert [(entry.output, entry.activation.low) for entry in graph.nodes] == [("c", -np.inf), ("y", 0.0)]


@st.composite
def movements(draw: st.DrawFn) -> tuple[list[NodeProto], dict[str, Any], tuple[int, ...], int]:
    """Operators that only move elements: nodes, constants, shape of the input, size of the result."""
    shape: tuple[int, ...] = (1, draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    start, nodes, stored = shape, [], {}
    for step in range(draw(st.integers(1, 6))):
        source, result = ("x" if step == 0 else f"t{step - 1}"), f"t{step}"
        operator = draw(st.sampled_from(["Transpose", "Reshape", "Slice", "Pad", "Gather", "Flatten"]))
        axis = draw(st.integers(0, len(shape) - 1))
        constants: list[np.ndarray] = []
        attributes: dict[str, Any] = {}
        if operator == "Transpose":
            order = draw(st.permutations(range(len(shape))))
            attributes, shape = {"perm": order}, tuple(shape[old] for old in order)
        elif operator == "Reshape":
            sizes = list(shape)
            count = sizes.pop(axis)
            divisor = draw(st.sampled_from([n for n in range(1, count + 1) if count % n == 0]))
            merged = [divisor, count // divisor] if len(shape) < 5 else [count]
            shape = tuple(sizes[:axis] + merged + sizes[axis:])
            constants = [np.array(shape)]
        elif operator == "Slice":
            first, pace = draw(st.integers(0, shape[axis] - 1)), draw(st.integers(1, 3))
            end = draw(st.integers(first + 1, shape[axis]))
            constants = [np.array([first]), np.array([end]), np.array([axis]), np.array([pace])]
            shape = (*shape[:axis], -(-(end - first) // pace), *shape[axis + 1 :])
        elif operator == "Pad":
            before, after = draw(st.integers(0, 1)), draw(st.integers(0, 2))
            pads = np.zeros(2 * len(shape), np.int64)
            pads[axis], pads[axis + len(shape)] = before, after
            constants, shape = [pads], (*shape[:axis], shape[axis] + before + after, *shape[axis + 1 :])
        elif operator == "Gather":
            chosen = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=4))
            constants, attributes = [np.array(chosen)], {"axis": axis}
            shape = (*shape[:axis], len(chosen), *shape[axis + 1 :])
        else:
            attributes = {"axis": axis}
            shape = (math.prod(shape[:axis]), math.prod(shape[axis:]))
        names = [f"k{step}_{position}" for position in range(len(constants))]
        stored.update(zip(names, constants, strict=True))
        nodes.append(helper.make_node(operator, [source, *names], [result], name=result, **attributes))
    return nodes, stored, start, math.prod(shape)


@settings(max_examples=120, deadline=None)
@given(chain=movements())
def test_any_movement_in_front_of_a_fully_connected_layer(
    same_meaning: Check, chain: tuple[list[NodeProto], dict[str, Any], tuple[int, ...], int]
) -> None:
    nodes, stored, shape, count = chain
    flat = helper.make_node("Reshape", [nodes[-1].output[0], "flat"], ["f"], name="flat_node")
    probe = helper.make_node("Gemm", ["f", "w"], ["y"], name="dense")
    weight = np.random.default_rng(count).standard_normal((count, 3)).astype(np.float32)
    graph = same_meaning(
        model_of([*nodes, flat, probe], {**stored, "flat": np.array([1, -1]), "w": weight}, shape)
    )
    assert kinds(graph) == [Convolution]
