"""``python -m quant sweep``: the paper's experiment, and the numbers beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quant.__main__ import main
from quant.calibrate import calibrate
from quant.data import ImageSet, load_images, prepare
from quant.fixed_model import Preparation, inexact_in_float32
from quant.fixed_output import ExactOutput
from quant.graph import Graph
from quant.number_format import FormatError
from quant.onnx_import import import_model
from quant.search import Search
from quant.static_precision import find_static_precision, sample_float
from quant.sweep import (
    PAPER_SETTINGS,
    Setting,
    SettingError,
    Sweep,
    default_settings,
    parse_settings,
    sweep,
    top_share,
)
from quant.sweep_command import conclusion, images_of, table
from quant.traffic import model_bytes, moved_bytes
from quant.widths import WidthError
from sim.reference import prepare_input, run

MODELS = Path(__file__).parents[2] / "models"
LENET = MODELS / "lenet5.onnx"
CALIBRATION = MODELS / "fashion_mnist_calibration.npz"
TEST = MODELS / "fashion_mnist_test.npz"


@pytest.fixture(scope="module")
def lenet() -> Graph:
    return import_model(LENET)


@pytest.fixture(scope="module")
def lenet_sweep(lenet: Graph) -> Sweep:
    return sweep(
        lenet,
        load_images(CALIBRATION).spread(60),
        load_images(TEST).first(400),
        parse_settings("8/8,4/4"),
        Preparation(255.0),
    )


def tiny() -> onnx.ModelProto:
    """x (3, 6, 6) → conv 4 3x3 → (4, 4, 4), added to itself → pool → fc 5."""
    random = np.random.default_rng(2)
    tensors = {
        "w": random.normal(size=(4, 3, 3, 3)),
        "b": random.normal(size=4),
        "v": random.normal(size=(4, 5)),
        "c": random.normal(size=5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["t"], name="conv"),
        helper.make_node("Relu", ["t"], ["r"], name="relu"),
        helper.make_node("Add", ["r", "r"], ["s"], name="add"),
        helper.make_node("GlobalAveragePool", ["s"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "v", "c"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the tiny network and 12 images."""
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny(), "tiny.onnx")
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3)).astype(np.uint8)
    np.savez("data.npz", images=images, labels=np.arange(12) % 5)
    np.savez("test.npz", images=images[::-1])
    np.savez("small.npz", images=images[:, :5])
    return tmp_path


# sizes


@pytest.mark.parametrize(
    ("setting", "model", "moved"),
    [
        # weights 108 + 20, biases 4 (4 + 5) = 36 bytes; maps: input 108, conv 64, sum 64, pool 4, output 5.
        # Written once each: 245 words.  Read: input 108, conv twice 128, sum 64, pool 4: 304.
        ("8/8", 128 + 36, 128 + 36 + 245 + 304),
        ("16/8", 128 + 36, 128 + 36 + 2 * (245 + 304)),
        ("4/4", 54 + 10 + 36, 100 + 245 + 304),
        # 108 weights of 3 bits: 40.5 bytes, 20 of 5: 12.5; the input has words of two bytes
        ("9:*=8:input=9/3:fc=5", 41 + 13 + 36, 90 + 245 + 304 + 2 * 108),
    ],
)
def test_bytes_are_those_counted_by_hand(files: Path, setting: str, model: int, moved: int) -> None:
    graph = import_model(Path("tiny.onnx"))
    parsed = Setting.parse(setting)
    weights, maps = parsed.weights.weights_of(graph), parsed.maps.maps_of(graph)
    assert model_bytes(graph, weights) == model
    assert moved_bytes(graph, weights, maps) == moved


def test_float_takes_four_bytes(files: Path) -> None:
    graph = import_model(Path("tiny.onnx"))
    images = load_images("data.npz")
    found = sweep(graph, images, images, [], apart=False).rows[0]
    assert (found.model_bytes, found.moved_bytes) == (4 * 128 + 36, 4 * (128 + 245 + 304) + 36)
    assert found.agreement == 1.0
    assert found.top1 is not None


# settings


def test_settings_are_read_and_written() -> None:
    text = "16/16,8/8:fc=4,8:input=12:?Add*=6/4:conv=8:fc=2"
    assert ",".join(str(setting) for setting in parse_settings(text)) == text
    assert parse_settings("8/8, 8/8 ,8/8") == parse_settings("8/8")
    assert ",".join(map(str, parse_settings(PAPER_SETTINGS))) == PAPER_SETTINGS


