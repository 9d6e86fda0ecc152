"""onnxruntime's static quantizer: 8-bit QDQ with float scales, all its usual settings.

Its scales are any float numbers, and with asymmetric feature maps its zero points any integers; neither
runs on a machine that only shifts.  It is what the networks lose at 8 bits without those restrictions.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from bench.accuracy_data import AccuracyNetwork
from bench.accuracy_score import Answers, Score, score, session_answers

__all__ = ["Setting", "SettingResult", "best", "settings", "sweep"]

_METHODS = {
    "MinMax": CalibrationMethod.MinMax,
    "Entropy": CalibrationMethod.Entropy,
    "Percentile": CalibrationMethod.Percentile,
}


@dataclass(frozen=True)
class Setting:
    """One way to call ``quantize_static``.

    Attributes
    ----------
    method : str
        Calibration method: ``"MinMax"``, ``"Entropy"`` or ``"Percentile"``.
    per_channel : bool
        One weight scale for each output channel.
    symmetric : bool
        Feature maps without zero points, in int8; else in uint8 with zero points.
    """

    method: str
    per_channel: bool
    symmetric: bool

    def __str__(self) -> str:
        return f"{self.method}, {'per channel' if self.per_channel else 'per layer'}"


@dataclass(frozen=True)
class SettingResult:
    """What a setting reaches; ``seconds`` are those of ``quantize_static``."""

    setting: Setting
    score: Score
    seconds: float


def settings() -> list[Setting]:
    """All settings of the sweep."""
    return [Setting(*choice) for choice in itertools.product(_METHODS, (False, True), (True, False))]


def sweep(
    network: AccuracyNetwork, float_network: Answers, channels_last: bool
) -> Iterator[SettingResult]:
    """Quantize with every setting and score it on the evaluation images.

    Parameters
    ----------
    float_network : int array (N,)
        The float network's answers.
    channels_last : bool
        Whether the file's input is NHWC.
    """
    # it warns of every tensor whose bias scale it adjusts
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        # folds batch norm; its symbolic shape inference needs another package and is for transformers
        quant_pre_process(network.model, prepared, skip_symbolic_shape=True)
        proto = onnx.load(prepared)
        name = proto.graph.input[0].name
        # in 8 bits, a Softmax makes the largest scores equal: left in float, in the peer's favour
        excluded = [node.name for node in proto.graph.node if node.op_type == "Softmax"]
        layout = "NHWC" if channels_last else "NCHW"
        images = [
            np.ascontiguousarray(batch.transpose(0, 2, 3, 1)) if channels_last else batch
            for batch in network.batches(network.calibration, layout, batch_size=1)
        ]
        for setting in settings():
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
                quantize_static(
                    prepared,
                    quantized,
                    _Reader(name, images),
                    quant_format=QuantFormat.QDQ,
                    nodes_to_exclude=excluded,
                    per_channel=setting.per_channel,
                    activation_type=QuantType.QInt8 if setting.symmetric else QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=_METHODS[setting.method],
                    extra_options={"ActivationSymmetric": setting.symmetric, "WeightSymmetric": True},
                )
            seconds = time.perf_counter() - began
            answers = session_answers(str(quantized), network, channels_last)
            yield SettingResult(setting, score(answers, float_network, network), seconds)


def best(results: list[SettingResult], symmetric: bool) -> SettingResult:
    """The result with the highest top-1 (agreement, if there are no labels; and to break ties)."""
    return max(
        (result for result in results if result.setting.symmetric == symmetric),
        key=lambda result: (result.score.top1 or 0.0, result.score.agreement),
    )


class _Reader(CalibrationDataReader):
    """Gives the quantizer prepared images, one at a time."""

    def __init__(self, name: str, images: list[NDArray[np.float32]]) -> None:
        self.batches = iter([{name: image} for image in images])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:  # type: ignore[override]
        return next(self.batches, None)
