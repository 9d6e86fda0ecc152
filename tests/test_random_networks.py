"""Random networks: onnxruntime, the reference, the program simulator and the RTL agree on every tensor.

The whole path is run: the network is written as QDQ ONNX, read back, compiled, assembled, executed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from random_network import random_input, random_network

from compiler.compile import compile_model
from compiler.error import CompileError
from compiler.listing import instructions_of
from hw.isa import Opcode
from hw.machine import IN_ORDER, Machine
from hw.program_file import Layer, ProgramFile
from hw.registers import Control, Register, Status
from quant.fixed_model import FixedModel
from quant.qdq import write_fixed_model
from quant.qdq_import import read_fixed_model
from sim.judge import compare_with_onnxruntime
from sim.program import ProgramSimulator
from sim.reference import run
from sim.verilator import VerilatedCore

MACHINES = {
    "8x16-64": Machine(),
    "4x4-32": Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=2048,
                      accumulator_depth=64, weight_fifo_words=32),
    "8x16-128": Machine(bus_width=128, scratchpad_words=1024, accumulator_depth=128),
    "8x8-64": Machine(output_lanes=8, scratchpad_words=1024, accumulator_depth=32, weight_fifo_words=128),
    "8x16-64-decoder": Machine(scratchpad_words=2048, accumulator_depth=64, weight_decoder=True),
    "8x8-32-huffman": Machine(output_lanes=8, bus_width=32, scratchpad_words=2048, accumulator_depth=64,
                              weight_fifo_words=128, weight_decoder=True, huffman_decoder=True),
    "8x16-64-pairs": Machine(scratchpad_words=2048, accumulator_depth=64, weight_pairs=True),
    "8x16-64-kept": Machine(scratchpad_words=2048, accumulator_depth=64, weight_fifo_words=128,
                            kept_weight_words=1024),
    "4x4-32-in-order": IN_ORDER,
}
MEMORIES = ("ideal", "stalling", "ulx3s", "random")


def with_few_weights(model: FixedModel, seed: int) -> FixedModel:
    """The model with weights that a decoder is for: of some layers many are zero, and few values are left."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, own in model.weights.items():
        values = own.values
        if rng.random() < 0.8:
            palette = rng.choice(values.ravel(), int(rng.choice([1, 2, 3, 4, 15, 16, 200])))
            density = rng.choice([0.0, 0.05, 0.2, 0.7, 1.0])
            values = rng.choice(palette, values.shape) * (rng.random(values.shape) < density)
        weights[name] = replace(own, values=values.astype(own.values.dtype))
    return replace(model, weights=weights)


def with_narrow_weights(model: FixedModel, seed: int) -> FixedModel:
    """The model with weights of 4 bits in most of its layers."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, own in model.weights.items():
        values = own.values
        if rng.random() < 0.8:
            values = np.where((values < -8) | (values > 7), values % 16 - 8, values)
        weights[name] = replace(own, values=values.astype(own.values.dtype))
    return replace(model, weights=weights)


def check_layers(program: ProgramFile, read, expected: dict[str, np.ndarray], who: str) -> None:
    """Compare every layer's tensor in memory, in order, so that the first difference is the cause."""
    for layer in program.stored_layers:
        place = layer.tensor
        found = place.unpack(read(place.address, place.byte_count(program.machine.word_bytes)),
                             program.machine.word_bytes)
        wrong = np.argwhere(found != expected[place.name][0])
        if len(wrong):
            at = tuple(wrong[0])
            raise AssertionError(
                f"{who}: layer {layer.number} {layer.name} ({layer.kind}), {place.name}{list(at)} is "
                f"{found[at]}, not {expected[place.name][0][at]}; {len(wrong)} elements differ")


def check_kept(core: VerilatedCore, program: ProgramFile, expected: dict[str, np.ndarray]) -> None:
    """The same again, twice, with the weights that are kept, and others in memory."""
    machine = program.machine
    core.write_register(Register.KEPT_ADDRESS, program.kept_address)
    for control in (Control.START, Control.START | Control.KEPT, Control.START | Control.KEPT):
        assert core.run(control=control).status == Status.DONE
        check_layers(program, core.read_memory, expected, f"RTL, {control!r}")
        size = min(machine.kept_weight_bytes, program.memory_bytes - program.kept_address)
        for segment in program.segments:
            first, end = segment.address, segment.address + len(segment.content)
            first, end = max(first, program.kept_address), min(end, program.kept_address + size)
            if first < end:
                core.write_memory(first, bytes(end - first))


