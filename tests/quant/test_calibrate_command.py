"""The command line: calibrate a small network, evaluate it, and be told what is wrong."""

import json
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quant.__main__ import main
from quant.fixed_model import Preparation
from quant.qdq_import import read_fixed_model


def save_float_model(path, seed=0, outputs=7):
    """Conv, Relu, GlobalAveragePool, Flatten, Gemm, Softmax on 2-channel images of 6x5."""
    rng = np.random.default_rng(seed)
    arrays = {
        "w1": rng.normal(size=(8, 2, 3, 3)),
        "b1": rng.normal(size=8),
        "w2": rng.normal(size=(outputs, 8)),
        "b2": rng.normal(size=outputs),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["g"], "fc", transB=1),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def files(tmp_path):
    save_float_model(tmp_path / "net.onnx")
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (40, 6, 5, 2)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=rng.integers(0, 7, 40))
    return tmp_path


PREPARATION = ["--divide", "255", "--mean", "0.5,0.25", "--std", "0.2"]


def calibrated(files, *more):
    return main(
        [
            "calibrate",
            str(files / "net.onnx"),
            "--data",
            str(files / "data.npz"),
            "-o",
            str(files / "fixed.onnx"),
            "--quiet",
            *PREPARATION,
            *more,
        ]
    )


