"""Tokens: all that are needed, none twice, and taking one away is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from fixed_networks import NetworkBuilder

from compiler.compile import compile_model
from compiler.dependencies import Box, Scheduled, insert_tokens
from compiler.listing import instructions_of
from hw.isa import Instruction, Opcode, Unit
from hw.machine import Machine
from hw.program_code import assemble_program
from hw.program_file import ProgramFile, Segment
from sim.program import ProgramSimulator, ProgramSimulatorError
from sim.reference import run

LOAD, COMPUTE, STORE = (1 << unit for unit in Unit)


def _box(base: int, words: int) -> Box:
    return Box(base, 1, 0, 1, 0, words)


def _load(source: int, place: int, words: int = 4) -> Scheduled:
    return Scheduled(
        Instruction(Opcode.LOAD), "maps", map_reads=[_box(source, words)], scratch_writes=[_box(place, words)]
    )


def _compute(source: int, place: int, words: int = 4) -> Scheduled:
    return Scheduled(
        Instruction(Opcode.COMPUTE), scratch_reads=[_box(source, words)], scratch_writes=[_box(place, words)]
    )


def _store(place: int, target: int, words: int = 4) -> Scheduled:
    return Scheduled(
        Instruction(Opcode.STORE),
        "maps",
        scratch_reads=[_box(place, words)],
        map_writes=[_box(target, words)],
    )


def _masks(program: list[Scheduled]) -> list[tuple[int, int]]:
    insert_tokens(program, 64, 64)
    return [(entry.instruction.wait, entry.instruction.signal) for entry in program]


def test_one_tile():
    assert _masks([_load(0, 0), _compute(0, 8), _store(8, 16)]) == [(0, COMPUTE), (LOAD, STORE), (COMPUTE, 0)]


def test_same_unit_needs_no_token():
    assert _masks([_load(0, 8), _load(0, 8), _store(20, 4), _store(20, 4)]) == [(0, 0)] * 4


def test_computations_overlap():
    # the second may read before the first has written; the third may not start until it has
    assert _masks([_compute(0, 8), _compute(8, 16)]) == [(0, COMPUTE), (COMPUTE, 0)]
    assert _masks([_compute(0, 8), _compute(0, 12), _compute(8, 16)]) == [(0, 0)] * 3
    # what they write, and residuals, are in order
    assert _masks([_compute(0, 8), _compute(0, 8)]) == [(0, 0)] * 2
    residual = _compute(0, 8)
    residual.scratch_late_reads.append(_box(12, 4))
    assert _masks([_compute(0, 12), residual]) == [(0, 0)] * 2


def test_slots_that_take_turns():
    masks = _masks([_load(0, 0), _compute(0, 8), _load(4, 4), _compute(4, 12), _load(8, 0), _compute(0, 8)])
    # the third load waits for the first computation, which still reads its slot; the second does not wait
    assert [wait for wait, _ in masks] == [0, LOAD, 0, LOAD, COMPUTE, LOAD]


def test_memory_round_trip():
    masks = _masks([_store(0, 16), _load(16, 8)])
    assert masks == [(0, LOAD), (STORE, 0)]


def test_implied_tokens_are_left_out():
    # the store waits for the computation, which waited for the load that wrote what the store reads
    masks = _masks(
        [
            _load(0, 0),
            _compute(0, 8),
            Scheduled(
                Instruction(Opcode.STORE),
                "maps",
                scratch_reads=[_box(0, 4), _box(8, 4)],
                map_writes=[_box(16, 4)],
            ),
        ]
    )
    assert masks == [(0, COMPUTE), (LOAD, STORE), (COMPUTE, 0)]


def test_boxes_are_exact():
    """Interleaved rows of two planes do not conflict although their extents overlap."""
    first = Box(0, 2, 16, 2, 4, 2)
    second = Box(2, 2, 16, 2, 4, 2)
    program = [
        Scheduled(Instruction(Opcode.LOAD), "maps", scratch_writes=[first]),
        Scheduled(Instruction(Opcode.COMPUTE), scratch_writes=[second]),
    ]
    assert _masks(program) == [(0, 0), (0, 0)]


@pytest.fixture(scope="module")
def tiled() -> tuple[ProgramFile, np.ndarray]:
    """A program with every kind of hazard: streamed tiles, slots that take turns, residuals."""
    machine = Machine(scratchpad_words=256, accumulator_depth=32)
    build = NetworkBuilder((20, 12, 12))
    one = build.convolution("input", 20, pads=(1, 1, 1, 1))
    two = build.convolution(one, 20, (1, 1))
    out = build.max_pool(build.add(two, "input"))
    model, image = build.model(out), build.image()
    return compile_model(model, machine, image, run(model, image[None])), image


def _changed(program: ProgramFile, number: int, instruction: Instruction) -> ProgramFile:
    code, *others = program.segments
    content = instructions_of(program)
    content[number] = instruction
    segments = [Segment(code.name, code.address, assemble_program(content, program.machine)), *others]
    return ProgramFile(**{**vars(program), "segments": segments})


def _run(program: ProgramFile, image: np.ndarray) -> None:
    simulator = ProgramSimulator(program.machine, program.memory_bytes)
    simulator.load(program)
    simulator.run(image)


def test_every_wait_is_needed(tiled):
    """Without any one of its waits and the signal that belongs to it, the program is found to be wrong."""
    program, image = tiled
    _run(program, image)
    instructions = instructions_of(program)
    checked = 0
    signals: dict[tuple[int, int], list[int]] = {}
    waits: dict[tuple[int, int], int] = {}
    for number, instruction in enumerate(instructions):
        if instruction.opcode in (Opcode.END, Opcode.WEIGHTS):
            continue
        unit = {Opcode.LOAD: 0, Opcode.COMPUTE: 1, Opcode.STORE: 2}[instruction.opcode]
        for sender in range(3):
            if instruction.wait >> sender & 1:
                pair = (sender, unit)
                giver = signals[pair][waits.get(pair, 0)]
                waits[pair] = waits.get(pair, 0) + 1
                if checked % 3 == 0:  # a third of them, for time
                    altered = _changed(
                        program,
                        number,
                        Instruction(
                            instruction.opcode,
                            instruction.fields,
                            instruction.wait & ~(1 << sender),
                            instruction.signal,
                            instruction.layer,
                        ),
                    )
                    other = instructions[giver]
                    altered = _changed(
                        altered,
                        giver,
                        Instruction(
                            other.opcode, other.fields, other.wait, other.signal & ~(1 << unit), other.layer
                        ),
                    )
                    with pytest.raises(ProgramSimulatorError, match="without a token"):
                        _run(altered, image)
                checked += 1
        for receiver in range(3):
            if instruction.signal >> receiver & 1:
                signals.setdefault((unit, receiver), []).append(number)
    assert checked > 20


def test_a_signal_that_nobody_takes_is_noticed(tiled):
    program, image = tiled
    instructions = instructions_of(program)
    number = max(n for n, i in enumerate(instructions) if i.opcode is Opcode.STORE)
    last = instructions[number]
    assert not last.signal
    altered = _changed(program, number, Instruction(last.opcode, last.fields, last.wait, LOAD, last.layer))
    with pytest.raises(ProgramSimulatorError, match="tokens are left over: 1 from STORE to LOAD"):
        _run(altered, image)


def test_a_wait_without_a_signal_is_noticed(tiled):
    program, image = tiled
    first = instructions_of(program)[0]
    altered = _changed(
        program, 0, Instruction(first.opcode, first.fields, COMPUTE, first.signal, first.layer)
    )
    with pytest.raises(ProgramSimulatorError, match=r"instruction 0 \(LOAD\): waits for a token of COMPUTE"):
        _run(altered, image)
