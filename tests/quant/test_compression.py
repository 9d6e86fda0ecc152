"""Pruning and weight sharing on small networks that are trained in seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from quant.compression.channels import fixed_channels, largest_filters, shrink
from quant.compression.checkpoint import Checkpoint, fingerprint
from quant.compression.clustering import STARTS, first_centroids, shared_values
from quant.compression.error import CompressionError
from quant.compression.labelled_data import LabelledData, labelled_data, split
from quant.compression.layer_numbers import LayerNumbers
from quant.compression.pruning import PruningPlan, prune
from quant.compression.report import compression_report, encoded_file
from quant.compression.sensitivity import LayerSensitivity, Sensitivity, keep_largest, scan_sensitivity
from quant.compression.sharing import SharedWeights, clusters_of
from quant.compression.teacher import taught
from quant.compression.trainable import TrainableNetwork
from quant.compression.training import (
    TrainingSettings,
    check_shift,
    scaled_dropout,
    shifted,
    train,
    train_masked,
)
from quant.data import ImageSet
from quant.encoding import EncodingError
from quant.float_onnx import graph_to_onnx
from quant.float_run import run_float
from quant.graph import Convolution, Graph
from quant.onnx_import import import_model
from quant.sensitivity_plot import sensitivity_plot

FAST = TrainingSettings(epochs=3, batch=32, learning_rate=5e-3, seed=1)


class Small(nn.Sequential):
    """(1, 8, 8) → conv 6 → pool → fc 24 → fc 3."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(96, 24),
            nn.ReLU(),
            nn.Linear(24, 3),
        )


class Branches(nn.Module):
    """Concat, depthwise, a grouped convolution, a residual sum, average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(10, 20, 3, padding=1, groups=10)
        self.before = nn.Conv2d(20, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.first, self.second = nn.Conv2d(8, 5, 1), nn.Conv2d(5, 8, 1)
        self.fc1, self.fc2 = nn.Linear(8 * 16, 12), nn.Linear(12, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        values = torch.cat([torch.relu(self.left(image)), torch.relu(self.right(image))], 1)
        values = torch.relu(self.before(torch.relu(self.depthwise(values))))
        values = torch.relu(self.grouped(values))
        values = torch.relu(values + self.second(torch.relu(self.first(values))))
        values = torch.flatten(nn.functional.avg_pool2d(values, 2), 1)
        return self.fc2(torch.relu(self.fc1(values)))


def seeded(module: type[nn.Module], shape: tuple[int, int, int]) -> Graph:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return import_model(module(), input_shape=shape)


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
    network = TrainableNetwork(seeded(Small, (1, 8, 8)))
    train_masked(network, TRAINING, replace(FAST, epochs=6))
    assert network.accuracy(VALIDATION) > 0.95
    return network.to_graph()


def fresh(graph: Graph) -> TrainableNetwork:
    return TrainableNetwork(graph)


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes if isinstance(node, Convolution)]


# the network


@pytest.mark.parametrize(("module", "shape"), [(Small, (1, 8, 8)), (Branches, (3, 8, 8))])
def test_the_forward_pass_and_the_written_model_mean_the_same(
    module: type[nn.Module], shape: tuple[int, int, int]
) -> None:
    graph = seeded(module, shape)
    batch = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))
    expected = run_float(graph, batch)[graph.output].flatten(1)
    network = TrainableNetwork(graph)
    torch.testing.assert_close(network.scores(batch).detach(), expected, atol=1e-5, rtol=1e-5)
    again = import_model(graph_to_onnx(network.to_graph()))
    assert names(again) == names(graph)
    assert again.output_shape == graph.output_shape
    torch.testing.assert_close(run_float(again, batch)[again.output].flatten(1), expected)


def test_a_vector_that_becomes_a_map_again(same_meaning) -> None:
    """A fully connected layer whose result is read by a sum and whose input is a map."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            values = torch.relu(self.a(image))
            return torch.softmax(torch.flatten(values + self.b(values), 1), 1)

    graph = import_model(Odd(), input_shape=(2, 3, 3))
    model = graph_to_onnx(graph)
    assert [node.op_type for node in model.graph.node].count("Gemm") == 2
    assert same_meaning(model).host_operations == ("Softmax",)


