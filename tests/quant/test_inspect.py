"""``python -m quant inspect``: places, totals, refusals, exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from quant.__main__ import main

SHARED = Path(os.environ.get("POINTSHIFT_SHARED", Path(__file__).parents[2].parent / "shared")) / "models"


def write(
    path: Path,
    nodes: list[NodeProto],
    stored: dict[str, np.ndarray],
    shape: tuple[int | None, ...] = (1, 3, 8, 8),
) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


STORED = {
    "w": np.ones((4, 3, 3, 3), np.float32),
    "k": np.ones(4, np.float32),
    "m": np.ones((144, 5), np.float32),
    "one": np.ones(4, np.float32),
}


def nodes(activation: str = "Relu") -> list[NodeProto]:
    return [
        helper.make_node("Conv", ["x", "w", "k"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "one", "one", "one", "one"], ["b"], name="norm"),
        helper.make_node(activation, ["b"], ["r"], name="activation"),
        helper.make_node("Add", ["r", "r"], ["a"], name="sum"),
        helper.make_node("Flatten", ["a"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "m"], ["d"], name="dense"),
        helper.make_node("Softmax", ["d"], ["y"], name="softmax", axis=1),
    ]


def test_places_parameters_and_macs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, report = write(tmp_path / "net.onnx", nodes(), STORED), tmp_path / "report.json"
    assert main(["inspect", str(path), "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    assert {node["name"]: node["place"] for node in content["nodes"]} == {
        "conv": "array",
        "norm": "folded",
        "activation": "post-processing",
        "sum": "post-processing",
        "flatten": "folded",
        "dense": "FC engine",
        "softmax": "host",
    }
    numbers = {node["name"]: (node["parameters"], node["macs"]) for node in content["nodes"] if node["macs"]}
    assert numbers == {"conv": (4 * 27 + 4, 36 * 4 * 27), "dense": (144 * 5 + 5, 144 * 5)}
    assert content["totals"] == {
        "nodes": 7,
        "layers": 3,
        "parameters": 112 + 725,
        "macs": 3888 + 720,
        "refused": 0,
        "places": {"array": 1, "folded": 2, "post-processing": 2, "FC engine": 1, "host": 1},
    }
    assert content["nodes"][0]["shape"] == [1, 4, 6, 6]
    assert content["host_operations"] == ["Softmax"]
    text = capsys.readouterr().out
    assert "837 parameters, 4,608 MACs" in text
    assert not list(tmp_path.glob("*.part"))


def test_all_refusals_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = nodes("Erf")
    broken.insert(3, helper.make_node("Mul", ["r", "b"], ["r2"], name="gate"))
    broken[4].input[0] = "r2"
    path, report = write(tmp_path / "net.onnx", broken, STORED), tmp_path / "report.json"
    assert main(["inspect", str(path), "--json", str(report)]) == 1
    captured = capsys.readouterr()
    assert "activation (Erf): the operator is not supported; " in captured.out
    assert "gate (Mul): it multiplies two feature maps; " in captured.out
    assert captured.err == f"error: {path}: 2 of 8 nodes are refused\n"
    content = json.loads(report.read_text())
    assert content["totals"]["refused"] == 2
    assert [node["name"] for node in content["nodes"] if node["reason"]] == ["activation", "gate"]
    assert next(node for node in content["nodes"] if node["name"] == "dense")["place"] == "FC engine"


def test_input_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "net.onnx",
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        {"w": STORED["w"]},
        (None, 3, None, None),
    )
    assert main(["inspect", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: net: its input x has the unknown shape [?, 3, ?, ?]; give it with")
    assert captured.out == ""
    assert main(["inspect", str(path), "--input-shape", "3,5,5"]) == 0
    assert "1x4x3x3" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["3,5", "3,5,0", "a,b,c", "3x5x5"])
def test_bad_input_shape_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["inspect", "model.onnx", "--input-shape", text])
    assert caught.value.code == 2
    assert "must be C,H,W" in capsys.readouterr().err


def test_fixed_point_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def pair(source: str, result: str) -> list[NodeProto]:
        return [
            helper.make_node("QuantizeLinear", [source, "s", "z"], [f"{source}_q"], name=f"q_{source}"),
            helper.make_node("DequantizeLinear", [f"{source}_q", "s", "z"], [result], name=f"d_{source}"),
        ]

    path = write(
        tmp_path / "net.onnx",
        [
            *pair("x", "x2"),
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["w2"], name="d_w"),
            helper.make_node("Conv", ["x2", "w2"], ["c"], name="conv"),
            *pair("c", "c2"),
            helper.make_node("Relu", ["c2"], ["r"], name="relu"),
            *pair("r", "y"),
        ],
        {"w": np.ones((4, 3, 3, 3), np.int8), "s": np.float32(0.25), "z": np.int8(0)},
    )
    assert main(["inspect", str(path), "--json", str(tmp_path / "r.json")]) == 0
    places = {node["name"]: node["place"] for node in json.loads((tmp_path / "r.json").read_text())["nodes"]}
    assert places == {
        "q_x": "format",
        "d_x": "format",
        "d_w": "format",
        "conv": "array",
        "q_c": "format",
        "d_c": "format",
        "relu": "array",
        "q_r": "format",
        "d_r": "format",
    }
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ["cifar10_resnet20", "mlperf_resnet8", "mlperf_vww", "squeezenet_v1_0_imagenet"]
)
def test_shared_models(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = SHARED / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    assert main(["inspect", str(path)]) == 0
    macs = {
        "cifar10_resnet20": "40,551,040",
        "mlperf_resnet8": "12,501,632",
        "mlperf_vww": "7,489,664",
        "squeezenet_v1_0_imagenet": "",
    }[name]
    assert f"{macs} MACs" in capsys.readouterr().out
