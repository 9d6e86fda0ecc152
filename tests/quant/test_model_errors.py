"""Models that cannot be imported: one clear message that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quant.onnx_import import ModelError, import_model, import_verbosely

WEIGHT = np.ones((4, 4, 1, 1), np.float32)


def model_of(
    nodes: list[NodeProto],
    shape: list[int | str | None],
    stored: dict[str, Any],
    output: str = "y",
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conv(source: str, output: str, weight: str = "w", **attributes: Any) -> NodeProto:
    return helper.make_node("Conv", [source, weight], [output], name=f"conv_{output}", **attributes)


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], name=f"the_{operator}", **attributes)


def error_of(model: onnx.ModelProto | Path, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        import_model(model, **options)
    assert isinstance(caught.value, ValueError)
    return caught.value


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no such file" in str(error_of(tmp_path / "none.onnx"))
    assert "a folder" in str(error_of(tmp_path))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    whole = model_of(
        [conv("x", "c"), conv("c", "y")], [1, 4, 6, 6], {"w": np.ones((4, 4, 9, 9), np.float32)}
    ).SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(share * len(whole))])
    error = error_of(path)
    assert str(path) in str(error)
    assert "export or copy it again" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"hello, this is text", bytes(range(256)) * 4, b"PK\x03\x04 zip"])
def test_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.onnx").write_bytes(content)
    assert "not a whole ONNX file" in str(error_of(tmp_path / "other.onnx"))


def test_missing_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        model_of([conv("x", "y")], [1, 4, 6, 6], {"w": WEIGHT}),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert import_model(path).output == "y"
    (tmp_path / "weights.bin").unlink()
    assert "weights.bin" in str(error_of(path))


def test_enormous_input() -> None:
    model = model_of([node("Relu", ["x"], "y")], [1, 2**20, 2**20, 2**20], {})
    assert "give the model a smaller input" in str(error_of(model))


def test_name_that_is_no_text(tmp_path: Path) -> None:
    whole = model_of([node("Relu", ["x"], "y")], [1, 4, 6, 6], {}).SerializeToString()
    assert whole.count(b"the_Relu") == 1
    (tmp_path / "net.onnx").write_bytes(whole.replace(b"the_Relu", b"the_Rel\xe5"))
    assert "a name is no text" in str(error_of(tmp_path / "net.onnx"))


@pytest.mark.parametrize("attribute", ["pads", "group"])
def test_attribute_without_a_value(attribute: str) -> None:
    model = model_of([conv("x", "y", strides=[1, 1], pads=[0] * 4, group=1)], [1, 4, 6, 6], {"w": WEIGHT})
    for stored in model.graph.node[0].attribute:
        if stored.name == attribute:
            stored.type = onnx.AttributeProto.UNDEFINED
    assert "not a whole ONNX file" in str(error_of(model))


def test_tensor_without_its_bytes() -> None:
    model = model_of([conv("x", "y")], [1, 4, 6, 6], {"w": WEIGHT})
    model.graph.initializer[0].raw_data = b"123"
    assert "the tensor w cannot be read" in str(error_of(model))


def test_all_refusals_at_once() -> None:
    error = error_of(
        model_of(
            [
                conv("x", "a"),
                node("Sigmoid", ["a"], "b"),
                node("Mul", ["a", "b"], "c"),
                conv("c", "d", "v"),
                node("Softmax", ["d"], "e", axis=1),
                node("LSTM", ["e"], "f"),
                conv("f", "y"),
            ],
            [1, 4, 6, 6],
            {"w": WEIGHT, "v": np.full((4, 4, 1, 1), np.nan, np.float32)},
        )
    )
    assert [(refusal.node, refusal.operator) for refusal in error.refusals] == [
        ("the_Sigmoid", "Sigmoid"),
        ("the_Mul", "Mul"),
        ("conv_d", "Conv"),
        ("the_Softmax", "Softmax"),
        ("the_LSTM", "LSTM"),
    ]
    text = str(error)
    assert text.startswith("net: 5 nodes cannot be imported:\n  the_Sigmoid (Sigmoid): ")
    assert "the tensor v holds 16 values that are not finite (nan at [0, 0, 0, 0])" in text
    assert all(refusal.reason and refusal.advice for refusal in error.refusals)


def test_nodes_behind_a_refused_one_are_checked_or_unknown() -> None:
    result = import_verbosely(
        model_of(
            [
                node("Sigmoid", ["x"], "a"),
                conv("a", "b"),
                node("NonZero", ["b"], "c"),
                node("Relu", ["c"], "y"),
            ],
            [1, 4, 6, 6],
            {"w": WEIGHT},
        )
    )
    assert result.graph is None
    assert [record.place for record in result.records] == ["refused", "array", "refused", "unknown"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["w", "k", "scale", "shift", "m"])
def test_values_that_are_not_finite(value: float, where: str) -> None:
    stored = {
        "w": WEIGHT.copy(),
        "k": np.ones(4, np.float32),
        "scale": np.ones((4, 1, 1), np.float32),
        "shift": np.ones((4, 1, 1), np.float32),
        "m": np.ones((144, 3), np.float32),
    }
    stored[where].reshape(-1)[2] = value
    error = error_of(
        model_of(
            [
                helper.make_node("Conv", ["x", "w", "k"], ["a"]),
                node("Mul", ["a", "scale"], "b"),
                node("Add", ["b", "shift"], "c"),
                node("Flatten", ["c"], "d"),
                node("MatMul", ["d", "m"], "y"),
            ],
            [1, 4, 6, 6],
            stored,
        )
    )
    assert f"the tensor {where} holds 1 values that are not finite" in str(error)


def test_name_of_a_constant_behind_an_identity() -> None:
    error = error_of(
        model_of(
            [node("Identity", ["w"], "w2"), conv("x", "y", "w2")],
            [1, 4, 6, 6],
            {"w": np.full((4, 4, 1, 1), np.inf, np.float32)},
        )
    )
    assert "the tensor w holds" in str(error)


def test_unknown_shape_and_how_to_give_it() -> None:
    model = model_of([conv("x", "y")], ["batch", 4, "height", None], {"w": WEIGHT})
    error = error_of(model)
    assert "[?, 4, ?, ?]" in str(error)
    assert "--input-shape C,H,W" in str(error)
    assert import_model(model, input_shape=(4, 5, 7)).shapes == {"x": (4, 5, 7), "y": (4, 5, 7)}
    assert "does not fit" in str(error_of(model, input_shape=(3, 5, 7)))


def test_unknown_shape_of_a_channels_last_model() -> None:
    model = model_of(
        [node("Transpose", ["x"], "t", perm=[0, 3, 1, 2]), conv("t", "y")], [1, None, None, 4], {"w": WEIGHT}
    )
    graph = import_model(model, input_shape=(4, 5, 7))
    assert graph.input_layout == "NHWC"
    assert graph.shapes["x"] == (4, 5, 7)


def test_input_without_a_shape() -> None:
    model = model_of([conv("x", "y")], [1, 4, 6, 6], {"w": WEIGHT})
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert "has no shape" in str(error_of(model))


def test_several_inputs_and_outputs() -> None:
    model = model_of([conv("x", "y")], [1, 4, 6, 6], {"w": WEIGHT})
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 4, 6, 6]))
    assert "2 inputs (x, mask)" in str(error_of(model))
    model = model_of([conv("x", "y")], [1, 4, 6, 6], {"w": WEIGHT})
    model.graph.output.append(helper.make_empty_tensor_value_info("x"))
    assert "2 outputs (y, x)" in str(error_of(model))


def test_old_opset() -> None:
    assert "its opset is 6" in str(error_of(model_of([conv("x", "y")], [1, 4, 6, 6], {"w": WEIGHT}, opset=6)))


def test_weights_listed_as_inputs_are_not_inputs() -> None:
    model = model_of([conv("x", "y")], [1, 4, 6, 6], {"w": WEIGHT})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4, 1, 1]))
    assert import_model(model).input == "x"


@pytest.mark.parametrize(
    ("nodes", "shape", "stored", "message"),
    [
        ([conv("x", "y")], [1, 4, 6], {"w": np.ones((4, 4, 3), np.float32)}, "1-dimensional convolution"),
        (
            [conv("x", "y")],
            [1, 4, 6, 6],
            {"w": np.ones((4, 3, 1, 1), np.float32)},
            "does not fit 4 input channels",
        ),
        ([conv("x", "y", "x")], [1, 4, 6, 6], {}, "its weight is not a constant"),
        (
            [conv("x", "c"), node("Add", ["c", "k"], "y")],
            [1, 4, 6, 6],
            {"w": WEIGHT, "k": np.arange(6, dtype=np.float32)},
            "pixel to pixel",
        ),
        (
            [node("GlobalAveragePool", ["x"], "p"), node("Add", ["x", "p"], "y")],
            [1, 4, 6, 6],
            {},
            "adds tensors of the shapes [1, 4, 6, 6] and [1, 4, 1, 1]",
        ),
        ([node("Mul", ["x", "x"], "y")], [1, 4, 6, 6], {}, "multiplies two feature maps"),
        ([node("Sub", ["x", "x"], "y")], [1, 4, 6, 6], {}, "subtracts two feature maps"),
        ([node("Div", ["x", "k"], "y")], [1, 4, 6, 6], {"k": np.float32(0)}, "the tensor k holds zeros"),
        ([node("Clip", ["x", "x", ""], "y")], [1, 4, 6, 6], {}, "its bound is not a constant"),
        (
            [node("Pad", ["x", "p"], "y", mode="reflect")],
            [1, 4, 6, 6],
            {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
            "its mode is reflect",
        ),
        (
            [node("Pad", ["x", "p", "v"], "y")],
            [1, 4, 6, 6],
            {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "v": np.float32(1)},
            "it pads with 1.0",
        ),
        ([node("ReduceMean", ["x"], "y", axes=[1, 3])], [1, 4, 6, 6], {}, "reduces over the axes [1, 3]"),
        (
            [node("Slice", ["x", "s", "e", "a", "t"], "d"), node("Relu", ["d"], "y")],
            [1, 4, 6, 6],
            {"s": np.array([5]), "e": np.array([-7]), "a": np.array([3]), "t": np.array([-1])},
            "an order that no layer can read",
        ),
        (
            [node("Transpose", ["x"], "t", perm=[0, 1, 3, 2]), conv("t", "y")],
            [1, 4, 6, 6],
            {"w": WEIGHT},
            "an order that no layer can read",
        ),
        ([node("Cast", ["x"], "y", to=6)], [1, 4, 6, 6], {}, "casts a feature map to integers"),
        ([node("MaxPool", ["x"], "y", kernel_shape=[2])], [1, 4, 6], {}, "its input has the shape [1, 4, 6]"),
        (
            [node("Softmax", ["x"], "s", axis=1), conv("s", "y")],
            [1, 4, 6, 6],
            {"w": WEIGHT},
            "not at the end",
        ),
        ([node("MatMul", ["x", "x"], "y")], [1, 4, 6, 6], {}, "multiplies two feature maps"),
        (
            [node("Gemm", ["x", "w", "b"], "y")],
            [1, 6],
            {"w": np.ones((6, 5), np.float32), "b": np.ones(4, np.float32)},
            "its bias [4] does not fit 5 outputs",
        ),
        (
            [node("RandomNormalLike", ["x"], "r"), node("Add", ["x", "r"], "y")],
            [1, 4, 6, 6],
            {},
            "not supported",
        ),
        (
            [node("Reshape", ["x", "s"], "f"), node("Relu", ["f"], "y")],
            [1, 4, 6, 6],
            {"s": np.array([1, 100])},
            "does not fit its input of shape [1, 4, 6, 6]",
        ),
        (
            [node("Transpose", ["x"], "t", perm=[0, 1, 3, 2]), node("Relu", ["t"], "y")],
            [1, 4, 6, 6],
            {},
            "an order that no layer can read",
        ),
    ],
)
def test_refusals(
    nodes: list[NodeProto], shape: list[int | str | None], stored: dict[str, Any], message: str
) -> None:
    error = error_of(model_of(nodes, shape, stored))
    assert message in str(error)
    assert error.refusals


def test_custom_operator_and_branch_that_depends_on_the_image() -> None:
    custom = helper.make_node("Fancy", ["x"], ["y"], name="fancy", domain="com.example")
    assert "fancy (com.example.Fancy): the operator is not supported" in str(
        error_of(model_of([custom], [1, 4, 6, 6], {}))
    )
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["b"])], "branch", [], [helper.make_empty_tensor_value_info("b")]
    )
    choice = helper.make_node("If", ["x"], ["y"], name="choice", then_branch=branch, else_branch=branch)
    assert "its condition depends on the image" in str(error_of(model_of([choice], [1], {})))


def test_nothing_to_compute() -> None:
    assert "nothing in it is left to compute" in str(
        error_of(model_of([node("Identity", ["x"], "y")], [1, 4, 6, 6], {}))
    )
    assert "does not depend on the input" in str(
        error_of(model_of([node("Relu", ["w"], "y")], [1, 4, 6, 6], {"w": WEIGHT}))
    )


def test_input_that_nothing_computes() -> None:
    assert "nothing computes its input ghost" in str(
        error_of(model_of([node("Add", ["x", "ghost"], "y")], [1, 4, 6, 6], {}))
    )


def test_fixed_point_model_is_not_a_float_model() -> None:
    model = model_of(
        [
            helper.make_node("QuantizeLinear", ["x", "s"], ["q"], name="quantize"),
            helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
        ],
        [1, 4, 6, 6],
        {"s": np.float32(0.5)},
    )
    assert "fixed-point model already (quantize is a QuantizeLinear)" in str(error_of(model))
