"""Trained ternary quantization on small networks that are trained in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from quant.calibrate import calibrate
from quant.compression.checkpoint import Checkpoint
from quant.compression.error import CompressionError
from quant.compression.labelled_data import LabelledData
from quant.compression.ternary import (
    TernaryPlan,
    TernaryWeights,
    spread_ternary,
    ternary_gradients,
    ternary_signs,
)
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import TrainingSettings, train_masked
from quant.float_onnx import graph_to_onnx
from quant.graph import Convolution, Graph
from quant.onnx_import import import_model
from quant.weight_choice import is_ternary

FAST = TrainingSettings(epochs=4, batch=32, learning_rate=5e-3, seed=1)


class Residual(nn.Module):
    """(1, 8, 8) → conv 8 → two 3x3 convs with a shortcut → 1x1 conv → fc 3."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.wide = nn.Conv2d(8, 16, 1, stride=2)
        self.last = nn.Linear(16, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        values = torch.relu(self.first(image))
        values = torch.relu(values + self.right(torch.relu(self.left(values))))
        values = torch.relu(self.wide(values))
        return self.last(torch.flatten(nn.functional.avg_pool2d(values, 4), 1))


def stripes(count: int, seed: int) -> LabelledData:
    """Horizontal, vertical and diagonal stripes in noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    rows, columns = np.mgrid[:8, :8]
    phase = random.integers(0, 4, count)[:, None, None]
    along = np.stack([rows, columns, rows + columns])[labels]
    images = np.sin((along + phase) * np.pi / 2)[:, None] + random.normal(0, 0.5, (count, 1, 8, 8))
    return LabelledData(torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels))


TRAINING, VALIDATION = stripes(480, 1), stripes(200, 2)


@pytest.fixture(scope="module")
def trained() -> Graph:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = TrainableNetwork(import_model(Residual(), input_shape=(1, 8, 8)))
    train_masked(network, TRAINING, replace(FAST, epochs=6))
    assert network.accuracy(VALIDATION) > 0.9
    return network.to_graph()


def inner(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes if isinstance(node, Convolution)][1:-1]


def plan_of(graph: Graph, threshold: float = 0.05) -> TernaryPlan:
    return TernaryPlan(dict.fromkeys(inner(graph), threshold), {})


# forward

LATENT = torch.tensor([[-1.0, -0.3, -0.05, 0.0], [0.04, 0.05, 0.06, 0.5]])


def test_the_threshold_is_a_share_of_the_largest_magnitude() -> None:
    signs = ternary_signs(LATENT, threshold=0.05)
    assert signs.tolist() == [[-1, -1, 0, 0], [0, 0, 1, 1]]
    assert torch.equal(ternary_signs(7 * LATENT, threshold=0.05), signs)
    assert ternary_signs(LATENT, threshold=0.3).tolist() == [[-1, 0, 0, 0], [0, 0, 0, 1]]
    assert not ternary_signs(LATENT, threshold=1.0).any()
    assert not ternary_signs(torch.zeros(3), threshold=0.05).any()


@pytest.mark.parametrize(("zeros", "count"), [(0.0, 1), (0.25, 2), (0.5, 4), (0.75, 6), (1.0, 8)])
def test_a_fixed_share_of_zeros(zeros: float, count: int) -> None:
    signs = ternary_signs(torch.tensor([-8.0, 7, -6, 5, -4, 3, -2, 0]), zeros=zeros)
    assert int((signs == 0).sum()) == count  # a weight that is 0 has no sign
    assert not signs[8 - count :].any()


def test_the_three_values() -> None:
    values = spread_ternary(torch.tensor([1.0, 0, -1]), torch.tensor(0.7), torch.tensor(0.2))
    torch.testing.assert_close(values, torch.tensor([0.7, 0.0, -0.2]))


# gradients


def test_gradients_by_hand() -> None:
    gradient = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    signs = ternary_signs(LATENT, threshold=0.05)
    found = ternary_gradients(gradient, signs, torch.tensor(0.5), torch.tensor(0.25))
    assert float(found.positive) == 7 + 8
    assert float(found.negative) == -(1 + 2)
    assert found.latent.tolist() == [[0.25, 0.5, 3, 4], [5, 6, 3.5, 4]]


def test_gradients_of_a_network_by_finite_differences(trained: Graph) -> None:
    """Wp and Wn are what the loss is a smooth function of."""
    network = TrainableNetwork(trained)
    for tensors in (network.weights, network.biases):
        for name, tensor in tensors.items():
            tensors[name] = tensor.detach().double().requires_grad_()
    ternary = TernaryWeights(network, plan_of(trained))
    batch, labels = TRAINING.inputs[:20].double(), TRAINING.labels[:20]

    def loss() -> torch.Tensor:
        return functional.cross_entropy(network.scores(batch), labels)

    loss().backward()
    ternary._gather()
    step = 1e-6
    for name in inner(trained):
        for values in (ternary.positive, ternary.negative):
            sides = []
            for offset in (step, -step):
                with torch.no_grad():
                    values[name] += offset
                    ternary._spread()
                    sides.append(float(loss()))
                    values[name] -= offset
            gradient = values[name].grad
            assert gradient is not None
            assert float(gradient) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-4, abs=1e-8)
        whole = network.weights[name].grad
        assert whole is not None
        scales = torch.ones_like(whole)
        scales[ternary.latent[name] > 0.05] = ternary.positive[name].detach()
        scales[ternary.latent[name] < -0.05] = ternary.negative[name].detach()
        torch.testing.assert_close(ternary.latent[name].grad, whole * scales)


# training


def test_a_network_becomes_ternary_and_stays_so(trained: Graph) -> None:
    network = TrainableNetwork(trained)
    dense = network.accuracy(VALIDATION)
    ternary = TernaryWeights(network, plan_of(trained))
    ternary.train(TRAINING, FAST)
    assert network.accuracy(VALIDATION) > dense - 0.05
    again = import_model(graph_to_onnx(network.to_graph()))
    weights = {node.name: node.weight for node in again.nodes if isinstance(node, Convolution)}
    layers = {layer.name: layer for layer in ternary.layers()}
    assert list(layers) == list(weights)
    for name, weight in weights.items():
        layer = layers[name]
        if name not in inner(trained):
            assert len(np.unique(weight)) > 3
            assert layer.bits == 32
            continue
        assert is_ternary(weight)
        assert np.unique(weight).tolist() == [-np.float32(layer.negative), 0, np.float32(layer.positive)]
        assert layer.zeros == pytest.approx((weight == 0).mean())
        assert layer.bits == 2
        assert layer.positive != pytest.approx(layer.negative, rel=1e-3)


def test_the_share_of_zeros_stays(trained: Graph) -> None:
    network = TrainableNetwork(trained)
    ternary = TernaryWeights(network, TernaryPlan({}, dict.fromkeys(inner(trained), 0.5)))
    ternary.train(TRAINING, replace(FAST, epochs=1))
    assert [layer.zeros for layer in ternary.layers()][1:-1] == pytest.approx([0.5] * len(inner(trained)))


def test_an_interrupted_training_goes_on_with_the_same_result(trained: Graph, tmp_path: Path) -> None:
    def run(stop: int | None, path: Path | None) -> TrainableNetwork:
        network = TrainableNetwork(trained)
        checkpoint, saved = Checkpoint(path), []
        if stop is not None:
            save = checkpoint.save

            def interrupt(state: dict) -> None:
                save(state)
                saved.append(state)
                if len(saved) == stop:
                    raise KeyboardInterrupt

            checkpoint.save = interrupt  # type: ignore[method-assign]
        TernaryWeights(network, plan_of(trained)).train(TRAINING, FAST, checkpoint=checkpoint)
        return network

    straight = run(None, None)
    path = tmp_path / "state"
    for stop in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run(stop, path)
    resumed = run(None, path)
    for name, weight in straight.weights.items():
        assert torch.equal(weight, resumed.weights[name])
        assert torch.equal(straight.biases[name], resumed.biases[name])


def test_values_keep_their_signs(trained: Graph) -> None:
    network = TrainableNetwork(trained)
    ternary = TernaryWeights(network, plan_of(trained))
    name = inner(trained)[0]
    with torch.no_grad():
        ternary.positive[name].fill_(-1.0)
    ternary._spread()
    assert ternary.positive[name].item() > 0
    assert is_ternary(network.weights[name].detach().numpy())


@pytest.mark.parametrize("zero", [False, True])
def test_a_layer_within_its_threshold_is_refused(trained: Graph, zero: bool) -> None:
    network = TrainableNetwork(trained)
    name = inner(trained)[1]
    if zero:
        with torch.no_grad():
            network.weights[name].zero_()
    plan = TernaryPlan({name: 0.05 if zero else 1.0}, {})
    with pytest.raises(CompressionError, match=f"{name}: all of its 576 weights are within the threshold"):
        TernaryWeights(network, plan)


def test_divergence_is_an_error(trained: Graph) -> None:
    ternary = TernaryWeights(TrainableNetwork(trained), plan_of(trained))
    with pytest.raises(CompressionError, match="smaller learning rate"):
        ternary.train(TRAINING, replace(FAST, learning_rate=1e6))


def test_latent_weights_that_are_not_finite_are_an_error(trained: Graph) -> None:
    """Their layer is zero then, and biases alone can give a finite loss."""
    ternary = TernaryWeights(TrainableNetwork(trained), plan_of(trained))
    with torch.no_grad():
        ternary.latent[inner(trained)[0]].fill_(torch.nan)
    with pytest.raises(CompressionError, match=r"no finite numbers|smaller learning rate"):
        ternary.train(TRAINING, replace(FAST, epochs=0))


# fixed point


def test_what_counts_as_ternary() -> None:
    assert is_ternary(np.array([-2.0, 0, 3, 3], np.float32))
    for other in ([-2.0, 0, 3, 2], [-2.0, -1, 0, 3], [-2.0, 3], [0.0, 3], [0.0], [-2.0, 0]):
        assert not is_ternary(np.array(other, np.float32))


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_ternary_layers_stay_ternary_in_fixed_point(trained: Graph, bits: int) -> None:
    network = TrainableNetwork(trained)
    TernaryWeights(network, plan_of(trained)).train(TRAINING, FAST)
    graph = network.to_graph()
    widths = {name: bits if name in inner(trained) else 8 for name in network.weights}
    model, _ = calibrate(
        graph,
        [TRAINING.inputs[:100].numpy()],
        widths,
    )
    for name in inner(trained):
        fixed, signs = model.weights[name], np.sign(network.weights[name].detach().numpy())
        assert len(np.unique(fixed.fl)) == 1
        for sign in (-1, 0, 1):
            assert len(np.unique(fixed.values[signs == sign])) == 1
        if bits == 8:
            real = np.ldexp(fixed.values.astype(float), -int(fixed.fl[0]))
            np.testing.assert_allclose(real, network.weights[name].detach().numpy(), rtol=0.05)
