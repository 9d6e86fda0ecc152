"""What the tests of the front ends share: a graph must mean what onnxruntime says of its model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from quant.float_run import run_float
from quant.graph import Graph
from quant.onnx_import import import_with_aliases


def _host(values: np.ndarray, operations: tuple[str, ...]) -> np.ndarray:
    for operation in operations:
        if operation == "Transpose":
            values = np.moveaxis(values, 0, -1)
        elif operation == "ArgMax":
            values = values.argmax(-1)
        else:
            shifted = values - values.max(-1, keepdims=True)
            values = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
            values = np.exp(values) if operation == "Softmax" else values
    return values


def run_onnx(model: onnx.ModelProto | Path, image: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        str(model) if isinstance(model, Path) else model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    return session.run(None, {session.get_inputs()[0].name: image})[0]


@pytest.fixture(scope="session")
def same_meaning() -> Callable[..., Graph]:
    """Import a model, run graph and model on random images, compare, and return the graph."""

    def check(
        model: onnx.ModelProto | Path,
        *,
        boundaries: frozenset[str] = frozenset(),
        low: float = -2.0,
        high: float = 2.0,
        input_shape: tuple[int, int, int] | None = None,
    ) -> Graph:
        graph, _ = import_with_aliases(model, boundaries=boundaries, input_shape=input_shape)
        proto = onnx.load(model) if isinstance(model, Path) else model
        stored = {tensor.name for tensor in proto.graph.initializer}
        rank = len(
            next(value for value in proto.graph.input if value.name not in stored).type.tensor_type.shape.dim
        )
        random = np.random.default_rng(5)
        for _ in range(2):
            image = random.uniform(low, high, graph.shapes[graph.input]).astype(np.float32)
            given = image.transpose(1, 2, 0) if graph.input_layout == "NHWC" else image
            given = {4: given[None], 3: given, 2: given.reshape(1, -1), 1: given.reshape(-1)}[rank]
            expected = run_onnx(model, np.ascontiguousarray(given))
            tensors = run_float(graph, torch.from_numpy(image[None]))
            for name, values in tensors.items():
                assert tuple(values.shape[1:]) == graph.shapes[name], name
            computed = _host(tensors[graph.output].numpy().reshape(graph.output_shape), graph.host_operations)
            assert computed.size == expected.size
            scale = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(computed.reshape(-1) / scale, expected.reshape(-1) / scale, atol=2e-5)
        names = [node.name for node in graph.nodes]
        assert len(set(names)) == len(names)
        assert {node.output for node in graph.nodes} | {graph.input} == set(graph.shapes)
        return graph

    return check
