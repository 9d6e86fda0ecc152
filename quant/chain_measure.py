"""What a stage of a chain of compressions is worth: accuracy in fixed point, bytes, cycles on the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.calibrate import calibrate
from quant.compression.error import CompressionError
from quant.data import images_per_batch, load_images, prepare
from quant.encoding import StoredLayer, encode_layer, weight_file_bytes
from quant.evaluate import evaluate
from quant.fixed_model import FixedModel, Preparation
from quant.graph import Shape
from quant.onnx_import import import_model
from quant.qdq import write_fixed_model

__all__ = ["Measure", "Stage"]

_CALIBRATION_IMAGES = 200


@dataclass(frozen=True)
class Stage:
    """A model of the chain.

    Attributes
    ----------
    step, file, fixed_file : str
        What made it; the float model and its calibration.
    float_top1, fixed_top1 : float
        Accuracy of the float model and of `sim.reference` with 8 bits, shares of 1.
    kept : float
        Share of weights whose integers are not zero.
    float_bytes, file_bytes : int
        Of all weights and biases in 32-bit floats; of the file with Huffman codes that holds the fixed-point
        weights.
    program_bytes : int
        Of weights and parameters in a program for a machine with a weight decoder.
    cycles : int
        Of that program, estimated.
    """

    step: str
    file: str
    fixed_file: str
    float_top1: float
    fixed_top1: float
    kept: float
    float_bytes: int
    file_bytes: int
    program_bytes: int
    cycles: int

    def dominates(self, other: Stage) -> bool:
        """Whether it is at least as good in accuracy, bytes and cycles, and better in one of them."""
        own, theirs = ((stage.fixed_top1, -stage.file_bytes, -stage.cycles) for stage in (self, other))
        return own != theirs and all(mine >= their for mine, their in zip(own, theirs, strict=True))

    def to_json(self) -> dict[str, Any]:
        """The stage as a JSON object."""
        return asdict(self)


class Measure:
    """Calls measure a float model.

    Parameters
    ----------
    folder : Path
        For the fixed-point models.
    data, test : str
        Images to calibrate with; labelled ones to measure accuracy on.
    preparation : Preparation or None
    layout : str or None
    memory : str
        Memory setting (`sim.memory_settings`) that cycles are for.

    Raises
    ------
    DataError, MemorySettingsError
        If images cannot be read, or there is no such memory.
    CompressionError
        If the test images have no labels, or what cycles need is not installed.
    """

    def __init__(
        self,
        folder: Path,
        data: str,
        test: str,
        preparation: Preparation | None,
        layout: str | None,
        memory: str,
    ) -> None:
        # the compiler comes after this package; here it is only asked what the result costs
        try:
            from sim.memory_settings import memory_settings
        except ImportError as error:
            raise CompressionError(f"{error.name} is not installed: pip install pointshift[all]") from None
        self.folder, self.layout = folder, layout
        self.preparation = preparation or Preparation()
        self.memory = memory_settings(memory)
        self.images = load_images(data).spread(_CALIBRATION_IMAGES)
        self.test = load_images(test)
        if self.test.labels is None:
            raise CompressionError(f"{self.test.name}: it has no labels, and accuracy needs them")

    def __call__(self, file: Path, step: str, shape: Shape | None) -> Stage:
        """Calibrate, write the fixed-point model, measure."""
        graph = import_model(file, input_shape=shape)

        def batches() -> Iterator[NDArray[np.float32]]:
            size = images_per_batch(graph)
            own = graph.shapes[graph.input]
            return prepare(self.images, self.preparation, own, graph.input_layout, self.layout, size)

        model, _ = calibrate(graph, batches(), preparation=self.preparation)
        fixed_file = self.folder / f"{file.stem}.fixed.onnx"
        write_fixed_model(model, fixed_file)
        found = evaluate(model, fixed_file, self.test, graph, layout=self.layout)
        assert found.float_top1 is not None  # there are labels
        assert found.fixed_top1 is not None
        weights = list(model.weights.values())
        count = sum(each.values.size for each in weights)
        program_bytes, cycles = self._program(model)
        return Stage(
            step,
            str(file),
            str(fixed_file),
            found.float_top1,
            found.fixed_top1,
            sum(int(np.count_nonzero(each.values)) for each in weights) / count,
            4 * (count + sum(each.bias.size for each in weights)),
            len(_stored(model)),
            program_bytes,
            cycles,
        )

    def _program(self, model: FixedModel) -> tuple[int, int]:
        from compiler.compile import place_instructions
        from compiler.estimate import estimate
        from hw.machine import Machine

        machine = Machine(weight_decoder=True)
        placed = place_instructions(model, machine, store_all=False)
        cycles = estimate(placed.instructions, machine, self.memory).cycles
        return placed.schedule.weights.byte_count, cycles


def _stored(model: FixedModel) -> bytes:
    """The file of the fixed-point weights, as integers, and biases."""
    return weight_file_bytes(
        StoredLayer(name, encode_layer(each.values.astype(np.float32)), each.bias.astype(np.float32))
        for name, each in model.weights.items()
    )
