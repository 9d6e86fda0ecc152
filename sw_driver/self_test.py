"""The self-test: tells a wrong memory from a wrong multiplier, and names the first wrong layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hw.program_file import Layer, ProgramFile, TensorPlace
from sw_driver.accelerator import Accelerator, AcceleratorError, Progress
from sw_driver.memory_test import MemoryFault, Region, exercise_memory, exercised_bytes, used_regions

__all__ = ["LayerResult", "SelfTest", "self_test", "self_test_bytes"]


@dataclass(frozen=True)
class LayerResult:
    """One layer of the known answer.

    ``result`` is ``"right"``, ``"wrong"``, or ``"overwritten"``: a later layer uses the same
    memory, so that nothing can be said.
    """

    number: int
    name: str
    result: str


@dataclass
class SelfTest:
    """What the self-test found.

    Attributes
    ----------
    memory_bytes : int
        Bytes of external memory that were tested.
    memory_fault, run_fault, transfer_fault : str
        What is wrong with the memory; why the program did not end; which part of the program was no
        longer in memory after the run.  Empty if nothing is wrong.
    layers : list of LayerResult
    output_right : bool
        Whether the network's output equals the known one.
    repeatable : bool or None
        Whether a second run gave the same wrong values; None if all values were right.
    counters : dict
        Counters of the first run.
    """

    memory_bytes: int = 0
    memory_fault: str = ""
    run_fault: str = ""
    transfer_fault: str = ""
    layers: list[LayerResult] = field(default_factory=list)
    output_right: bool = False
    repeatable: bool | None = None
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def first_wrong(self) -> LayerResult | None:
        """The first layer whose values differ from the known ones."""
        return next((layer for layer in self.layers if layer.result == "wrong"), None)

    @property
    def passed(self) -> bool:
        """Whether everything was right."""
        return (
            self.output_right
            and self.first_wrong is None
            and not (self.memory_fault or self.run_fault or self.transfer_fault)
        )

    @property
    def verdict(self) -> str:
        """One line: what is wrong, and with which part."""
        if self.passed:
            return "passed"
        if self.memory_fault:
            return self.memory_fault
        if self.run_fault:
            return self.run_fault
        if self.transfer_fault:
            return self.transfer_fault
        wrong = self.first_wrong
        where = (
            f"layer {wrong.number} ({wrong.name}) is the first wrong one" if wrong else "the output is wrong"
        )
        if self.repeatable:
            return (
                f"{where}, the memory is good, and a second run gives the same: the array or its gateware is "
                "at fault; build the bitstream with --multiplier portable to tell which"
            )
        return (
            f"{where}, the memory is good, and a second run gives something else: the clock is too fast, or "
            "the supply is weak; build the bitstream with a lower clock"
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object, with ``passed`` and ``verdict``."""
        return {**asdict(self), "passed": self.passed, "verdict": self.verdict}


def _regions(program: ProgramFile) -> list[Region]:
    tensors = [program.input, program.output, *(layer.tensor for layer in program.stored_layers)]
    word_bytes = program.machine.word_bytes
    return used_regions(
        [
            *((segment.address, len(segment.content)) for segment in program.segments),
            *((tensor.address, tensor.byte_count(word_bytes)) for tensor in tensors),
        ]
    )


def self_test_bytes(program: ProgramFile) -> int:
    """Bytes that `self_test` moves when nothing is wrong, for its progress."""
    word_bytes = program.machine.word_bytes
    return (
        exercised_bytes(_regions(program))
        + sum(len(segment.content) for segment in program.segments)
        + sum(layer.tensor.byte_count(word_bytes) for layer in program.stored_layers)
    )


def self_test(accelerator: Accelerator, program: ProgramFile, progress: Progress | None = None) -> SelfTest:
    """Test the memory, run the known answer, compare every layer.

    Raises
    ------
    AcceleratorError
        If the program was made for another machine or needs more memory.
    LinkError
        If the accelerator does not answer.
    """
    accelerator.check(program)
    result = SelfTest()
    try:
        result.memory_bytes = exercise_memory(accelerator, _regions(program), progress)
    except MemoryFault as fault:
        result.memory_fault = str(fault)
        return result
    accelerator.load(program, progress)
    try:
        output = accelerator.run(program.known_input)
    except AcceleratorError as fault:
        result.run_fault = str(fault)
        return result
    result.counters = accelerator.counters()
    contents = [_content(accelerator, layer.tensor, progress) for layer in program.stored_layers]
    result.layers = _judge(program, contents)
    result.output_right = bool(np.array_equal(output, program.known_output))
    if result.passed:
        return result
    result.transfer_fault = _check_segments(accelerator, program)
    if not result.transfer_fault:
        try:
            accelerator.run(program.known_input)
            again = [_content(accelerator, layer.tensor) for layer in program.stored_layers]
            result.repeatable = again == contents
        except AcceleratorError:
            result.repeatable = False
    return result


def _content(accelerator: Accelerator, tensor: TensorPlace, progress: Progress | None = None) -> bytes:
    return accelerator.read(
        tensor.address, tensor.byte_count(accelerator.program.machine.word_bytes), progress
    )


def _judge(program: ProgramFile, contents: list[bytes]) -> list[LayerResult]:
    word_bytes = program.machine.word_bytes
    layers, results = program.stored_layers, list[LayerResult]()
    for index, (layer, content) in enumerate(zip(layers, contents)):
        if Layer.checksum_of(layer.tensor.unpack(content, word_bytes)) == layer.checksum:
            result = "right"
        elif any(_overlap(layer.tensor, later.tensor, word_bytes) for later in layers[index + 1 :]):
            result = "overwritten"
        else:
            result = "wrong"
        results.append(LayerResult(layer.number, layer.name, result))
    return results


def _overlap(one: TensorPlace, other: TensorPlace, word_bytes: int) -> bool:
    return one.address < other.address + other.byte_count(
        word_bytes
    ) and other.address < one.address + one.byte_count(word_bytes)


def _check_segments(accelerator: Accelerator, program: ProgramFile) -> str:
    """Which segment is no longer what was loaded, unless a tensor may lie in it; empty if none."""
    word_bytes = program.machine.word_bytes
    tensors = [program.input, program.output, *(layer.tensor for layer in program.stored_layers)]
    for segment in program.segments:
        shared = any(
            segment.address < tensor.address + tensor.byte_count(word_bytes)
            and tensor.address < segment.address + len(segment.content)
            for tensor in tensors
        )
        if not shared and accelerator.read(segment.address, len(segment.content)) != segment.content:
            return (
                f"the segment {segment.name} at {segment.address:#x} changed while the program ran: "
                "the machine wrote where it must not, or the memory lost it; build the bitstream with a "
                "lower clock"
            )
    return ""
