"""Fixed-point model → program file: the passes of the compiler, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from compiler.dependencies import insert_tokens
from compiler.error import CompileError
from compiler.kept_weights import keep_weights
from compiler.lower import Lowered, lower
from compiler.memory_map import MemoryMap
from compiler.placement import MEMORY_ALIGNMENT
from compiler.residency import Plan, plan
from compiler.schedule import Schedule, schedule
from hw.isa import INSTRUCTION_BYTES, Instruction
from hw.machine import Machine
from hw.program_code import assemble_program, leave_out_words
from hw.program_file import Layer, ProgramFile, Segment
from quant.fixed_model import FixedModel

#: Values of tensors by name.
KnownTensors = Mapping[str, NDArray[np.integer]]

__all__ = ["Compilation", "KnownTensors", "Placed", "compile_model", "compile_passes", "place_instructions"]


@dataclass
class Placed:
    """Every instruction with its tokens and its final addresses, and what led to them."""

    lowered: Lowered
    plan: Plan
    schedule: Schedule
    memory_map: MemoryMap

    @property
    def instructions(self) -> list[Instruction]:
        """The program without its END."""
        return [entry.instruction for entry in self.schedule.program]


@dataclass
class Compilation(Placed):
    """A program file with what led to it, for reports and tests."""

    program: ProgramFile


def compile_model(
    model: FixedModel,
    machine: Machine,
    known_input: NDArray[np.integer],
    known_tensors: KnownTensors | Callable[[], KnownTensors],
    *,
    store_all: bool = True,
    progress: bool = False,
) -> ProgramFile:
    """Compile a model for a machine.

    Parameters
    ----------
    model : FixedModel
    machine : Machine
    known_input : int array (C, H, W)
        Input of the known answer.
    known_tensors : mapping of tensor name to int array (C, H, W) or (1, C, H, W), or a function
        What `sim.reference` computes for it: every tensor that is in memory afterwards.  A function
        is called once the model is known to fit the machine.
    store_all : bool
        Store every layer's result, so that it can be compared; else only what is read again, and the output.
    progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    CompileError
        If the machine cannot run the model; all reasons at once.
    """
    return compile_passes(
        model, machine, known_input, known_tensors, store_all=store_all, progress=progress
    ).program


def compile_passes(
    model: FixedModel,
    machine: Machine,
    known_input: NDArray[np.integer],
    known_tensors: KnownTensors | Callable[[], KnownTensors],
    *,
    store_all: bool = True,
    progress: bool = False,
) -> Compilation:
    """As `compile_model`, with the intermediate results."""
    graph = model.graph
    with tqdm(total=5, desc=f"compile {graph.name}", unit="pass", disable=None if progress else True) as bar:
        placed = place_instructions(model, machine, bar.update, store_all=store_all)
        lowered, scheduled, memory = placed.lowered, placed.schedule, placed.memory_map
        segments = [Segment("instructions", memory.instructions, _code(placed, machine))]
        segments += _weight_segments(placed)
        bar.update()
    places = {
        name: memory.tensor(scheduled.maps, name, view, graph.shapes[name], model.formats[name])
        for name, view in lowered.views.items()
    }

    tensors = known_tensors() if callable(known_tensors) else known_tensors

    def known(name: str) -> NDArray[np.int64]:
        if name not in tensors:
            raise CompileError(f"{name}: the known answer lacks this tensor")
        return np.asarray(tensors[name], np.int64).reshape(graph.shapes[name])

    layers = [
        Layer(
            number,
            layer.name,
            layer.kind,
            layer.macs,
            places[layer.tensor],
            Layer.checksum_of(known(layer.tensor)),
            lowered.views[layer.tensor].storage in scheduled.stored,
        )
        for number, layer in enumerate(lowered.layers)
    ]
    program = ProgramFile(
        name=graph.name,
        machine=machine,
        memory_bytes=memory.end,
        program_address=memory.instructions,
        kept_address=memory.weights if machine.kept_weight_words else 0,
        segments=segments,
        input=places[graph.input],
        output=places[graph.output],
        output_shape=graph.output_shape,
        layers=layers,
        known_input=np.asarray(known_input, np.int64).reshape(graph.shapes[graph.input]),
        known_output=known(graph.output),
        preparation=_preparation(model),
        host_operations=graph.host_operations,
        input_layout=graph.input_layout,
    )
    return Compilation(lowered, placed.plan, scheduled, memory, program)


def place_instructions(
    model: FixedModel,
    machine: Machine,
    passed: Callable[[], object] = lambda: None,
    *,
    store_all: bool = True,
) -> Placed:
    """The passes that choose instructions: all but the contents of the weights.

    ``passed`` is called after each of the four passes; ``store_all`` as in `compile_model`.

    Raises
    ------
    CompileError
        If the machine cannot run the model.
    """
    lowered = lower(model, machine)
    passed()
    outputs = None if store_all else {lowered.views[model.graph.output].storage}
    operations = [operation for layer in lowered.layers for operation in layer.operations]
    planned = plan(operations, machine, outputs)
    passed()
    views = [lowered.views[name] for name in model.graph.shapes if name in lowered.views]
    scheduled = schedule(planned, _layer_of_step(lowered), views, machine, outputs)
    keep_weights(scheduled, machine)
    passed()
    insert_tokens(scheduled.program, machine.scratchpad_words, scheduled.maps.words)
    passed()
    # no more than these; how many fewer depends on the addresses
    code_bytes = (len(scheduled.program) + 1) * INSTRUCTION_BYTES
    alignment = machine.kept_alignment if machine.kept_weight_words else MEMORY_ALIGNMENT
    memory = MemoryMap.of(code_bytes, scheduled.weights.byte_count, scheduled.maps.byte_count, alignment)
    base = {"weights": memory.weights, "maps": memory.maps, "": 0}
    for entry in scheduled.program:
        if entry.base:
            entry.instruction.fields["memory_address"] += base[entry.base]
    # many low strips are quick only with short instructions; other layers' loads come no sooner than need be,
    # so that their weights keep up with them
    layers = _layer_of_step(lowered)
    lower_strips = {layers[number] for number, step in enumerate(planned.steps) if step.tiling.strips}
    leave_out_words([entry.instruction for entry in scheduled.program], lambda one: one.layer in lower_strips)
    return Placed(lowered, planned, scheduled, memory)


def _layer_of_step(lowered: Lowered) -> list[int]:
    return [number for number, layer in enumerate(lowered.layers) for _ in layer.operations]


def _preparation(model: FixedModel) -> dict:
    preparation = model.preparation
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in vars(preparation).items()
    }


def _code(placed: Placed, machine: Machine) -> bytes:
    return assemble_program(placed.instructions, machine)


def _weight_segments(placed: Placed) -> list[Segment]:
    """One segment for the weights of each operation."""
    lowered, layer_of = placed.lowered, _layer_of_step(placed.lowered)
    segments: list[Segment] = []
    start, content, current = 0, bytearray(), -1

    def finish() -> None:
        if content:
            name = f"weights {lowered.layers[layer_of[current]].name}"
            segments.append(Segment(name, placed.memory_map.weights + start, bytes(content)))

    for step, offset, stream in placed.schedule.weights.contents():
        if step != current:
            finish()
            start, content, current = offset, bytearray(), step
        content += bytes(offset - start - len(content)) + stream
    finish()
    return segments