# numbers by layer


def test_numbers_by_layer(trained: Graph) -> None:
    conv, first, second = names(trained)
    assert LayerNumbers.parse("0.5,fc=0.25", "share", 0, 1, 1).of(trained) == {
        conv: 0.5,
        first: 0.25,
        second: 0.25,
    }
    assert LayerNumbers.parse(f"*linear=0.25,{second}=1", "share", 0, 1, 1).of(trained)[second] == 1
    with pytest.raises(CompressionError, match=rf"fc9=0.5 fits no layer with weights; there are {conv}"):
        LayerNumbers.parse("fc9=0.5", "share", 0, 1, 1).of(trained)
    for text in ("x", "0.5,0.5", "=1", "", "nan"):
        with pytest.raises(CompressionError, match="is no share"):
            LayerNumbers.parse(text, "share", 0, 1, 1)
    for text in ("0", "-1", "1.5", "fc=2"):
        with pytest.raises(CompressionError, match="must be above 0 and at most 1"):
            LayerNumbers.parse(text, "share", 0, 1, 1)


# sensitivity


def test_keep_largest() -> None:
    mask = keep_largest(torch.tensor([[0.1, -3.0], [2.0, 2.0]]), 0.5)
    assert mask.tolist() == [[0, 1], [1, 0]]


def test_the_scan_leaves_the_network_alone(trained: Graph) -> None:
    network = fresh(trained)
    scan = scan_sensitivity(network, VALIDATION, (0.01, 1.0, 0.3))
    assert scan.shares == (1.0, 0.3, 0.01)
    assert all(layer.accuracy[0] == scan.accuracy for layer in scan.layers)
    assert min(layer.accuracy[2] for layer in scan.layers) < scan.accuracy - 0.1
    for ours, theirs in zip(network.to_graph().nodes, trained.nodes):
        if isinstance(ours, Convolution) and isinstance(theirs, Convolution):
            assert np.array_equal(ours.weight, theirs.weight)
    assert Sensitivity.from_json(scan.to_json()) == scan
    for suffix in (".svg", ".png"):
        assert sensitivity_plot(scan, suffix) == sensitivity_plot(scan, suffix)


def test_shares_from_a_scan() -> None:
    layers = (
        LayerSensitivity("a", "conv", 100, (0.9, 0.5, 0.1)),
        LayerSensitivity("b", "fc", 900, (0.9, 0.9, 0.8)),
    )
    scan = Sensitivity("net", 10, 0.9, (0.5, 0.1, 0.01), layers)
    shares = scan.shares_for_loss(0.2)
    assert shares["a"] == pytest.approx(0.5 * (0.1 / 0.5) ** 0.5)
    assert shares["b"] == 0.01
    for total in (0.9, 0.5, 0.1, 0.02, 0.001):
        found = scan.shares_for_total(total)
        kept = (100 * found["a"] + 900 * found["b"]) / 1000
        assert kept == pytest.approx(total, rel=0.01) or total == 0.001
    assert scan.shares_for_loss(0)["a"] == pytest.approx(0.5)


def test_shares_where_a_curve_is_flat() -> None:
    """A loss of 0.1 lets the second layer go from 0.5 to 0.05 at once; all totals between are reached."""
    layers = (
        LayerSensitivity("a", "conv", 100, (0.9, 0.7, 0.5)),
        LayerSensitivity("b", "fc", 900, (0.8, 0.8, 0.3)),
    )
    scan = Sensitivity("net", 10, 0.9, (0.5, 0.05, 0.01), layers)
    assert scan.shares_for_loss(0.0999)["b"] > 0.49
    assert scan.shares_for_loss(0.1001)["b"] < 0.06
    for total in (0.4, 0.3, 0.2, 0.1, 0.08):
        found = scan.shares_for_total(total)
        assert (100 * found["a"] + 900 * found["b"]) / 1000 == pytest.approx(total, rel=1e-4)
        assert 0.05 <= found["b"] <= 0.5


