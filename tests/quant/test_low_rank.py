"""Layers of low rank: the mathematics, the choice of ranks, the rewritten graph, and the command."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from compiler.error import CompileError
from compiler.graph_cycles import GraphCycles
from hw.machine import Machine
from quant.__main__ import main
from quant.compression.error import CompressionError
from quant.compression.layer_numbers import layers_of
from quant.float_onnx import graph_to_onnx, write_float_model
from quant.float_run import run_float
from quant.graph import Activation, Convolution, Graph
from quant.low_rank.approximate import Approximation, approximate, plan_layers
from quant.low_rank.costs import MACS, CostModel, mac_costs
from quant.low_rank.projection import METHODS, Projection
from quant.low_rank.rank_numbers import given_ranks
from quant.low_rank.rank_selection import RankChoices, rank_for_energy, select_ranks
from quant.low_rank.reconstruction import ReducedRankRegression, auxiliary, non_linear, residual
from quant.low_rank.responses import Responses
from quant.low_rank.rewrite import factored, replace_layer, split_nodes
from quant.low_rank.spatial import spatial_split, split_rank
from quant.low_rank.svd import weight_projection, weight_spectrum
from quant.onnx_import import import_model
from sim.memory_settings import MemorySettings

RELU = Activation(0.0)


def network(*layers: nn.Module, shape: tuple[int, int, int] = (3, 10, 10), seed: int = 1) -> Graph:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return import_model(nn.Sequential(*layers), input_shape=shape)


@cache
def small() -> Graph:
    return network(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 1),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(64, 20),
        nn.ReLU(),
        nn.Linear(20, 4),
    )


def images(count: int = 60, shape: tuple[int, int, int] = (3, 10, 10)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand((count, *shape), generator=generator)


def outputs(graph: Graph, batch: torch.Tensor) -> torch.Tensor:
    return run_float(graph, batch, {graph.output})[graph.output].flatten(1)


def approximated(
    graph: Graph, method: str, rank: Callable[[int], int], middle: dict[str, int] | None = None
) -> Approximation:
    """All layers that can be, cheaper or not."""
    free = CostModel("MACs", lambda part: {part.nodes[-1].name: 1.0 / len(part.nodes)})
    responses = Responses(images(), positions=25)
    plan = plan_layers(
        graph, layers_of(graph), free, responses, {"conv": method, "fc": method}, middle
    )
    ranks: dict[str, int | None] = {
        name: rank(len(choices.costs) - 1) for name, choices in plan.choices.items()
    }
    return approximate(graph, plan, ranks, responses)


@pytest.mark.parametrize("method", METHODS)
def test_the_full_rank_reproduces_the_network(method: str) -> None:
    graph = small()
    found = approximated(graph, method, lambda full: full)
    assert len(found.layers) == 5
    assert all(layer.energy == pytest.approx(1) for layer in found.layers)
    assert torch.allclose(outputs(found.graph, images()), outputs(graph, images()), atol=1e-4)


@cache
def one_layer() -> Graph:
    return network(nn.Conv2d(3, 12, 3), nn.ReLU())


@pytest.mark.parametrize("method", METHODS)
def test_the_error_falls_with_the_rank(method: str) -> None:
    graph = one_layer()
    real, errors = outputs(graph, images()), []
    for rank in (2, 5, 8, 11):
        found = approximated(graph, method, lambda full, rank=rank: rank)
        errors.append(float((outputs(found.graph, images()) - real).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 4


def test_shapes_bias_and_activation_of_the_parts() -> None:
    graph = small()
    found = approximated(graph, "nonlinear", lambda full: 4)
    layers = layers_of(found.graph)
    for layer in found.layers:
        low, last = (layers[name] for name in layer.parts)
        assert low.weight.shape == (4, *layer.kernel[1:])
        assert last.weight.shape == (layer.kernel[0], 4, 1, 1)
        assert not low.bias.any()
        assert low.activation == Activation()
        assert last.activation == layers_of(graph)[layer.name].activation
        assert last.name == layer.name
    kinds = [node.op_type for node in graph_to_onnx(found.graph).graph.node]
    assert kinds.count("Conv") == 6
    assert kinds.count("Gemm") == 4


@pytest.mark.parametrize("spatial", [False, True])
def test_onnxruntime_computes_the_same(spatial: bool, tmp_path: Path) -> None:
    graph = small()
    middle = {name: 9 for name, node in layers_of(graph).items() if spatial and node.weight.shape[2] == 3}
    found = approximated(graph, "linear", lambda full: max(1, full // 2), middle)
    write_float_model(found.graph, tmp_path / "low.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "low.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: images().numpy()})
    assert np.allclose(outputs(found.graph, images()).numpy(), expected, atol=1e-4)
    again = import_model(tmp_path / "low.onnx")
    assert len(layers_of(again)) == len(layers_of(found.graph))
    assert torch.allclose(outputs(again, images()), outputs(found.graph, images()), atol=1e-4)


def responses_and_noise(seed: int = 5, count: int = 400, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Responses (n, d), and those that an approximation before them has changed."""
    random = np.random.default_rng(seed)
    target = random.normal(size=(count, size)) @ random.normal(size=(size, size)) + random.normal(size=size)
    bend = np.eye(size) + 0.3 * random.normal(size=(size, size))
    return target, target @ bend + 0.2 + 0.3 * random.normal(size=(count, size))