def test_calibrate_and_evaluate(files, capsys):
    assert calibrated(files, "--json", str(files / "report.json"), "--images", "20") == 0
    printed = capsys.readouterr().out
    for word in ("conv", "fc", "signal/noise", "s8.", "u8.", "20 calibration images"):
        assert word in printed
    report = json.loads((files / "report.json").read_text())
    assert [layer["name"] for layer in report["layers"]][:2] == ["input", "conv"]
    assert report["layers"][0]["weight_fl"] is None
    preparation = read_fixed_model(files / "fixed.onnx").preparation
    assert preparation.of_float() == Preparation(255.0, (0.5, 0.25), (0.2,))
    assert (
        main(
            [
                "evaluate",
                str(files / "fixed.onnx"),
                "--float",
                str(files / "net.onnx"),
                "--quiet",
                "--data",
                str(files / "data.npz"),
                "--json",
                str(files / "evaluation.json"),
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "outputs equal to onnxruntime's: 100.00 %" in printed
    found = json.loads((files / "evaluation.json").read_text())
    assert found["images"] == 40
    assert found["onnxruntime_equal"] == 1.0
    assert found["fixed_top1"] == found["onnxruntime_top1"]
    assert found["agreement"] > 0.85
    assert float_top(files, 1) == found["float_top1"]
    assert float_top(files, 5) == found["float_top5"]
    assert not list(files.glob("*.part"))


def float_top(files, count):
    """The float model's accuracy by onnxruntime."""
    import onnxruntime

    with np.load(files / "data.npz") as data:
        images = ((data["images"] / 255 - [0.5, 0.25]) / 0.2).transpose(0, 3, 1, 2).astype(np.float32)
        labels = data["labels"]
    [outputs] = onnxruntime.InferenceSession(str(files / "net.onnx")).run(None, {"x": images})
    return float(np.mean([label in np.argsort(-row)[:count] for label, row in zip(labels, outputs)]))


def test_widths_methods_and_unlabelled_data(files, capsys):
    np.save(files / "plain.npy", np.load(files / "data.npz")["images"])
    for more in (
        ["--weight-bits", "4", "--activation-bits", "6"],
        ["--formats", "max"],
        ["--formats", "absolute"],
        ["--without", "channels,biases"],
        ["--without", "all"],
    ):
        assert calibrated(files, *more) == 0
        assert (
            main(
                [
                    "evaluate",
                    str(files / "fixed.onnx"),
                    "--data",
                    str(files / "plain.npy"),
                    "--images",
                    "5",
                    "--quiet",
                    "--json",
                    str(files / "e.json"),
                ]
            )
            == 0
        )
        found = json.loads((files / "e.json").read_text())
        assert found["onnxruntime_equal"] == 1.0
        assert found["fixed_top1"] is found["agreement"] is None
    capsys.readouterr()


def test_labels_of_another_network_are_not_used(files, capsys):
    assert calibrated(files) == 0
    with np.load(files / "data.npz") as data:
        np.savez(files / "other.npz", images=data["images"], labels=data["labels"] + 100)
    assert (
        main(
            [
                "evaluate",
                str(files / "fixed.onnx"),
                "--float",
                str(files / "net.onnx"),
                "--quiet",
                "--data",
                str(files / "other.npz"),
                "--json",
                str(files / "e.json"),
            ]
        )
        == 0
    )
    assert "labels are not used" in capsys.readouterr().err
    found = json.loads((files / "e.json").read_text())
    assert found["float_top1"] is None
    assert found["agreement"] is not None


def refused(capsys, arguments, *words):
    """Exit code 1 and one line that starts with error and holds the words."""
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


def test_what_cannot_be_calibrated(files, capsys):
    out = files / "out.onnx"
    (files / "half.onnx").write_bytes((files / "net.onnx").read_bytes()[:100])
    np.savez(files / "wrong.npz", images=np.zeros((3, 9, 9, 3), np.uint8))
    np.savez(files / "nan.npz", images=np.full((3, 2, 6, 5), np.nan, np.float32))
    model, data = files / "net.onnx", files / "data.npz"
    for arguments, words in (
        (["calibrate", files / "no.onnx", "--data", data, "-o", out], ["no.onnx"]),
        (
            ["calibrate", files / "half.onnx", "--data", data, "-o", out],
            ["half.onnx", "not a whole ONNX file"],
        ),
        (["calibrate", model, "--data", files / "no.npz", "-o", out], ["no.npz", "no such file"]),
        (["calibrate", model, "--data", files / "wrong.npz", "-o", out], ["wrong.npz", "2 channels"]),
        (["calibrate", model, "--data", files / "nan.npz", "-o", out], ["image 0", "NaN"]),
        (
            ["calibrate", model, "--data", data, "-o", out, "--weight-bits", "17"],
            ["weights must be 2 to 16 bits"],
        ),
        (["calibrate", model, "--data", data, "-o", out, "--mean", "1,2,3"], ["mean has 3 values"]),
        (["calibrate", model, "--data", data, "-o", files / "no" / "out.onnx"], ["no"]),
    ):
        refused(capsys, [*arguments, "--quiet"], *words)
    assert not out.exists()
    assert not list(files.glob("*.part"))


def test_what_cannot_be_evaluated(files, capsys):
    assert calibrated(files) == 0
    capsys.readouterr()
    save_float_model(files / "other.onnx", outputs=9)
    fixed, data = files / "fixed.onnx", files / "data.npz"
    refused(
        capsys,
        ["evaluate", fixed, "--float", files / "other.onnx", "--data", data, "--quiet"],
        "output",
        "give the model that it was calibrated from",
    )
    refused(capsys, ["evaluate", files / "net.onnx", "--data", data], "it is not a fixed-point model")
    refused(capsys, ["evaluate", fixed, "--data", data, "--divide", "255"], "leave those options out")


@pytest.mark.parametrize(
    "arguments", [
        ["--images", "0"],
        ["--mean", "a,b"],
        ["--formats", "best"],
        ["--resize", "-1"],
        ["--without", "bias"],
    ],
)
def test_wrong_usage(files, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        calibrated(files, *arguments)
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_report_page(files, capsys):
    """One page that opens offline; it shows the network that was calibrated, with its input's factor."""
    page = files / "page.html"
    assert calibrated(files, "--report", str(page), "--weight-bits", "4") == 0
    assert f"wrote {page}" in capsys.readouterr().out
    text = page.read_text()
    assert "times the float network" in text
    assert "greedy + input + channels + rounding + biases + scores" in text
    assert "<svg" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    again = files / "again.html"
    assert calibrated(files, "--report", str(again), "--weight-bits", "4") == 0
    time = re.compile(r"[0-9.]+ times the float network")
    assert time.sub("", text) == time.sub("", again.read_text())


def test_report_that_cannot_be_written_is_refused_first(files, capsys):
    refused(
        capsys,
        ["calibrate", files / "net.onnx", "--data", files / "data.npz", "-o", files / "new.onnx", "--report",
         files / "none" / "page.html"],
        "page.html: cannot be written",
    )
    assert not (files / "new.onnx").exists()
