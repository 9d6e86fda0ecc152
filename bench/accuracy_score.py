"""Top-1 accuracy and agreement with the float network: how every row of the accuracy table is scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.accuracy_data import AccuracyNetwork
from quant.data import prepare
from quant.fixed_model import FixedModel
from quant.graph import Graph
from sim.judge import open_session, run_session
from sim.reference import prepare_input, run

__all__ = ["Answers", "Score", "fixed_answers", "float_answers", "score", "session_answers"]

#: Class with the largest output for each evaluation image, (N,); of equal outputs, the first.
Answers = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """Shares of 1 over the evaluation images.

    Attributes
    ----------
    top1 : float or None
        Images whose label is the largest output; None without labels.
    agreement : float
        Images whose largest output is that of the float network.
    """

    top1: float | None
    agreement: float


def score(answers: Answers, float_network: Answers, network: AccuracyNetwork) -> Score:
    """Score answers (N,) on the evaluation set, given those of the float network."""
    labels = network.evaluation.labels if network.labelled else None
    return Score(
        None if labels is None else float(np.mean(answers == labels)),
        float(np.mean(answers == float_network)),
    )


def session_answers(model: onnx.ModelProto | str, network: AccuracyNetwork, channels_last: bool) -> Answers:
    """Answers of an ONNX model in onnxruntime, without graph optimizations.

    Optimizations are off because the fused 8-bit kernels saturate intermediate sums on processors
    without VNNI, which would count against the quantization.
    """
    session = open_session(model)
    answers = []
    layout = "NHWC" if channels_last else "NCHW"
    for batch in network.batches(network.evaluation, layout):
        values = np.ascontiguousarray(batch.transpose(0, 2, 3, 1)) if channels_last else batch
        answers.append(run_session(session, None, values)[0].reshape(len(batch), -1).argmax(1))
    return np.concatenate(answers)


def float_answers(network: AccuracyNetwork, graph: Graph) -> Answers:
    """Answers of the float network in onnxruntime; ``graph`` is what `AccuracyNetwork.graph` gave."""
    return session_answers(str(network.model), network, graph.input_layout == "NHWC")


def fixed_answers(network: AccuracyNetwork, model: FixedModel) -> Answers:
    """Answers of a fixed-point model in `sim.reference`, its images prepared as it records."""
    graph = model.graph
    shape = graph.shapes[graph.input]
    answers = []
    for batch in prepare(network.evaluation, model.preparation, shape, graph.input_layout, batch_size=50):
        outputs = run(model, prepare_input(model, batch), {graph.output})[graph.output]
        answers.append(outputs.reshape(len(batch), -1).argmax(1))
    return np.concatenate(answers)