def squared(projection: Projection, target: np.ndarray, given: np.ndarray) -> float:
    return float(((target - projection.apply(given)) ** 2).sum())


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_reduced_rank_regression_is_the_optimum(rank: int) -> None:
    target, given = responses_and_noise()
    found = squared(ReducedRankRegression(given).fit(target, rank), target, given)
    generator = torch.Generator().manual_seed(2)
    factors = [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((6, rank), (rank, 6), (6,))
    ]
    x, y = torch.from_numpy(given), torch.from_numpy(target)

    optimizer = torch.optim.LBFGS(factors, max_iter=800, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = (y - (x @ factors[1].T @ factors[0].T + factors[2])).square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert found == pytest.approx(float(loss().detach()), rel=1e-5)


def test_of_the_responses_themselves_it_is_their_pca() -> None:
    target, _ = responses_and_noise()
    found = ReducedRankRegression(target).fit(target, 3)
    _, vectors = np.linalg.eigh(np.cov(target.T))
    top = vectors[:, -3:]
    assert np.allclose(found.expand @ found.reduce, top @ top.T)
    assert np.allclose(found.offset, target.mean(0) - top @ top.T @ target.mean(0))


@pytest.mark.parametrize("seed", range(4))
def test_asymmetric_is_never_worse_than_symmetric_on_what_it_is_given(seed: int) -> None:
    target, given = responses_and_noise(seed)
    for rank in range(1, 7):
        symmetric = ReducedRankRegression(target).fit(target, rank)
        linear = ReducedRankRegression(given).fit(target, rank)
        bent = non_linear(target, given, rank, RELU)
        assert squared(linear, target, given) <= squared(symmetric, target, given) * (1 + 1e-12)
        errors = [residual(target, each.apply(given), RELU) for each in (bent, linear)]
        assert errors[0] <= errors[1]
        if rank in (1, 2, 3):
            assert errors[0] < 0.97 * errors[1]


@pytest.mark.parametrize("activation", [RELU, Activation(0.0, 1.5), Activation(), Activation(-1.0, 1.0)])
@pytest.mark.parametrize("penalty", [0.01, 0.3, 1.0])
def test_the_closed_form_of_z_against_a_grid(activation: Activation, penalty: float) -> None:
    random = np.random.default_rng(7)
    target, fitted = random.normal(0, 1.5, 40), random.normal(0, 1.5, 40)
    grid = np.linspace(-8, 8, 16001)[:, None]

    def cost(z: np.ndarray) -> np.ndarray:
        bounds = activation.low, activation.high
        return (target.clip(*bounds) - z.clip(*bounds)) ** 2 + penalty * (z - fitted) ** 2

    found = cost(auxiliary(target, fitted, penalty, activation))
    assert (found <= cost(grid).min(0) + 1e-12).all()
    assert np.allclose(found, cost(grid).min(0), atol=1e-5)


def test_layers_whose_responses_are_all_the_same() -> None:
    constant = np.full((50, 3), 2.0)
    found = ReducedRankRegression(constant).fit(constant + 1, 2)
    assert np.allclose(found.apply(constant), 3)
    node = next(iter(layers_of(small()).values()))
    zero = weight_projection(replace(node, weight=np.zeros((12, 3, 3, 3), np.float32)), 3)
    assert zero.rank == 1
    assert np.isfinite(zero.expand).all()
    assert np.isfinite(zero.reduce).all()


def test_svd_is_the_best_approximation_of_the_weights() -> None:
    node = list(layers_of(small()).values())[1]
    found = weight_projection(node, 5)
    weights = node.weight.reshape(16, -1)
    lost = ((weights - found.expand @ found.reduce @ weights) ** 2).sum()
    assert lost == pytest.approx(weight_spectrum(node)[5:].sum(), rel=1e-4)
    assert np.allclose(found.expand @ (found.reduce @ node.bias) + found.offset, node.bias, atol=1e-6)


def test_two_kernels_of_full_rank_are_the_one() -> None:
    graph = network(nn.Conv2d(3, 5, (3, 5), stride=(2, 1), padding=(1, 2)), nn.ReLU(), shape=(3, 9, 8))
    (node,) = layers_of(graph).values()
    chain = split_nodes(graph, node, spatial_split(node, split_rank(node)))
    assert [each.weight.shape[2:] for each in chain.nodes] == [(3, 1), (1, 5)]
    batch = images(4, (3, 9, 8))
    assert torch.allclose(outputs(replace_layer(graph, chain), batch), outputs(graph, batch), atol=1e-5)
    projection = weight_projection(chain.nodes[-1], 3)
    three = factored(graph, chain, projection)
    result = run_float(replace_layer(graph, three), batch)
    assert len(three.nodes) == 3
    assert {name: tuple(values.shape[1:]) for name, values in result.items()} == replace_layer(
        graph, three
    ).shapes


def choices(random: np.random.Generator, full: int, *, steps: int = 1) -> RankChoices:
    """A layer with random eigenvalues, whose cost is in proportion to the rank, or in steps."""
    spectrum = np.sort(random.exponential(size=full) ** 2)[::-1]
    scale = random.integers(1, 6)
    costs = np.array([np.inf, *(scale * (-(-rank // steps)) * steps * 1.5 for rank in range(1, full + 1))])
    return RankChoices.of(spectrum, costs, float(scale * full))


def product(layers: dict[str, RankChoices], ranks: dict[str, int | None]) -> tuple[float, float]:
    """Energy and cost."""
    energy, cost = 1.0, 0.0
    for name, rank in ranks.items():
        energy *= 1.0 if rank is None else layers[name].energy[rank]
        cost += layers[name].whole if rank is None else layers[name].costs[rank]
    return energy, cost


@pytest.mark.parametrize("steps", [1, 2])
def test_ranks_keep_to_the_cost_and_are_nearly_the_best(steps: int) -> None:
    random, equal, tried = np.random.default_rng(11), 0, 0
    for _ in range(40):
        layers = {name: choices(random, int(random.integers(3, 8)), steps=steps) for name in "abc"}
        whole = sum(each.whole for each in layers.values())
        limit = whole * random.uniform(0.4, 0.9)
        options = [[None, *range(1, len(each.costs))] for each in layers.values()]
        every = [product(layers, dict(zip(layers, ranks))) for ranks in itertools.product(*options)]
        if min(cost for _, cost in every) > limit:
            with pytest.raises(CompressionError, match="cannot be reached"):
                select_ranks(layers, limit)
            continue
        best = max(energy for energy, cost in every if cost <= limit)
        energy, cost = product(layers, select_ranks(layers, limit))
        assert cost <= limit
        assert energy >= 0.93 * best
        equal, tried = equal + (energy == pytest.approx(best)), tried + 1
    assert tried >= 25
    assert equal >= 0.8 * tried


def test_layers_that_cost_the_same_are_computed_once_and_ranks_follow_the_energy() -> None:
    energy = np.array([0, 0.5, 0.8, 1.0])
    assert [rank_for_energy(energy, share) for share in (0.1, 0.5, 0.51, 0.999)] == [1, 1, 2, 3]
    graph = network(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)), shape=(8, 6, 6))
    calls = []

    def counting(part: Graph) -> dict[str, float]:
        calls.append(part)
        return mac_costs(part)

    model = CostModel("MACs", counting)
    plan = plan_layers(graph, layers_of(graph), model, None, {"conv": "svd", "fc": "svd"})
    assert len(calls) == 9  # the layer as it is, and eight ranks
    for speedup in (1.5, 3.0):
        found = approximate(graph, plan, plan.ranks_for(speedup), None)
        before, after = (sum(mac_costs(each).values()) for each in (graph, found.graph))
        assert after <= before / speedup
        assert [layer.cost[1] for layer in found.layers] == [
            sum(mac_costs(found.graph)[part] for part in layer.parts) for layer in found.layers
        ]


def test_layers_that_are_left_alone_and_why() -> None:
    graph = network(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 1, 3),
        nn.ReLU(),
        nn.Conv2d(1, 2, 1),
        shape=(4, 10, 10),
    )
    plan = plan_layers(graph, layers_of(graph), MACS, None, {"conv": "svd", "fc": "svd"})
    assert list(plan.left.values()) == [
        "it is depthwise",
        "its filters are in 2 groups",
        "its rank is 1 already",
        "its rank is 1 already",
    ]
    with pytest.raises(CompressionError, match="cannot be reached: with the least ranks it is 1;"):
        plan.ranks_for(2)


def test_cycles_of_a_machine_decide() -> None:
    graph = network(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3), shape=(16, 12, 12))
    cycles = GraphCycles(Machine(), MemorySettings())
    found = cycles(graph)
    assert list(found) == [node.name for node in graph.nodes]
    model = CostModel("cycles", cycles, step=4, most=4)
    plan = plan_layers(graph, layers_of(graph), model, None, {"conv": "svd", "fc": "svd"})
    low = approximate(graph, plan, plan.ranks_for(1.5), None).graph
    assert sum(cycles(low).values()) < sum(found.values()) / 1.3
    node = graph.nodes[0]
    assert isinstance(node, Convolution)
    with pytest.raises(CompileError):
        cycles(replace(graph, nodes=[replace(node, stride=(999, 1)), *graph.nodes[1:]]))


def test_ranks_that_are_given() -> None:
    graph = small()
    first, second, *_ = names = list(layers_of(graph))
    energies = {name: np.linspace(0, 1, 11) for name in names[:3]}
    assert given_ranks(f"0.5,{first}=3", graph, energies) == {first: 3, second: 5, names[2]: 5}
    assert given_ranks("conv=99", graph, energies) == {}
    for text, message in {
        f"{first}=0": "must be above 0",
        f"{first}=11": "is above its full rank of 10",
        f"{first}=2.5": "must be a whole number, or a share",
        "other=3": "fits no layer",
        "x": "is no rank",
    }.items():
        with pytest.raises(CompressionError, match=message):
            given_ranks(text, graph, energies)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, images with labels and without, and a network in which nothing can be cheaper."""
    folder = tmp_path_factory.mktemp("lowrank")
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 120)
    pixels = np.where(labels[:, None, None] == 1, np.mgrid[:8, :8][0] % 2, np.mgrid[:8, :8][1] % 2) * 200
    pixels = (pixels + random.integers(0, 56, pixels.shape)).astype(np.uint8)
    np.savez(folder / "data.npz", images=pixels, labels=labels)
    np.savez(folder / "unlabelled.npz", images=pixels)
    np.savez(folder / "few.npz", images=pixels[:1])
    graph = network(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(192, 16),
        nn.ReLU(),
        nn.Linear(16, 2),
        shape=(1, 8, 8),
    )
    write_float_model(graph, folder / "net.onnx")
    wide = network(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3), shape=(1, 8, 8))
    write_float_model(wide, folder / "wide.onnx")
    write_float_model(network(nn.Conv2d(2, 2, 3, groups=2), shape=(2, 8, 8)), folder / "groups.onnx")
    return folder


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with these files, to work in."""
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lowrank(*options: str) -> int:
    return main(["lowrank", "net.onnx", "--divide", "255", "--quiet", "--batch", "32", *options])


def names_of(path: str) -> list[str]:
    return list(layers_of(import_model(path)))


def test_from_a_network_to_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--data unlabelled.npz --cost macs --speedup 2 --test data.npz -o low.onnx --json low.json"
    assert lowrank(*options.split()) == 0
    text = capsys.readouterr().out
    assert "seed 1" in text
    assert "energy %" in text
    assert "top-1 on 120 test images: " in text
    report = json.loads(Path("low.json").read_text())
    before, after = (sum(mac_costs(import_model(path)).values()) for path in ("net.onnx", "low.onnx"))
    assert report["cost"] == [before, after]
    assert after <= before / 2
    content = Path("low.onnx").read_bytes()
    assert lowrank(*options.split()) == 0
    assert Path("low.onnx").read_bytes() == content
    assert main(["inspect", "low.onnx"]) == 0
    command = "calibrate low.onnx --data data.npz --images 8 --divide 255 --quiet -o fixed.onnx"
    assert main(command.split()) == 0
    assert not list(here.glob("*.part"))


def test_cycles_ranks_and_the_three_dimensional_form(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conv = names_of("wide.onnx")[1]
    command = f"lowrank wide.onnx --data unlabelled.npz --divide 255 --quiet -o low.onnx --spatial {conv}=24"
    assert main([*command.split(), "--share", "0.95", "--layers", "conv"]) == 0
    text = capsys.readouterr().out
    assert "cycles" in text
    assert "(24 between)" in text
    assert f"{conv}/vertical" in names_of("low.onnx")
    conv = names_of("net.onnx")[1]
    assert lowrank("--method", "svd", "--cost", "macs", "--ranks", f"fc=4,{conv}=5", "-o", "plain.onnx") == 0
    weights = {name: node.weight.shape for name, node in layers_of(import_model("plain.onnx")).items()}
    assert weights[f"{conv}/low"] == (5, 8, 3, 3)
    assert len(weights) == 6  # the last layer's full rank is 2
    assert "stays as it is" in capsys.readouterr().out


def test_an_interrupted_fine_tuning_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", "data.npz", "--cost", "macs", "--speedup", "2", "--epochs", "3"]
    options += ["--learning-rate", "3e-3"]
    assert lowrank(*options, "-o", "straight.onnx", "--json", "low.json") == 0
    assert json.loads(Path("low.json").read_text())["accuracy"]["validation"]["fine_tuned"] > 0.8
    graph = import_model("straight.onnx")
    assert not any(node.bias.any() for name, node in layers_of(graph).items() if name.endswith("/low"))
    from quant.compression.checkpoint import Checkpoint

    save = Checkpoint.save

    def interrupt(self: Checkpoint, state: dict) -> None:
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", interrupt)
        assert lowrank(*options, "-o", "resumed.onnx") == 130
    assert Path("resumed.onnx.checkpoint").exists()
    assert not Path("resumed.onnx").exists()
    capsys.readouterr()
    assert lowrank(*options, "-o", "resumed.onnx") == 0
    assert "going on from resumed.onnx.checkpoint" in capsys.readouterr().out
    assert not Path("resumed.onnx.checkpoint").exists()
    assert Path("resumed.onnx").read_bytes() == Path("straight.onnx").read_bytes()


IMAGES = "--data unlabelled.npz --speedup 2"
DATA = "--data unlabelled.npz --cost macs -o p.onnx"
FAILURES = {
    "rank 0": (f"{DATA} --ranks {{conv}}=0", "a rank must be above 0, not 0"),
    "rank above full": (f"{DATA} --ranks {{conv}}=13", "a rank of 13 is above its full rank of 12"),
    "unknown layer": (f"{DATA} --ranks fc9=3", "fc9=3 fits no layer with weights; there are "),
    "unknown layers": (f"{DATA} --speedup 2 --layers fc9", "--layers: fc9 fits no layer"),
    "no labels": (f"{DATA} --speedup 2 --epochs 1", "it has no labels"),
    "shift": (f"{DATA} --data data.npz --speedup 2 --epochs 1 --shift 12", "cannot be shifted by 12"),
    "no images": ("--speedup 2 --cost macs -o p.onnx", "give --data"),
    "training without images": ("--speedup 2 --epochs 1 -o p.onnx", "need images; give --data"),
    "few images": (f"{DATA} --data few.npz --positions 2 --speedup 2", "are too few for"),
    "out of reach": (f"{DATA} --speedup 900", "a speedup of 900 cannot be reached: with the least"),
    "no speedup": (f"{DATA} --speedup 1", "--speedup must be above 1"),
    "no share": (f"{DATA} --share 1", "--share must be above 0 and below 1"),
    "nothing to do": (f"{DATA} --ranks {{conv}}=12", "no layer is to be approximated"),
    "spatial": (f"{DATA} --speedup 2 --spatial {{last}}=3", "its kernel cannot be split"),
    "machine": (f"{IMAGES} --machine none.json -o p.onnx", "not a machine's description"),
    "board": (f"{IMAGES} --board none -o p.onnx", "no board is called none"),
    "board of MACs": (f"{DATA} --speedup 2 --board ulx3s-85f", "say nothing of --cost macs"),
    "same file": (f"{IMAGES} --cost macs -o net.onnx", "is given twice"),
    "folder": (f"{IMAGES} --cost macs -o none/p.onnx", "the folder none does not exist"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_errors_are_one_line_and_leave_nothing(
    here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options, message = FAILURES[name]
    names, before = names_of("net.onnx"), sorted(here.iterdir())
    assert lowrank(*options.format(conv=names[1], last=names[-1]).split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(here.iterdir()) == before


def test_a_network_in_which_nothing_gets_cheaper(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "lowrank groups.onnx --method svd --cost macs --ranks 1 -o p.onnx --quiet"
    assert main(command.split()) == 1
    assert "no layer gets cheaper: " in capsys.readouterr().err


@pytest.mark.parametrize("options", ["--speedup 2 --share 0.5", "--speedup x", "--ranks 1 --method pca", ""])
def test_wrong_usage(here: Path, options: str) -> None:
    with pytest.raises(SystemExit) as caught:
        lowrank("-o", "p.onnx", *options.split())
    assert caught.value.code == 2


@pytest.mark.parametrize("command", ["lowrank", "prune", "compress"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "(default: 10% of --data" in " ".join(capsys.readouterr().out.split())
