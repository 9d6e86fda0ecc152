"""``python -m quant compare``: names the layer that is wrong, and says in one line what it cannot do."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quant.__main__ import main
from quant.compare import conclusion, steepest_fall, table
from quant.data import load_images, prepare
from quant.diagnosis import diagnose
from quant.onnx_import import import_model
from quant.qdq import write_fixed_model
from quant.qdq_import import read_fixed_model


def save_float_model(path, outputs=7, rows=6, relu="r"):
    """Conv, Relu, MaxPool, Conv, Relu, GlobalAveragePool, Flatten, Gemm, Softmax."""
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.normal(size=(8, 2, 3, 3)),
        "b1": rng.normal(size=8),
        "w2": rng.normal(size=(6, 8, 3, 3)),
        "w3": rng.normal(size=(outputs, 6)),
        "b3": rng.normal(size=outputs),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], [relu]),
        helper.make_node("MaxPool", [relu], ["m"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["m", "w2"], ["d"], "middle", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["d"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["p"], "average"),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["g"], "fc", transB=1),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, rows, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    images = np.random.default_rng(1).integers(0, 256, (40, 6, 6, 2)).astype(np.uint8)
    np.savez(folder / "data.npz", images=images)
    np.savez(folder / "none.npz", images=images[:0])
    np.savez(folder / "grey.npz", images=images[..., :1])
    save_float_model(folder / "net.onnx")
    save_float_model(folder / "outputs.onnx", outputs=8)
    save_float_model(folder / "rows.onnx", rows=8)
    save_float_model(folder / "names.onnx", relu="other\nname")
    command = ["calibrate", str(folder / "net.onnx"), "--data", str(folder / "data.npz"), "--quiet"]
    assert main([*command, "-o", str(folder / "fixed.onnx"), "--divide", "255", "--mean", "0.5,0.25"]) == 0
    whole = (folder / "fixed.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def files(prepared, tmp_path, monkeypatch):
    for path in prepared.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMPARE = ["compare", "net.onnx", "fixed.onnx", "--data", "data.npz", "--quiet"]


def test_table_files_and_conclusion(files, capsys):
    assert main([*COMPARE, "--images", "30", "--json", "out.json", "--report", "out.html"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    result = json.loads((files / "out.json").read_text())
    assert lines[0].startswith("net: 30 images")
    names = [line.split()[0] for line in lines[6:12]]
    assert names == ["input", "conv", "pool", "middle", "average", "fc"]
    assert [layer["name"] for layer in result["layers"]] == names
    assert lines[-3] == "wrote out.html"
    # the figures of the conclusion, from the JSON
    layers = {layer["name"]: layer for layer in result["layers"]}
    worst = max(layers.values(), key=lambda layer: layer["output"]["divergence"])
    assert result["worst"] == worst["name"]
    assert lines[-1] == (
        f"most is lost in {worst['name']}: alone in fixed point, it leaves "
        f"{worst['output']['noise']['db']:.1f} dB at the output, moves the softmax by "
        f"{worst['output']['divergence']:.2g} nats and changes {100 * worst['output']['changed']:.1f} % of "
        f"the top-1 answers; all layers together: {layers['fc']['whole']['db']:.1f} dB, "
        f"{result['divergence']:.2g} nats, {100 * result['changed']:.1f} %"
    )
    assert f"falls most at {result['steepest']}: by {layers[result['steepest']]['fall']:.1f} dB" in lines[-2]
    assert layers["pool"]["injected"] == {"db": None, "relative": 0.0}
    assert layers["conv"]["weights"]["bits"] == 8
    page = (files / "out.html").read_text()
    assert "30 of data.npz" in page
    assert "divide 255.0; mean 0.5, 0.25" in page


def test_images_are_prepared_as_the_file_records(files):
    assert main([*COMPARE, "--json", "out.json", "--images", "30"]) == 0
    result = json.loads((files / "out.json").read_text())
    model = read_fixed_model("fixed.onnx")
    images = load_images("data.npz").spread(30)
    batch = np.concatenate(list(prepare(images, model.preparation, (2, 6, 6))))
    form = model.formats[model.graph.input]
    noise = ((batch.astype(np.float64) - form.dequantize(form.quantize(batch))) ** 2).sum()
    assert result["images"] == 30
    assert result["layers"][0]["low"] == batch.min()
    relative = np.sqrt(noise / (batch.astype(np.float64) ** 2).sum())
    assert result["layers"][0]["whole"]["relative"] == pytest.approx(relative, rel=1e-4)
    again = ["--divide", "255", "--mean", "0.5,0.25", "--images", "30"]
    assert main([*COMPARE, *again, "--json", "same.json"]) == 0
    assert json.loads((files / "same.json").read_text()) == result


@pytest.mark.parametrize("name", ["conv", "middle", "fc"])
def test_a_layer_with_wrecked_weights_is_named(name, files, capsys):
    model = read_fixed_model("fixed.onnx")
    weights = model.weights[name]
    shuffled = np.random.default_rng(3).permuted(weights.values, axis=None)
    model.weights[name] = dataclasses.replace(weights, values=shuffled)
    write_fixed_model(model, files / "wrecked.onnx")
    assert main(["compare", "net.onnx", "wrecked.onnx", "--data", "data.npz", "--quiet"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"most is lost in {name}: ")


def test_exact_networks_lose_nothing(files, capsys):
    """Weights that are whole powers of two, and images that the input's format holds."""
    proto = onnx.load("net.onnx")
    for tensor in proto.graph.initializer:
        values = np.zeros(tensor.dims, np.float32)
        values.reshape(len(values), -1)[:, 0] = 0.5
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in proto.graph.node:
        if node.name == "average":
            node.op_type = "GlobalMaxPool"
    onnx.save(proto, "exact.onnx")
    np.savez("black.npz", images=np.full((3, 6, 6, 2), 64, np.uint8))
    data = ["--data", "black.npz", "--quiet"]
    assert main(["calibrate", "exact.onnx", *data, "-o", "exact.fixed.onnx"]) == 0
    assert main(["compare", "exact.onnx", "exact.fixed.onnx", *data, "--report", "exact.html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "no layer adds an error: on these images, fixed point computes what float computes"
    assert lines[-2] == "signal/noise falls at no layer that has an error at its input"
    assert "It is exact." in (files / "exact.html").read_text()


def test_names_of_any_kind_are_printed_on_one_line(files):
    model = read_fixed_model("fixed.onnx")
    images = load_images("data.npz").first(4)
    diagnosis = diagnose(
        import_model("net.onnx"), model, lambda: prepare(images, model.preparation, (2, 6, 6))
    )
    renamed = tuple(dataclasses.replace(layer, name="a\n\x1b[31m" + 50 * "b") for layer in diagnosis.layers)
    wicked = dataclasses.replace(diagnosis, layers=renamed)
    assert len(table(wicked).splitlines()) == len(table(diagnosis).splitlines()) == 6 + 6
    for text in (table(wicked), conclusion(wicked), steepest_fall(wicked)):
        assert "\x1b" not in text
    assert "\n" not in conclusion(wicked) + steepest_fall(wicked)
    assert conclusion(wicked).startswith("the largest error is injected by a??[31mbbb")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("none.onnx fixed.onnx --data data.npz", "none.onnx: no such file"),
        ("net.onnx none.onnx --data data.npz", "none.onnx: no such file"),
        ("net.onnx cut.onnx --data data.npz", "not a whole ONNX file"),
        ("cut.onnx fixed.onnx --data data.npz", "not a whole ONNX file"),
        ("net.onnx net.onnx --data data.npz", "calibrate"),
        ("fixed.onnx fixed.onnx --data data.npz", "it is a fixed-point model already"),
        ("fixed.onnx net.onnx --data data.npz", "calibrate"),
        ("outputs.onnx fixed.onnx --data data.npz", "the tensor g has the shape (C, H, W) = (7, 1, 1)"),
        ("rows.onnx fixed.onnx --data data.npz", "the tensor x has the shape (C, H, W) = (2, 6, 6)"),
        ("names.onnx fixed.onnx --data data.npz", "the float model has no tensor r"),
        ("net.onnx fixed.onnx --data none.npz", "it holds no images"),
        ("net.onnx fixed.onnx --data grey.npz", "do not have the network's 2 channels"),
        ("net.onnx fixed.onnx --data data.npz --divide 2", "it records how images are prepared"),
        ("net.onnx fixed.onnx --data data.npz --report no/x.html", "the folder no does not exist"),
        ("net.onnx fixed.onnx --data data.npz --json no/x.json", "the folder no does not exist"),
        ("net.onnx fixed.onnx --data data.npz --report .", "it is a folder"),
    ],
)
def test_one_line_and_nothing_written(line, words, files, capsys):
    before = sorted(path.name for path in files.iterdir())
    extra = [] if "--json" in line else ["--json", "out.json"]
    assert main(["compare", *line.split(), "--quiet", *extra]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error
    assert sorted(path.name for path in files.iterdir()) == before