def check_rtl(program: ProgramFile, image: np.ndarray, expected: dict[str, np.ndarray], memory: str,
              seed: int) -> None:
    """Run a program in RTL and compare every layer."""
    machine = program.machine
    with VerilatedCore(machine, program.memory_bytes, memory=memory, seed=seed) as core:
        # whatever lies in memory before a run must not matter
        core.write_memory(0, np.random.default_rng(seed).bytes(program.memory_bytes))
        for segment in program.segments:
            core.write_memory(segment.address, segment.content)
        core.write_memory(program.input.address, program.input.pack(image, machine.word_bytes))
        core.write_register(Register.PROGRAM_ADDRESS, program.program_address)
        assert core.run().status == Status.DONE
        check_layers(program, core.read_memory, expected, f"RTL, {memory} memory")
        if machine.kept_weight_words:
            check_kept(core, program, expected)


def program_of(model, machine: Machine, seed: int, *, lean: bool) -> ProgramFile:
    """Compile; networks whose smallest tile needs a larger machine are no counterexample."""
    known_input = random_input(model, seed)
    try:
        program = compile_model(model, machine, known_input[0], run(model, known_input), store_all=not lean)
    except CompileError as error:
        assume("smallest tile" not in str(error))
        assume(machine.average_pooling or "need a division" not in str(error))
        raise
    for layer in program.layers:
        assert layer.checksum == Layer.checksum_of(run(model, known_input)[layer.tensor.name][0])
    return program


@pytest.mark.parametrize(
    ("name", "memory"),
    [(name, memory) for name in MACHINES for memory in MEMORIES
     if memory == "random" or not (MACHINES[name].weight_decoder or MACHINES[name].weight_pairs
                                   or MACHINES[name].in_order or MACHINES[name].kept_weight_words)],
)
def test_random_networks(tmp_path_factory, name, memory):
    machine = MACHINES[name]
    folder = tmp_path_factory.mktemp("networks")
    checked = paired = 0

    @given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 8), lean=st.booleans())
    @settings(max_examples=15, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    def check(seed: int, size: int, lean: bool) -> None:
        nonlocal checked, paired
        model = random_network(seed, size)
        if machine.weight_decoder:
            model = with_few_weights(model, seed)
        if machine.weight_pairs:
            model = with_narrow_weights(model, seed)
        path = folder / "network.onnx"
        write_fixed_model(model, path)
        again = read_fixed_model(path)
        inputs = random_input(model, seed + 1)
        verdict = compare_with_onnxruntime(again, path, inputs)
        assert verdict.equal, f"onnxruntime: {verdict.differences[0]}"
        assert not verdict.not_counted

        expected = run(model, inputs)
        program = program_of(again, machine, seed, lean=lean)
        program.save(folder / "network.prog")
        program = ProgramFile.load(folder / "network.prog")

        simulator = ProgramSimulator(machine, program.memory_bytes)
        simulator.load(program)
        assert (simulator.run(inputs[0]) == expected[model.graph.output][0]).all()
        check_layers(program, lambda address, count: bytes(simulator.memory[address:address + count]),
                     expected, "program simulator")

        check_rtl(program, inputs[0], expected, memory, seed)
        checked += 1
        paired += any(one.opcode is Opcode.COMPUTE and one["pairs"] for one in instructions_of(program))

    check()
    assert checked >= 13
    assert paired >= (4 if machine.weight_pairs else 0)


@pytest.mark.parametrize("name", ["8x16-64", "8x16-128", "8x8-64", "8x8-32-huffman", "4x4-32"])
def test_inputs_of_few_channels(name):
    """Images that lie in memory with four bytes a pixel, where their rows are whole beats."""
    machine = MACHINES[name]
    narrow = wide = 0

    @given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 5), channels=st.integers(1, 4),
           rows=st.integers(1, 40), columns=st.integers(1, 40), even=st.booleans(), lean=st.booleans())
    @settings(max_examples=30, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    def check(seed: int, size: int, channels: int, rows: int, columns: int, even: bool, lean: bool) -> None:
        nonlocal narrow, wide
        model = random_network(seed, size, (channels, rows, 4 * -(-columns // 4) if even else columns))
        program = program_of(model, machine, seed, lean=lean)
        image = random_input(model, seed + 1)
        expected = run(model, image)
        simulator = ProgramSimulator(machine, program.memory_bytes)
        simulator.load(program)
        assert (simulator.run(image[0]) == expected[model.graph.output][0]).all()
        check_rtl(program, image[0], expected, "random", seed)
        few = any(one["narrow"] for one in instructions_of(program) if one.opcode is Opcode.LOAD)
        narrow, wide = narrow + few, wide + (not few)

    check()
    assert wide >= (0 if machine.bus_width == 32 else 3)
    assert narrow >= (7 if machine.output_lanes > 4 else 0)