@pytest.mark.parametrize("text", ["8", "8/8/8", "/8", "8/", "", "8/8,", "8/8 4/4/"])
def test_what_is_no_setting(text: str) -> None:
    with pytest.raises(SettingError, match=r"is no setting; write .* 8/8"):
        parse_settings(text)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("17/8", FormatError, "feature maps must be 2 to 16 bits wide, not 17"),
        ("8/1", FormatError, "weights must be 2 to 16 bits wide, not 1"),
        ("8/8:fc=0", FormatError, "weights of fc must be 2 to 16"),
        ("a/8", WidthError, "'a' is no width of feature maps"),
        ("8/8:fc", WidthError, "'fc' is no width of weights"),
    ],
)
def test_widths_that_do_not_exist(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_settings(text)


def test_default_settings_fit_a_network_without_fully_connected_layers(lenet: Graph) -> None:
    assert ",".join(map(str, default_settings(lenet))) == PAPER_SETTINGS
    convolutional = Graph("none", [], {"x": (1, 1, 1)}, "x", "x", (1,))
    assert "fc" not in ",".join(map(str, default_settings(convolutional)))


# accuracy


def test_dynamic_precision_agrees_at_least_as_often_as_static(lenet_sweep: Sweep) -> None:
    for setting in ("8/8", "4/4"):
        static, dynamic = (lenet_sweep.row(setting, scheme) for scheme in ("static", "dynamic"))
        assert dynamic.agreement >= static.agreement
        assert (dynamic.model_bytes, dynamic.moved_bytes) == (static.model_bytes, static.moved_bytes)
    assert lenet_sweep.row("8/8", "dynamic").agreement > 0.98


def test_static_rows_have_one_step(lenet_sweep: Sweep) -> None:
    for row in lenet_sweep.rows[1:]:
        assert row.map_fl is not None
        assert row.weight_fl is not None
        one = row.map_fl[0] == row.map_fl[1] and row.weight_fl[0] == row.weight_fl[1]
        assert one == (row.scheme == "static")


@pytest.mark.parametrize("setting", ["8/8", "4/4", "8/8:fc=4", "16/8"])
@pytest.mark.parametrize("scheme", ["static", "paper"])
def test_fast_output_is_the_references(lenet: Graph, setting: str, scheme: str) -> None:
    """Every output of torch is that of `sim.reference`; where sums can get too large, the reference runs."""
    preparation = Preparation(255.0)
    shape = lenet.shapes[lenet.input]
    data = next(prepare(load_images(CALIBRATION), preparation, shape, batch_size=40))
    parsed = Setting.parse(setting)
    widths = parsed.weights.weights_of(lenet), parsed.maps.maps_of(lenet)
    if scheme == "static":
        model = find_static_precision(lenet, sample_float(lenet, [data], len(data)), *widths).model
    else:
        model, _ = calibrate(lenet, [data], *widths, search=Search.paper())
    images = next(prepare(load_images(TEST), preparation, shape, batch_size=100))
    output = ExactOutput(model)
    integers = run(model, prepare_input(model, images), {lenet.output})[lenet.output].reshape(100, -1)
    expected = model.formats[lenet.output].dequantize(integers)
    np.testing.assert_array_equal(output(images), expected)
    np.testing.assert_array_equal(output(images).argmax(1), integers.argmax(1))
    assert output.in_float32 == (not inexact_in_float32(model)) == (setting != "16/8")


def test_top_share_counts_the_first_of_equal_outputs_as_larger() -> None:
    outputs = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    assert top_share(outputs, np.array([1, 0]), 1) == 1.0
    assert top_share(outputs, np.array([2, 1]), 1) == 0.0
    assert top_share(outputs, np.array([2, 2]), 2) == 0.5
    assert top_share(outputs, None, 1) is None


# images


def test_images_that_were_not_calibrated_on(files: Path) -> None:
    calibration, evaluation, apart = images_of("data.npz", 3, None, None)
    whole = load_images("data.npz")
    assert isinstance(whole.images, np.ndarray)
    np.testing.assert_array_equal(calibration.images, whole.images[[0, 4, 8]])
    np.testing.assert_array_equal(evaluation.images, whole.images[[1, 2, 3, 5, 6, 7, 9, 10, 11]])
    assert apart
    assert [len(part) for part in images_of("data.npz", 3, None, 4)[:2]] == [3, 4]
    assert [len(part) for part in images_of("data.npz", 3, "test.npz", 5)[:2]] == [3, 5]


@pytest.mark.parametrize(("count", "test"), [(12, None), (200, None), (3, "data.npz")])
def test_images_of_both_kinds_are_said_to_be(files: Path, count: int, test: str | None) -> None:
    calibration, evaluation, apart = images_of("data.npz", count, test, None)
    assert not apart
    assert len(evaluation) == 12
    found = sweep(import_model(Path("tiny.onnx")), calibration, evaluation, [], apart=apart)
    assert "that calibration may have seen" in table(found)


# the command

TINY = ["sweep", "tiny.onnx", "--data", "data.npz", "--images", "4", "--divide", "255", "--quiet"]


def test_files_are_the_same_from_run_to_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("result.json", "plot.svg", "plot.png")
    contents = []
    for _ in range(2):
        for plot in names[1:]:
            wanted = [*TINY, "--settings", "8/8,4/3:fc=5", "--json", names[0], "--plot", plot]
            assert main(wanted) == 0
        contents.append([Path(name).read_bytes() for name in names])
    assert contents[0] == contents[1]
    content = json.loads(contents[0][0])
    assert content["evaluation_images"] == 8
    assert [row["scheme"] for row in content["rows"]] == ["float", *["static", "paper", "dynamic"] * 2]
    assert b"dc:date" not in contents[0][1]
    assert contents[0][2].startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "4/3:fc=5" in printed
    assert "wrote plot.svg" in printed
    assert not list(files.glob("*.part"))


def test_labels_that_are_no_classes(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = load_images("data.npz")
    np.savez("other.npz", images=images.images, labels=np.arange(12))
    wanted = [*TINY, "--test", "other.npz", "--settings", "4/4", "--plot", "plot.svg"]
    assert main(wanted) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("note: labels of other.npz go from 0 to 11")
    assert "agreement with float" in printed.out.splitlines()[-2]
    assert "agreement with float" in Path("plot.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sweep none.onnx --data data.npz", "none.onnx: no such file"),
        ("sweep tiny.onnx --data none.npz", "none.npz: no such file"),
        ("sweep tiny.onnx --data data.npz --test none.npz", "none.npz: no such file"),
        ("sweep tiny.onnx --data data.npz --test small.npz", "use --crop"),
        ("sweep tiny.onnx --data small.npz --test data.npz", "use --crop"),
        ("sweep tiny.onnx --data data.npz --settings eight", "'eight' is no setting"),
        ("sweep tiny.onnx --data data.npz --settings 8/8,40/4", "feature maps must be 2 to 16 bits wide"),
        ("sweep tiny.onnx --data data.npz --settings 8/8:nothing=4", "nothing=4 fits no layer with weights"),
        ("sweep tiny.onnx --data data.npz --plot no/x.svg", "the folder no does not exist"),
        ("sweep tiny.onnx --data data.npz --plot plot.pdf", "a plot is written as .svg or .png"),
        ("sweep tiny.onnx --data data.npz --json .", "it is a folder"),
    ],
)
def test_one_line_before_long_work(
    arguments: str,
    words: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("long work has begun")

    monkeypatch.setattr("quant.sweep.calibrate", never)
    monkeypatch.setattr("quant.sweep.find_static_precision", never)
    before = sorted(files.iterdir())
    assert main([*arguments.split(), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    assert words in error
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize("arguments", ["", "tiny.onnx", "tiny.onnx --data data.npz --test-images 0"])
def test_wrong_usage(arguments: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["sweep", *arguments.split()])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ")


def test_interrupted(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quant.sweep.calibrate", interrupt)
    before = sorted(files.iterdir())
    assert main([*TINY, "--json", "result.json", "--plot", "plot.svg"]) == 130
    assert sorted(files.iterdir()) == before


def test_no_images(lenet: Graph) -> None:
    none = ImageSet("none", np.zeros((0, 28, 28), np.uint8), None)
    with pytest.raises(SettingError, match="there are no images"):
        sweep(lenet, none, load_images(TEST), parse_settings("8/8"))


def test_conclusion_names_the_largest_difference(lenet_sweep: Sweep) -> None:
    assert conclusion(lenet_sweep).startswith("dynamic precision is furthest ahead at ")
