"""A whole network through the core's RTL, every layer compared with the reference."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.program_file import Layer, ProgramFile, TensorPlace
from hw.registers import Control, Register, Status
from quant.fixed_model import FixedModel
from sim import reference
from sim.memory_settings import MemorySettings
from sim.verilator import LayerCounters, SimulationError, VerilatedCore

__all__ = ["LayerDifference", "Outcome", "simulate"]


@dataclass(frozen=True)
class LayerDifference:
    """The first element of the first layer that is not what the reference computes.

    ``index`` is (channel, row, column); ``count`` elements of this layer differ in all.
    """

    image: int
    layer: int
    name: str
    tensor: str
    index: tuple[int, int, int]
    expected: int
    found: int
    count: int

    def __str__(self) -> str:
        return (
            f"image {self.image}, layer {self.layer} ({self.name}), element {list(self.index)} of "
            f"{self.tensor}: expected {self.expected}, got {self.found} ({self.count} elements differ)"
        )


@dataclass
class Outcome:
    """What a simulation gave.

    Attributes
    ----------
    memory : str
        The memory setting.
    images : int
        Images that were run.
    problem : str or None
        Why the run is not bit-exact; None if every layer of every image equals the reference.
    difference : LayerDifference or None
        The first difference, if that is the problem.
    outputs : int array (images, C, H, W)
        What the core computed.
    cycles : list of int
        Clock cycles of each image from start to done.
    counters : list of dict
        `LayerCounters` by layer number, of each image.
    seconds : float
        Time spent in the simulator.
    busy : dict
        `VerilatedCore.busy_intervals` of the last image, if they were recorded.
    """

    memory: str
    images: int = 0
    problem: str | None = None
    difference: LayerDifference | None = None
    outputs: list[NDArray[np.int64]] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    counters: list[dict[int, LayerCounters]] = field(default_factory=list)
    seconds: float = 0.0
    busy: dict[str, NDArray[np.uint64]] = field(default_factory=dict)

    @property
    def bit_exact(self) -> bool:
        """Whether every layer of every image equals the reference."""
        return self.problem is None

    def layer_counters(self) -> dict[int, LayerCounters]:
        """`LayerCounters` by layer number, summed over the images."""
        total: dict[int, LayerCounters] = {}
        for image in self.counters:
            for number, counters in image.items():
                total[number] = total.get(number, LayerCounters()) + counters
        return total


def simulate(
    program: ProgramFile,
    model: FixedModel,
    inputs: NDArray[np.integer],
    *,
    memory: str | MemorySettings = "ideal",
    seed: int = 0,
    trace: Path | None = None,
    limit: int = 10**10,
    record: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> Outcome:
    """Run images through the RTL; compare the tensor of every layer with `sim.reference`.

    Before each image everything in memory but the program and its weights is overwritten with
    random bytes, so that a result left over from the image before, or memory that nobody wrote,
    cannot pass.  From the second image on the machine uses the weights that it has kept, if it keeps some.
    The run ends at the first image that differs.

    Parameters
    ----------
    program : ProgramFile
        The model, compiled for the machine to simulate.
    model : FixedModel
    inputs : int array (N, C, H, W)
    memory : str or MemorySettings
        How the external memory behaves (`sim.memory_settings`).
    seed : int
        Of the memory setting ``"random"``.
    trace : Path or None
        FST file for waveforms.
    limit : int
        Cycles for one image after which to give up.
    record : bool
        Record when each part of the core was busy.
    progress : callable or None
        Called with the image, the layer and the cycles simulated since the last call.

    Raises
    ------
    BuildError, MemorySettingsError
        If the core cannot be built, or there is no such memory.
    """
    outcome = Outcome(memory if isinstance(memory, str) else "custom")
    tensors = {layer.tensor.name for layer in program.stored_layers} | {program.output.name}
    with VerilatedCore(program.machine, program.memory_bytes, memory, seed, trace) as core:
        for segment in program.segments:
            core.write_memory(segment.address, segment.content)
        free = _free_ranges(program, core.memory_bytes)
        contents = [zlib.crc32(segment.content) for segment in program.segments]
        core.write_register(Register.PROGRAM_ADDRESS, program.program_address)
        keeps = program.machine.kept_weight_words > 0
        if keeps:
            core.write_register(Register.KEPT_ADDRESS, program.kept_address)
        if record:
            core.record_intervals(_weight_range(program))
        for image, integers in enumerate(inputs):
            expected = reference.run(model, integers[None], keep=tensors)
            _poison(core, free, image)
            core.write_memory(program.input.address, program.input.pack(integers, program.machine.word_bytes))

            def moved(cycles: int, image: int = image) -> None:
                if progress is not None:
                    progress(image, core.layer, cycles)

            try:
                control = Control.START | Control.KEPT if keeps and image else Control.START
                result = core.run(limit, progress=moved, control=control)
            except SimulationError as error:
                layer = next((layer for layer in program.layers if layer.number == error.layer), None)
                outcome.problem = f"image {image}: {error}" + (f": {layer.name}" if layer else "")
                return outcome
            outcome.images += 1
            outcome.cycles.append(result.cycles)
            outcome.seconds += result.seconds
            outcome.counters.append(core.layer_counters())
            if record:
                outcome.busy = core.busy_intervals()
            outcome.outputs.append(_read(core, program, program.output))
            outcome.difference = _first_difference(core, program, expected, image)
            if outcome.difference is not None:
                outcome.problem = str(outcome.difference)
            elif result.status != Status.DONE:
                outcome.problem = f"image {image}: the core reports {result.status!r}"
            elif contents != [
                zlib.crc32(core.read_memory(segment.address, len(segment.content)))
                for segment in program.segments
            ]:
                outcome.problem = f"image {image}: the program or its weights were overwritten"
            if outcome.problem is not None:
                return outcome
    return outcome


def _weight_range(program: ProgramFile) -> tuple[int, int]:
    """First address of the weights, and the first one after them."""
    weights = [segment for segment in program.segments if segment.name.startswith("weights")]
    first = min((segment.address for segment in weights), default=0)
    return first, max((segment.address + len(segment.content) for segment in weights), default=0)


def _free_ranges(program: ProgramFile, memory_bytes: int) -> list[tuple[int, int]]:
    """Address ranges that hold neither instructions nor weights."""
    ranges, position = [], 0
    for segment in sorted(program.segments, key=lambda segment: segment.address):
        if segment.address > position:
            ranges.append((position, segment.address))
        position = max(position, segment.address + len(segment.content))
    if position < memory_bytes:
        ranges.append((position, memory_bytes))
    return ranges


def _poison(core: VerilatedCore, ranges: list[tuple[int, int]], image: int) -> None:
    rng = np.random.default_rng(image)
    for first, end in ranges:
        core.write_memory(first, rng.bytes(end - first))


def _read(core: VerilatedCore, program: ProgramFile, place: TensorPlace) -> NDArray[np.int64]:
    word = program.machine.word_bytes
    return place.unpack(core.read_memory(place.address, place.byte_count(word)), word)


def _first_difference(
    core: VerilatedCore, program: ProgramFile, expected: dict[str, NDArray[np.int64]], image: int
) -> LayerDifference | None:
    places: list[tuple[int, str, TensorPlace]] = [
        (layer.number, layer.name, layer.tensor) for layer in program.stored_layers
    ]
    last: Layer | None = program.layers[-1] if program.layers else None
    places.append((last.number if last else 0, "output", program.output))
    for number, name, place in places:
        found, wanted = _read(core, program, place), expected[place.name][0]
        wrong = np.argwhere(found != wanted)
        if len(wrong):
            channel, row, column = (int(position) for position in wrong[0])
            index = (channel, row, column)
            return LayerDifference(
                image, number, name, place.name, index, int(wanted[index]), int(found[index]), len(wrong)
            )
    return None
