"""Writes the Brevitas exports beside this file; they were made with Brevitas 0.13.0 and torch 2.13.0.

Brevitas and onnxoptimizer are no dependencies of the project: run this where they are installed,
``python tests/quant/brevitas/export_fixtures.py``.
"""

from __future__ import annotations

from pathlib import Path

import brevitas.nn as qnn  # pyright: ignore[reportMissingImports]
import onnx
import torch
from brevitas.export import export_onnx_qcdq  # pyright: ignore[reportMissingImports]
from brevitas.graph.calibrate import calibration_mode  # pyright: ignore[reportMissingImports]
from brevitas.quant.fixed_point import (  # pyright: ignore[reportMissingImports]
    Int8ActPerTensorFixedPoint,
    Int8WeightPerChannelFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from brevitas.quant.scaled_int import Int32Bias  # pyright: ignore[reportMissingImports]
from torch import nn

FOLDER = Path(__file__).parent
#: Name, per channel, bits of weights, bits of feature maps, torch.export based exporter (no biases there).
VARIANTS = (
    ("tensor_w8a8", False, 8, 8, False),
    ("channel_w8a8", True, 8, 8, False),
    ("tensor_w4a8", False, 4, 8, False),
    ("channel_w4a4", True, 4, 4, False),
    ("channel_w8a8_dynamo", True, 8, 8, True),
)


class Network(nn.Module):
    """Convolutions, a residual, MaxPool, a concatenation, average pooling and a fully connected layer."""

    def __init__(self, per_channel: bool, weight_bits: int, bits: int, biases: bool) -> None:
        super().__init__()
        signed, unsigned = Int8ActPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
        layer = {
            "weight_quant": Int8WeightPerChannelFixedPoint if per_channel else Int8WeightPerTensorFixedPoint,
            "weight_bit_width": weight_bits,
            "bias": biases,
            "bias_quant": Int32Bias if biases else None,
        }

        def relu() -> nn.Module:
            return qnn.QuantReLU(act_quant=unsigned, bit_width=bits, return_quant_tensor=True)

        self.input = qnn.QuantIdentity(act_quant=signed, return_quant_tensor=True)
        self.first = qnn.QuantConv2d(3, 6, 3, padding=1, **layer)
        self.first_relu = relu()
        self.depthwise = qnn.QuantConv2d(6, 6, 3, padding=1, groups=6, **layer)
        self.add = qnn.QuantEltwiseAdd(input_quant=signed, output_quant=signed, return_quant_tensor=True)
        self.point = qnn.QuantConv2d(6, 6, 1, **layer)
        self.point_relu = relu()
        self.pool = nn.MaxPool2d(2)
        self.last = qnn.QuantConv2d(6, 4, 1, **layer)
        self.last_relu = relu()
        self.shared = qnn.QuantIdentity(act_quant=unsigned, return_quant_tensor=True)
        self.average = nn.AvgPool2d(2)
        self.averaged = qnn.QuantIdentity(act_quant=unsigned, return_quant_tensor=True)
        self.classifier = qnn.QuantLinear(10 * 4, 5, output_quant=signed, **layer)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scores of five classes for images (N, 3, 8, 8)."""
        values = self.first_relu(self.first(self.input(image)))
        values = self.add(self.depthwise(values), values)
        values = self.pool(self.point_relu(self.point(values)))
        values = torch.cat([self.shared(values), self.shared(self.last_relu(self.last(values)))], dim=1)
        values = self.averaged(self.average(values))
        return self.classifier(values.flatten(1))


def without_traces(path: Path) -> None:
    """Remove the stack traces that torch's newer exporter records: five times as large as the network."""
    proto = onnx.load(path)
    graph = proto.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(proto, path)


def main() -> None:
    """Write every variant."""
    for name, per_channel, weight_bits, bits, dynamo in VARIANTS:
        torch.manual_seed(0)
        network = Network(per_channel, weight_bits, bits, biases=not dynamo).eval()
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):  # channels of different sizes
                    layer.weight *= torch.pow(0.5, torch.arange(len(layer.weight)) % 3).view(
                        -1, *[1] * (layer.weight.ndim - 1)
                    )
        with torch.no_grad(), calibration_mode(network):
            network(torch.randn(32, 3, 8, 8))
        path = FOLDER / f"{name}.onnx"
        export_onnx_qcdq(
            network,
            args=torch.randn(1, 3, 8, 8),
            export_path=str(path),
            dynamo=dynamo,
            **({"external_data": False} if dynamo else {"opset_version": 17}),
        )
        without_traces(path)


if __name__ == "__main__":
    main()
