"""Automatic widths on a network whose layers matter differently, and on the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from quant.__main__ import main
from quant.answers import changed_answers, expected_loss, softmax_divergence
from quant.budget import Budget, BudgetError
from quant.graph import Activation, Convolution, Graph
from quant.mixed_widths import find_widths, trade_off_table
from quant.qdq_import import read_fixed_model
from quant.search import Search

MODELS = Path(__file__).parents[2] / "models"
LENET = MODELS / "lenet5.onnx"
CALIBRATION = MODELS / "fashion_mnist_calibration.npz"


def network():
    """Two layers of equal size; the second one's result is multiplied by a tenth before it counts."""
    rng = np.random.default_rng(0)

    def layer(name, source, output, scale, **more):
        weight = rng.normal(size=(8, 8, 3, 3)).astype(np.float32) * np.float32(scale)
        return Convolution(
            name=name, inputs=(source,), output=output, weight=weight, bias=np.zeros(8, np.float32), **more
        )

    first = layer("first", "x", "a", 0.1, activation=Activation(0.0))
    second = layer("second", "a", "b", 0.1, activation=Activation(0.0))
    head = Convolution(
        name="head",
        inputs=("b",),
        output="y",
        weight=rng.normal(size=(10, 8, 4, 4)).astype(np.float32),
        bias=np.zeros(10, np.float32),
    )
    shapes = {"x": (8, 8, 8), "a": (8, 6, 6), "b": (8, 4, 4), "y": (10, 1, 1)}
    return Graph("net", [first, second, head], shapes, "x", "y", (10,))


def images(count=40):
    return np.random.default_rng(1).normal(size=(count, 8, 8, 8)).astype(np.float32)


def batches():
    data = images()
    return [data[:25], data[25:]]


@pytest.mark.parametrize("search", [Search(), Search.paper()])
def test_bits_budget(search):
    found = find_widths(network(), batches, Budget("bits", 5), search=search)
    assert found.bits_per_weight(found.chosen) <= 5
    size = found.chosen.weight_bytes
    assert found.chosen.cost <= min(point.cost for point in found.curve if point.weight_bytes <= size)
    for row in found.costs.values():
        assert row[8] < row[4] < row[2]
    assert "<- chosen" in trade_off_table(found)


def test_same_from_run_to_run():
    assert find_widths(network(), batches, Budget("bits", 4)) == find_widths(
        network(), batches, Budget("bits", 4)
    )


def test_points_budget_is_met_on_the_calibration_images():
    found = find_widths(network(), batches, Budget("points", 1.0))
    [chosen] = [entry for entry in found.measured if entry.point == found.chosen]
    assert chosen.lost <= 1.0
    smaller = [entry for entry in found.measured if entry.point.weight_bytes < found.chosen.weight_bytes]
    assert all(entry.lost > 1.0 for entry in smaller)
    assert len(found.measured) <= 2 + len(found.curve).bit_length()


def test_budgets_that_nothing_meets():
    with pytest.raises(BudgetError, match="do not fit 100 bytes: with 2 bits everywhere they take 608"):
        find_widths(network(), lambda: pytest.fail("before long work"), Budget("bytes", 100))
    with pytest.raises(BudgetError, match=r"nothing loses less than 0 points of accuracy: with 8 bits"):
        find_widths(network(), batches, Budget("points", 0.0), 2)
    graph = network()
    graph = Graph("net", graph.nodes[:2], {k: graph.shapes[k] for k in "xab"}, "x", "b", (8, 4, 4))
    with pytest.raises(BudgetError, match="net gives no scores of classes; give the budget in bytes or bits"):
        find_widths(graph, batches, Budget("points", 1.0))
    assert find_widths(graph, batches, Budget("bits", 4)).chosen.weight_bytes <= 576


def test_answers_without_labels():
    real = torch.tensor([[2.0, 1.0, 0.0], [0.0, 5.0, 5.0]]).reshape(2, 3, 1, 1)
    same, tie = real.clone(), torch.tensor([[1.0, 1.0, 3.0], [0.0, 5.0, 5.0]]).reshape(2, 3, 1, 1)
    assert [f(real, same) for f in (changed_answers, expected_loss, softmax_divergence)] == [0, 0, 0]
    assert changed_answers(real, tie) == 1
    first = torch.softmax(real[0].flatten(), 0)
    assert expected_loss(real, tie) == pytest.approx(float(first[0] - first[2]))
    assert softmax_divergence(real, tie) > 0


def test_command(tmp_path, capsys):
    output = tmp_path / "small.onnx"
    arguments = ["calibrate", str(LENET), "--data", str(CALIBRATION), "--images", "40", "--divide", "255"]
    arguments += ["-o", str(output), "--json", str(tmp_path / "r.json"), "--quiet"]
    assert main([*arguments, "--budget", "4.2bits"]) == 0
    printed = capsys.readouterr().out
    assert "trade-off of weight widths" in printed
    model = read_fixed_model(output)
    bits = sum(weights.values.size * weights.bits for weights in model.weights.values())
    assert bits <= 4.2 * sum(weights.values.size for weights in model.weights.values())
    assert len({weights.bits for weights in model.weights.values()}) > 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--budget", "five"], "'five' is no budget"),
        (["--budget", "1kB"], "do not fit 1000 bytes: with 2 bits everywhere they take 107625"),
        (["--budget", "5bits", "--weight-bits", "4"], "leave --weight-bits and --widths out"),
        (["--weight-bits", "8,head=4"], "head=4 fits no layer with weights; there are node_conv2d"),
        (["--activation-bits", "8,fc"], "'fc' is no width of feature maps"),
        (["--widths", "none.toml"], "none.toml: not a readable TOML file"),
    ],
)
def test_bad_input(tmp_path, capsys, more, message):
    output = tmp_path / "small.onnx"
    assert main(
        ["calibrate", str(LENET), "--data", str(CALIBRATION), "-o", str(output), "--quiet", *more]
    ) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not output.exists()
