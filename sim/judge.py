"""onnxruntime as the judge: the integers that it computes for every tensor of a QDQ file.

Graph optimizations are off: the fused 8-bit kernels saturate intermediate sums on processors
without VNNI.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quant.fixed_model import FixedModel, inexact_in_float32
from quant.qdq_strip import strip_qdq
from sim.reference import Integers, steps

__all__ = [
    "Difference",
    "OutputJudge",
    "Verdict",
    "as_file_input",
    "compare_with_onnxruntime",
    "first_difference",
    "onnxruntime_tensors",
    "open_session",
    "run_session",
]


@dataclass(frozen=True)
class Difference:
    """The first element at which two computations of a tensor differ.

    ``index`` is (image, channel, row, column); ``count`` elements differ in all.
    """

    tensor: str
    index: tuple[int, ...]
    expected: int
    found: int
    count: int

    def __str__(self) -> str:
        place = f"{self.tensor}{list(self.index)}"
        return f"{place}: {self.found}, not {self.expected} ({self.count} elements differ)"


@dataclass
class Verdict:
    """Outcome of a comparison, tensor by tensor.

    Attributes
    ----------
    compared : list of str
        Tensors that were compared and count, in execution order.
    not_counted : list of str
        Tensors whose sums can pass 2^24 units, where float arithmetic may round, and those computed
        from them: onnxruntime is no judge of these.  Also those for which the file has no integers.
    differences : list of Difference
        One for each compared tensor that differs, in execution order: the first is the cause.
    """

    compared: list[str]
    not_counted: list[str]
    differences: list[Difference]

    @property
    def equal(self) -> bool:
        """Whether all tensors that count are equal."""
        return not self.differences


def first_difference(
    tensor: str, expected: NDArray[np.integer], found: NDArray[np.integer]
) -> Difference | None:
    """Where two (N, C, H, W) tensors first differ; None if they are equal."""
    wrong = np.argwhere(expected != found)
    if not len(wrong):
        return None
    index = tuple(int(position) for position in wrong[0])
    return Difference(tensor, index, int(expected[index]), int(found[index]), len(wrong))


def open_session(proto: onnx.ModelProto | str | Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU without graph optimizations; ``threads`` 0: its default."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    content = proto.SerializeToString() if isinstance(proto, onnx.ModelProto) else str(proto)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def as_file_input(model: FixedModel, inputs: Integers) -> NDArray[np.float32]:
    """The float batch, in the order of the file's input, that stands for integers (N, C, H, W)."""
    real = model.formats[model.graph.input].dequantize(inputs)
    return np.ascontiguousarray(real.transpose(0, 2, 3, 1)) if model.graph.input_layout == "NHWC" else real


def run_session(
    session: onnxruntime.InferenceSession, names: list[str] | None, inputs: NDArray[np.float32]
) -> list[NDArray]:
    """Outputs of a session for a batch; one image at a time if the file wants a batch of one.

    Images are reshaped to the rank of the file's input.
    """
    wanted = session.get_inputs()[0]
    fixed_batch = wanted.shape[0] if wanted.shape and isinstance(wanted.shape[0], int) else None
    sizes = [size if isinstance(size, int) else -1 for size in wanted.shape[1:]]
    if sizes and len(sizes) != inputs.ndim - 1 and sizes.count(-1) <= 1:
        inputs = inputs.reshape(len(inputs), *sizes)
    step = len(inputs) if fixed_batch is None else fixed_batch
    results = [
        session.run(names, {wanted.name: inputs[start : start + step]})
        for start in range(0, len(inputs), max(step, 1))
    ]
    return [np.concatenate(parts) for parts in zip(*results)]


def onnxruntime_tensors(
    path: str | Path | onnx.ModelProto, inputs: NDArray[np.float32]
) -> dict[str, NDArray]:
    """The integers of every quantized feature map, by the name of its float tensor, as the file shapes them.

    ``inputs`` is a float batch as the file's input wants it.
    """
    proto = path if isinstance(path, onnx.ModelProto) else onnx.load(path)
    integers = strip_qdq(proto).integers
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    kinds = _integer_types(proto)
    names = list(dict.fromkeys(integers.values()))
    shown.graph.output.extend(helper.make_tensor_value_info(name, kinds[name], None) for name in names)
    found = dict(zip(names, run_session(open_session(shown), names, inputs)))
    return {tensor: found[name] for tensor, name in integers.items()}


def _integer_types(proto: onnx.ModelProto) -> dict[str, int]:
    """Element type of each output of a QuantizeLinear, and of a Clip behind it."""
    constants = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t.data_type
    kinds: dict[str, int] = {}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            attributes = {attribute.name: attribute.i for attribute in node.attribute}
            default = attributes.get("output_dtype", 0) or TensorProto.UINT8
            kinds[node.output[0]] = constants[node.input[2]] if len(node.input) > 2 else default
        elif node.op_type == "Clip" and node.input[0] in kinds:
            kinds[node.output[0]] = kinds[node.input[0]]
    return kinds


def compare_with_onnxruntime(
    model: FixedModel, path: str | Path | onnx.ModelProto, inputs: Integers
) -> Verdict:
    """Compare the reference with onnxruntime on the file of the same model, tensor by tensor.

    ``inputs`` are the integers of the network's input, (N, C, H, W).
    """
    graph = model.graph
    channels_last = graph.input_layout == "NHWC"
    found = onnxruntime_tensors(path, as_file_input(model, inputs))
    doubtful = set(inexact_in_float32(model))
    for node in graph.nodes:
        if doubtful & set(node.inputs):
            doubtful.add(node.output)
    verdict = Verdict([], [], [])
    for tensor, expected in steps(model, inputs):
        # files of other tools need not quantize what a layer only moves: there is nothing to compare then
        if tensor in doubtful or tensor not in found:
            verdict.not_counted.append(tensor)
            continue
        values = found[tensor].astype(np.int64)
        if (values.ndim == 4 and values.shape != expected.shape) or (tensor == graph.input and channels_last):
            values = values.transpose(0, 3, 1, 2)  # the file keeps channels last here
        verdict.compared.append(tensor)
        difference = first_difference(tensor, expected, values.reshape(expected.shape))
        if difference is not None:
            verdict.differences.append(difference)
    return verdict


class OutputJudge:
    """onnxruntime's integers of a file's output for prepared float batches (N, C, H, W)."""

    def __init__(self, path: str | Path, model: FixedModel):
        proto = onnx.load(path)
        self.name = strip_qdq(proto).integers[model.graph.output]
        proto.graph.output.append(
            helper.make_tensor_value_info(self.name, _integer_types(proto)[self.name], None)
        )
        self.session = open_session(proto)
        self.channels_last = model.graph.input_layout == "NHWC"

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.int64]:
        if self.channels_last:
            batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        return run_session(self.session, [self.name], batch)[0].astype(np.int64)