# pruning


def test_pruned_weights_stay_exactly_zero_and_accuracy_stays(trained: Graph) -> None:
    network = fresh(trained)
    conv, first, second = names(trained)
    shares = {conv: 0.6, first: 0.08, second: 0.4}
    plan = PruningPlan(shares=shares, rounds=2)
    result = prune(network, plan, TRAINING, VALIDATION, replace(FAST, l1=1e-5, l2=1e-3, dropout=0.3))
    graph = network.to_graph()
    for layer, node in zip(result.layers, (node for node in graph.nodes if isinstance(node, Convolution))):
        assert layer.kept == round(shares[layer.name] * layer.weights)
        assert np.count_nonzero(node.weight) == layer.kept
    assert result.dense_accuracy - result.accuracy < 0.03
    assert result.rounds[0].kept > result.rounds[1].kept == pytest.approx(result.kept)
    # a second pruning takes the zeros as pruned
    again = fresh(import_model(graph_to_onnx(graph)))
    again.mask_zeros()
    assert again.kept() == network.kept()


def test_a_taught_network_answers_as_its_teacher(trained: Graph) -> None:
    """From other weights and without labels it comes near the teacher's scores over the temperature."""
    teacher, network, temperature = fresh(trained), TrainableNetwork(seeded(Small, (1, 8, 8))), 3.0
    data = taught(TRAINING, teacher, temperature)
    assert data.labels.shape == (len(TRAINING), 3)
    assert torch.allclose(data.labels.sum(1), torch.ones(len(TRAINING)))
    assert torch.equal(data.labels.argmax(1), teacher.scores(TRAINING.inputs).argmax(1))
    with torch.no_grad():
        for weight in network.weights.values():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)))

    def distance() -> float:
        with torch.no_grad():
            ours, theirs = network.scores(VALIDATION.inputs), teacher.scores(VALIDATION.inputs) / temperature
        ours, theirs = (each - each.mean(1, keepdim=True) for each in (ours, theirs))
        return float((ours - theirs).square().mean() / theirs.square().mean())

    before = distance()
    train_masked(network, data, replace(FAST, epochs=12, l2=0.0))
    assert distance() < 0.1 < 0.5 < before
    with pytest.raises(CompressionError, match="temperature must be positive, not 0"):
        taught(TRAINING, teacher, 0)


def test_quality_factors(trained: Graph) -> None:
    network = fresh(trained)
    name = names(trained)[1]
    sigma = network.weights[name].detach().std(unbiased=False)
    expected = int((network.weights[name].detach().abs() >= 1.5 * sigma).sum())
    plan = PruningPlan(qualities={name: 1.5}, rounds=1)
    result = prune(network, plan, TRAINING, VALIDATION, replace(FAST, epochs=1))
    kept = {layer.name: layer.kept for layer in result.layers}
    assert kept[name] == expected
    assert all(layer.kept == layer.weights for layer in result.layers if layer.name != name)


def test_a_layer_pruned_to_nothing(trained: Graph) -> None:
    name = names(trained)[2]
    for plan in (
        PruningPlan(shares={**dict.fromkeys(names(trained), 1.0), name: 0.001}),
        PruningPlan(qualities={name: 100.0}),
    ):
        with pytest.raises(CompressionError, match=name):
            prune(fresh(trained), plan, TRAINING, VALIDATION, FAST)


def test_dropout_is_scaled_by_the_connections_left(trained: Graph) -> None:
    network = fresh(trained)
    second = names(trained)[2]
    network.masks[second] = keep_largest(network.weights[second], 0.25)
    assert scaled_dropout(network, 0.5) == {second: pytest.approx(0.25)}
    assert scaled_dropout(network, 0.0) == {}


