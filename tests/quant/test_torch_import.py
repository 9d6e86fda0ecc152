"""Torch modules, through both of torch's exporters, against the module itself and onnxruntime."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.float_run import run_float
from quant.graph import Activation, Add, AveragePool, Concat, Convolution, Graph, MaxPool, Select
from quant.onnx_import import ModelError, import_model
from quant.torch_import import export_module, import_module


class ResidualBlock(nn.Module):
    """ResNet's basic block with batch norm and the parameter-free shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))


class InvertedResidual(nn.Module):
    """MobileNetV2's block."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(8, 24, 1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU6(),
            nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU6(),
            nn.Conv2d(24, 8, 1, bias=False),
            nn.BatchNorm2d(8),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Fire(nn.Module):
    """SqueezeNet's module behind a pool in ceil mode."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.one, self.three = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(self.pool(x)))
        return torch.cat([functional.relu(self.one(x)), functional.relu(self.three(x))], 1)


class Preactivation(nn.Module):
    """Batch norm in front of the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.bn2, self.point = nn.BatchNorm2d(8), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point(self.bn2(x + self.conv(functional.relu(self.bn(x)))))


class Shuffle(nn.Module):
    """ShuffleNetV2's unit: half of the channels pass by, then all are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        y = torch.cat([left, functional.relu(self.conv(right))], 1)
        n, c, h, w = y.shape
        return nn.functional.avg_pool2d(y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w), 2)


class Classifier(nn.Module):
    """A head with mean over pixels, view, dropout and softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(8, 12, 3), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardtanh(self.conv(x), -1, 1).mean((2, 3))
        return functional.softmax(
            self.linear(functional.dropout(x.view(x.size(0), -1), 0.5, self.training)), 1
        )


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(8, 6, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(6, 10, 3),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(40, 20),
        nn.BatchNorm1d(20),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(20, 7),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[type]]] = {
    "residual": (ResidualBlock, [Convolution, Convolution, Select, Add]),
    "inverted": (InvertedResidual, [Convolution, Convolution, Convolution, Add]),
    "fire": (Fire, [MaxPool, Convolution, Convolution, Convolution, Concat]),
    "preactivation": (Preactivation, [Convolution, Convolution, Add, Convolution]),
    "shuffle": (Shuffle, [Select, Convolution, Select, Concat, Convolution, AveragePool]),
    "classifier": (Classifier, [Convolution, AveragePool, Convolution]),
    "lenet": (lenet, [Convolution, MaxPool, Convolution, AveragePool, Convolution, Convolution]),
    "adaptive": (
        lambda: nn.Sequential(nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        [Convolution, AveragePool, Convolution],
    ),
}


def network(name: str) -> nn.Module:
    torch.manual_seed(3)
    module = NETWORKS[name][0]()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.uniform_(part.bias, -1, 1)
    return module


@pytest.mark.parametrize("name", NETWORKS)
def test_module_means_the_same(name: str) -> None:
    module = network(name)
    graph = import_module(module, (8, 10, 10))
    assert sorted(type(node).__name__ for node in graph.nodes) == sorted(
        kind.__name__ for kind in NETWORKS[name][1]
    )
    assert all(part.training for part in module.modules())
    images = torch.randn(3, 8, 10, 10, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = module.eval()(images)
        computed = run_float(graph, images)[graph.output].reshape(3, *graph.output_shape)
    if graph.host_operations:
        computed = functional.softmax(computed, -1)
    torch.testing.assert_close(computed, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("opset", [11, 17])
def test_classic_exporter(name: str, opset: int, same_meaning: Callable[..., Graph]) -> None:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network(name).eval(),
            (torch.zeros(1, 8, 10, 10),),
            stream,
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=["result"],
            dynamic_axes={"image": {0: "batch"}, "result": {0: "batch"}},
        )
    graph = same_meaning(onnx.load_from_string(stream.getvalue()))
    assert sorted(type(node).__name__ for node in graph.nodes) == sorted(
        kind.__name__ for kind in NETWORKS[name][1]
    )


def test_activation_of_a_relu6_block() -> None:
    graph = import_module(network("inverted"), torch.zeros(1, 8, 10, 10))
    assert [node.activation for node in graph.nodes] == [
        Activation(0.0, 6.0),
        Activation(0.0, 6.0),
        Activation(),
        Activation(),
    ]


def test_import_model_takes_a_module() -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    assert len(import_module(module, (1, 6)).nodes) == 2
    assert import_model(network("lenet"), input_shape=(8, 10, 10)).output_shape == (7,)
    with pytest.raises(ModelError, match="Sequential: a torch module has no input shape"):
        import_model(module)


def test_training_mode_is_restored_part_by_part() -> None:
    module = network("lenet").train()
    module[4].eval()
    before = [part.training for part in module.modules()]
    export_module(module, (8, 10, 10))
    assert [part.training for part in module.modules()] == before


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"ResidualBlock: it does not accept an input of shape \[1, 3, 10, 10\]"
    ):
        import_module(ResidualBlock(), (3, 10, 10))


def test_module_that_cannot_be_exported() -> None:
    class Random(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.svd(x)[1] if x.sum() > 100 else torch.fft.fft(x).real

    with pytest.raises(ModelError, match="Random"):
        import_module(Random(), (1, 4, 4))