def test_training_that_fails(trained: Graph) -> None:
    broken = LabelledData(TRAINING.inputs * np.inf, TRAINING.labels)
    with pytest.raises(CompressionError, match="loss is nan in epoch 1; train with a smaller learning rate"):
        train_masked(fresh(trained), broken, FAST)
    with pytest.raises(CompressionError, match=r"diverges|the loss is"):
        train_masked(fresh(trained), TRAINING, replace(FAST, learning_rate=50.0))


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """An image (C, H, W) moved; empty places repeat its edge."""
    _, height, width = image.shape
    result = torch.empty_like(image)
    for row in range(height):
        for column in range(width):
            above, left = min(max(row - down, 0), height - 1), min(max(column - right, 0), width - 1)
            result[:, row, column] = image[:, above, left]
    return result


@pytest.mark.parametrize(("channels", "height", "width", "most"), [(1, 5, 5, 2), (3, 4, 7, 3), (2, 6, 2, 1)])
def test_each_image_is_shifted_on_its_own_and_within_bounds(
    channels: int, height: int, width: int, most: int
) -> None:
    random = torch.Generator().manual_seed(1)
    images = torch.rand(400, channels, height, width, generator=random)
    found = shifted(images, most, torch.Generator().manual_seed(2))
    assert found.shape == images.shape
    assert found.is_contiguous()
    ways = [(down, right) for down in range(-most, most + 1) for right in range(-most, most + 1)]
    seen = [
        [way for way in ways if torch.equal(after, moved(image, *way))]
        for image, after in zip(images, found)
    ]
    assert all(len(which) == 1 for which in seen)
    assert {which[0] for which in seen} == set(ways)  # at most 49 ways, 400 images
    assert torch.equal(found, shifted(images, most, torch.Generator().manual_seed(2)))
    assert not torch.equal(found, shifted(images, most, torch.Generator().manual_seed(3)))
    plain = torch.full((8, channels, height, width), -0.4)
    assert torch.equal(shifted(plain, most, random), plain)  # a background stays, whatever number it is


def test_training_sees_shifted_images(trained: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others in each step and epoch, with their labels; the order and the data stay as they are."""
    network, given, before = fresh(trained), [], TRAINING.inputs.clone()
    scores = network.scores

    def watched(batch: torch.Tensor, *more: object) -> torch.Tensor:
        given.append(batch)
        return scores(batch, *more)

    monkeypatch.setattr(network, "scores", watched)
    batches = {}
    for shift in (0, 1):
        given.clear()
        train_masked(network, TRAINING, replace(FAST, epochs=2, learning_rate=0.0, shift=shift))
        batches[shift] = torch.cat(given)
    assert torch.equal(TRAINING.inputs, before)
    for plain, after in zip(batches[0], batches[1]):
        ways = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        assert any(torch.equal(after, moved(plain, *way)) for way in ways)
    changed = (batches[0] != batches[1]).flatten(1).any(1)
    assert 0.8 < changed.float().mean() < 0.97  # 8 of 9


def test_shifts_are_the_same_again_and_help_where_images_move() -> None:
    def trained_on_one(shift: int) -> tuple[list[torch.Tensor], float]:
        network = TrainableNetwork(seeded(Small, (1, 8, 8)))
        train_masked(network, single, replace(FAST, epochs=30, shift=shift))
        return [tensor.detach() for tensor in network.parameters()], 1 - network.accuracy(others)

    # one image of each class, and the same elsewhere
    images = torch.zeros(3, 1, 8, 8)
    for label, shape in enumerate(([[1, 1], [0, 0]], [[1, 0], [1, 0]], [[1, 0], [0, 1]])):
        images[label, 0, 3:5, 3:5] = torch.tensor(shape, dtype=torch.float32)
    single = LabelledData(images.repeat(32, 1, 1, 1), torch.arange(3).repeat(32))
    places = torch.stack([moved(image, *way) for way in ((-2, 1), (2, 2), (1, -2)) for image in images])
    others = LabelledData(places, torch.arange(3).repeat(3))
    (first, with_shifts), (again, _), (_, without) = (trained_on_one(shift) for shift in (2, 2, 0))
    assert all(torch.equal(*both) for both in zip(first, again))
    assert with_shifts < without


def test_shifts_that_do_not_fit(trained: Graph) -> None:
    for shift, message in {
        8: "images of 8x8 pixels cannot be shifted by 8; shift them by at most 7",
        -1: "a shift must be a number of pixels from 0 on, not -1",
    }.items():
        network = fresh(trained)
        with pytest.raises(CompressionError, match=message):
            train_masked(network, TRAINING, replace(FAST, shift=shift))
        for name, layer in network.layers.items():
            assert np.array_equal(network.weights[name].detach(), layer.weight)
    with pytest.raises(CompressionError, match=r"the network's input \(784, 1, 1\) is no image"):
        check_shift(1, (784, 1, 1))
    check_shift(0, (784, 1, 1))
    check_shift(6, (3, 7, 9))


class Stopped(Exception):
    pass


@pytest.mark.parametrize(("after", "shift"), [(1, 0), (4, 0), (1, 2), (4, 2)])
def test_an_interrupted_pruning_goes_on_to_the_same_result(
    trained: Graph, tmp_path, after: int, shift: int
) -> None:
    plan = PruningPlan(shares=dict.fromkeys(names(trained), 0.3), rounds=2)
    settings = replace(FAST, dropout=0.3, shift=shift)

    def weights(network: TrainableNetwork) -> list[torch.Tensor]:
        return [tensor.detach() for tensor in network.parameters()]

    straight = fresh(trained)
    expected = prune(straight, plan, TRAINING, VALIDATION, settings)
    checkpoint, seen = Checkpoint(tmp_path / "c", "same"), []

    def stop(what: str, images: int) -> None:
        seen.append(images)
        if sum(seen) > after * len(TRAINING):
            raise Stopped

    with pytest.raises(Stopped):
        prune(fresh(trained), plan, TRAINING, VALIDATION, settings, checkpoint=checkpoint, progress=stop)
    resumed, counted = fresh(trained), []
    found = prune(
        resumed,
        plan,
        TRAINING,
        VALIDATION,
        settings,
        checkpoint=Checkpoint(tmp_path / "c", "same"),
        progress=lambda what, images: counted.append(images),
    )
    assert found == expected
    assert sum(counted) == plan.rounds * settings.epochs * len(TRAINING)
    assert all(torch.equal(*both) for both in zip(weights(straight), weights(resumed)))


def test_checkpoints_of_others_and_damaged_ones_are_not_taken_up(tmp_path) -> None:
    path = tmp_path / "c"
    ours = Checkpoint(path, fingerprint(seed=1, data=path))
    assert ours.load() is None
    ours.notes["scan"] = [1]
    ours.save({"round": 2})
    again = Checkpoint(path, fingerprint(data=path, seed=1))
    assert again.identity != ours.identity  # the file has come into being
    again.identity = ours.identity
    assert again.load() == {"round": 2}
    assert again.notes == {"scan": [1]}
    assert Checkpoint(path, "another").load() is None
    path.write_bytes(path.read_bytes()[:100])
    assert again.load() is None
    ours.remove()
    assert not path.exists()


# filters


def test_filters_go_with_the_channels_that_read_them() -> None:
    graph = seeded(Branches, (3, 8, 8))
    left, right, depthwise, before, grouped, first, second, fc1, fc2 = names(graph)
    fixed = fixed_channels(graph)
    assert set(fixed) == {depthwise, before, grouped, second, fc2}
    assert "depthwise" in fixed[depthwise]
    assert "in groups" in fixed[before]
    assert "tied to others by the sum" in fixed[grouped]
    assert "tied to others by the sum" in fixed[second]
    assert "output" in fixed[fc2]
    nodes = {node.name: node for node in graph.nodes if isinstance(node, Convolution)}
    filters = {name: largest_filters(nodes[name], 0.5) for name in (left, right, first, fc1)}
    narrow = shrink(graph, filters)
    shapes = {node.name: node.weight.shape for node in narrow.nodes if isinstance(node, Convolution)}
    assert shapes[left] == (3, 3, 3, 3)
    assert shapes[depthwise] == (10, 1, 3, 3)
    assert shapes[before] == (8, 10, 1, 1)
    assert shapes[second][1] == 2
    assert shapes[fc1] == (6, 8, 4, 4)
    assert shapes[fc2] == (4, 6, 1, 1)
    # the same as filters of zeros that are still there
    removed = {name: np.setdiff1d(np.arange(len(nodes[name].weight)), kept) for name, kept in filters.items()}
    channels = np.concatenate([removed[left], removed[right] + 6])
    removed[depthwise] = (channels[:, None] * 2 + np.arange(2)).reshape(-1)
    zeroed = []
    for node in graph.nodes:
        if isinstance(node, Convolution) and node.name in removed:
            weight, bias = node.weight.copy(), node.bias.copy()
            weight[removed[node.name]], bias[removed[node.name]] = 0, 0
            node = replace(node, weight=weight, bias=bias)
        zeroed.append(node)
    graph = replace(graph, nodes=zeroed, _producers={})
    batch = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = run_float(graph, batch)[graph.output]
    torch.testing.assert_close(run_float(narrow, batch)[narrow.output], expected, atol=1e-5, rtol=1e-4)
    model = graph_to_onnx(narrow)
    onnx.checker.check_model(model, full_check=True)
    torch.testing.assert_close(
        run_float(import_model(model), batch)[narrow.output], expected, atol=1e-5, rtol=1e-4
    )
    with pytest.raises(CompressionError, match="because its channels are tied"):
        shrink(graph, {grouped: np.arange(2)})


def test_filters_by_norm(trained: Graph) -> None:
    node = next(node for node in trained.nodes if isinstance(node, Convolution))
    weight = np.zeros((3, 1, 1, 4), np.float32)
    weight[0, 0, 0], weight[1, 0, 0, 0], weight[2, 0, 0, 0] = 0.4, 1.0, 0.1
    node = replace(node, weight=weight)
    assert largest_filters(node, 0.34, "l2").tolist() == [1]
    assert largest_filters(node, 0.34, "l1").tolist() == [0]
    with pytest.raises(CompressionError, match="leaves none"):
        largest_filters(node, 0.1)
    with pytest.raises(CompressionError, match="no norm"):
        largest_filters(node, 0.5, "l7")


# weight sharing


@pytest.mark.parametrize("start", STARTS)
def test_shared_values_are_means_of_their_clusters(start: str) -> None:
    values = np.random.default_rng(1).normal(size=2000).astype(np.float32)
    book, indices = shared_values(values, 8, start)
    assert 6 <= len(book) <= 8
    assert (np.diff(book) > 0).all()
    means = [values[indices == index].mean() for index in range(len(book))]
    np.testing.assert_allclose(book, means, atol=1e-4)
    error = np.square(values - book[indices]).mean()
    assert error < 0.05


def test_starts_differ_and_few_values_need_few_clusters() -> None:
    values = np.float32([0, 0, 0, 0, 1, 10])
    assert first_centroids(values, 3, "linear").tolist() == [0, 5, 10]
    assert first_centroids(values, 3, "density").tolist()[0] == 0
    assert set(first_centroids(values, 9, "random").tolist()) == {0, 1, 10}
    book, indices = shared_values(values, 32)
    assert book.tolist() == [0, 1, 10]
    assert (book[indices] == values).all()
    assert len(shared_values(values, 2)[0]) == 2
    for clusters, start in ((0, "linear"), (3, "best")):
        with pytest.raises(CompressionError):
            first_centroids(values, clusters, start)


def test_the_gradient_of_a_centroid_is_the_sum_over_its_cluster(trained: Graph) -> None:
    network = fresh(trained)
    shared = SharedWeights(network, dict.fromkeys(network.weights, 4))
    name = names(trained)[1]
    weights = network.weights[name].detach()
    centroids = shared.centroids[name].detach().clone()
    seen = []

    def look() -> None:
        gradient = network.weights[name].grad
        assert gradient is not None
        seen.append([float(gradient[weights == value].sum()) for value in centroids])

    loss = nn.functional.cross_entropy(network.scores(TRAINING.inputs[:64]), TRAINING.labels[:64])
    loss.backward()
    look()
    shared._gather()
    gradient = shared.centroids[name].grad
    assert gradient is not None
    np.testing.assert_allclose(gradient.numpy(), seen[0], rtol=1e-3, atol=1e-6)


def test_a_network_through_the_file(trained: Graph) -> None:
    network = fresh(trained)
    prune(
        network, PruningPlan(shares=dict.fromkeys(names(trained), 0.2), rounds=1), TRAINING, VALIDATION, FAST
    )
    zeros = {name: weight.detach() == 0 for name, weight in network.weights.items()}
    before = network.accuracy(VALIDATION)
    shared = SharedWeights(network, clusters_of(network, dict.fromkeys(network.weights, 3)))
    rough = network.accuracy(VALIDATION)
    shared.fine_tune(TRAINING, replace(FAST, learning_rate=1e-3))
    assert network.accuracy(VALIDATION) >= min(rough, before - 0.03)
    for name, weight in network.weights.items():
        assert torch.equal(weight.detach() == 0, zeros[name])
        assert len(weight.detach().unique()) <= 8
    content = encoded_file(network, dict.fromkeys(network.weights, None))
    report = compression_report(content)
    assert report.total.bytes == len(content)
    assert report.total.dense_bytes == 4 * sum(tensor.numel() for tensor in network.parameters())
    assert report.total.ratio > 4
    assert all(layer.values <= 8 and layer.weight_bits_coded <= 3 for layer in report.layers)


def test_sharing_goes_on_after_an_interruption(trained: Graph, tmp_path) -> None:
    clusters = dict.fromkeys(names(trained), 4)

    def tuned(checkpoint: Checkpoint | None, stop_after: float) -> list[torch.Tensor]:
        network, seen = fresh(trained), []
        shared = SharedWeights(network, clusters)

        def progress(images: int) -> None:
            seen.append(images)
            if sum(seen) > stop_after:
                raise Stopped

        shared.fine_tune(TRAINING, FAST, checkpoint=checkpoint, progress=progress)
        return [tensor.detach() for tensor in network.parameters()]

    expected = tuned(None, np.inf)
    with pytest.raises(Stopped):
        tuned(Checkpoint(tmp_path / "c", "x"), 1.5 * len(TRAINING))
    found = tuned(Checkpoint(tmp_path / "c", "x"), np.inf)
    assert all(torch.equal(*both) for both in zip(found, expected))


def test_a_layer_of_zeros_and_one_with_too_many_values(trained: Graph) -> None:
    network = fresh(trained)
    name = names(trained)[1]
    with pytest.raises(EncodingError, match=f"{name}: .*share weights first"):
        encoded_file(network, dict.fromkeys(network.weights, None))
    with torch.no_grad():
        network.weights[name].zero_()
    shared = SharedWeights(network, dict.fromkeys(network.weights, 4))
    assert name not in shared.centroids
    shared.fine_tune(TRAINING, replace(FAST, epochs=1))
    assert not network.weights[name].detach().any()
    layer = next(
        layer
        for layer in compression_report(encoded_file(network, dict.fromkeys(network.weights, None))).layers
        if layer.name == name
    )
    assert layer.kept == layer.entries == 0


# data


def test_labels_are_needed(trained: Graph) -> None:
    images = np.zeros((6, 8, 8), np.uint8)
    with pytest.raises(CompressionError, match="it has no labels"):
        labelled_data(trained, ImageSet("x.npz", images, None))
    with pytest.raises(CompressionError, match="from 0 to 3, but the network has 3 outputs"):
        labelled_data(trained, ImageSet("x.npz", images, np.array([0, 1, 2, 3, 0, 1])))
    data = labelled_data(trained, ImageSet("x.npz", images, np.arange(6) % 3))
    parts = split(data, 0.5, 1)
    assert [len(part) for part in parts] == [3, 3]
    with pytest.raises(CompressionError, match="cannot be split"):
        split(data, 0.01, 1)


def test_train_takes_any_parameters(trained: Graph) -> None:
    network = fresh(trained)
    before = [tensor.detach().clone() for tensor in network.weights.values()]
    train(network, TRAINING, replace(FAST, epochs=1), parameters=list(network.biases.values()))
    assert all(torch.equal(old, new.detach()) for old, new in zip(before, network.weights.values()))
