"""Whole networks through the compiler and the program simulator, on machines that force tiling."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from fixed_networks import NetworkBuilder
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from random_network import random_input, random_network

from compiler.compile import compile_model, compile_passes, place_instructions
from compiler.error import CompileError
from hw.isa import Opcode
from hw.machine import Machine
from hw.program_file import ProgramFile
from quant.number_format import Format
from sim.program import ProgramSimulator
from sim.reference import run


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 1 << 20),
    st.integers(1, 10),
    st.sampled_from(["8x16-64", "4x4-32", "8x8-64", "8x16-128", "16x16-64", "4x64-128"]),
)
# a sum of two maps on chip whose rows are not as far apart as those of the result
@example(seed=122236, size=6, which="8x16-64")
def test_random_networks(check, machines, seed, size, which):
    model = random_network(seed, size)
    try:
        check(model, machines[which], random_input(model, seed)[0])
    except CompileError as error:
        assume("smallest tile" not in str(error))
        raise


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 1 << 20), st.integers(1, 10), st.sampled_from(["8x16-64", "4x4-32", "8x8-64", "16x16-64"])
)
def test_lean_programs(check, machines, seed, size, which):
    """Only what is read again is stored; the program simulator finds out if something else is read."""
    model = random_network(seed, size)
    image = random_input(model, seed)[0]
    try:
        lean = check(model, machines[which], image, store_all=False)
    except CompileError as error:
        assume("smallest tile" not in str(error))
        raise
    stored = {layer.tensor.name for layer in lean.program.stored_layers}
    read = {storage.name for storage in lean.schedule.stored}
    assert lean.program.output.name in stored or not lean.program.layers
    whole = place_instructions(model, machines[which])
    # in words, because the plans differ
    words, all_words = (
        sum(code["planes"] * code["rows"] * code["words"] for code in placed.instructions
            if code.opcode is Opcode.STORE)
        for placed in (lean, whole)
    )  # fmt: skip
    assert words <= all_words
    assert (words == all_words) == (read == {storage.name for storage in whole.schedule.stored})


def test_lean_program_of_maps_on_chip(check):
    """Of a network that fits the scratchpad nothing but the output is stored."""
    build = _lenet()
    lean = check(build.model(build.nodes[-1].output), Machine(), build.image(), store_all=False)
    assert [layer.number for layer in lean.program.stored_layers] == [len(lean.program.layers) - 1]
    assert sum(code.opcode is Opcode.STORE for code in lean.instructions) >= 1


def _lenet() -> NetworkBuilder:
    build = NetworkBuilder((1, 28, 28))
    one = build.max_pool(build.convolution("input", 20, (5, 5)))
    two = build.max_pool(build.convolution(one, 50, (5, 5)))
    build.fully_connected(build.fully_connected(two, 500), 10)
    return build


def test_lenet(check, machine):
    build = _lenet()
    model = build.model(build.nodes[-1].output)
    check(model, machine, build.image())


def test_residual_network_stays_on_chip(check):
    """Maps that fit are loaded once: only the input crosses the bus inwards."""
    build = NetworkBuilder((3, 16, 16))
    tensor = build.convolution("input", 16, pads=(1, 1, 1, 1))
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        inner = build.convolution(tensor, width, pads=(1, 1, 1, 1), stride=(stride, stride))
        main = build.convolution(inner, width, pads=(1, 1, 1, 1))
        shortcut = (
            tensor if stride == 1 else build.convolution(tensor, width, (1, 1), stride=(stride, stride))
        )
        tensor = build.add(main, shortcut)
    pooled = build.average_pool(tensor, build.shapes[tensor][1:])
    compilation = check(build.model(build.fully_connected(pooled, 10)), Machine(), build.image())
    loads = [
        entry.instruction for entry in compilation.schedule.program if entry.instruction.opcode is Opcode.LOAD
    ]
    words = sum(i["planes"] * i["rows"] * i["words"] for i in loads)
    assert words == 16 * 16


def _narrow(compilation) -> bool:
    """Whether the input has four bytes a pixel; it must then be loaded so, and nothing else."""
    loads = [code for code in compilation.instructions if code.opcode is Opcode.LOAD]
    place = compilation.program.input
    area = range(place.address, place.address + place.byte_count(compilation.program.machine.word_bytes))
    for code in loads:
        assert code["narrow"] == (place.pixel_bytes is not None and code["memory_address"] in area)
    assert any(code["memory_address"] in area for code in loads)
    return place.pixel_bytes == 4


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("columns", [8, 10, 11])
def test_narrow_inputs(check, machine, channels, columns):
    """Few channels, rows of whole beats; larger than the scratchpad of most machines."""
    build = NetworkBuilder((channels, 37, 4 * columns if columns == 8 else columns))
    out = build.convolution("input", 9, pads=(1, 1, 1, 1), stride=(2, 2))
    compilation = check(build.model(build.max_pool(out)), machine, build.image())
    whole_beats = build.shapes["input"][2] * 4 % machine.bus_bytes == 0
    assert _narrow(compilation) == (channels <= 4 < machine.output_lanes and whole_beats)


READERS = {
    "dense": lambda build: build.convolution("input", 5, (1, 1)),
    "depthwise": lambda build: build.convolution("input", 3, (3, 3), pads=(1, 1, 1, 1), groups=3),
    "dilated": lambda build: build.convolution("input", 17, (3, 3), dilation=(2, 3)),
    "fully connected": lambda build: build.fully_connected("input", 20),
    "maximum": lambda build: build.max_pool("input", (3, 3), (2, 2), (1, 1, 1, 1)),
    # windows that count different numbers of pixels: operations that begin in the middle of a row
    "average": lambda build: build.average_pool("input", (3, 3), (1, 1), (1, 1, 1, 1)),
    "selection": lambda build: build.select("input", start=(1, 2, 5), step=(1, 1, 3), size=(2, 20, 7)),
    "concatenation": lambda build: build.concat(
        build.convolution("input", 16, (1, 1)), "input", form=Format(8, False, -1)
    ),
    "two": lambda build: build.concat(
        build.convolution("input", 16, (3, 3), pads=(1, 1, 1, 1)), build.convolution("input", 16, (1, 1))
    ),
    "added first": lambda build: build.add("input", build.convolution("input", 3, (1, 1))),
}


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_narrow_inputs(check, machine, reader):
    # one that needs all of it at once must fit the scratchpad
    build = NetworkBuilder((3, 12, 16) if reader == "fully connected" else (3, 24, 32))
    compilation = check(build.model(READERS[reader](build)), machine, build.image())
    assert _narrow(compilation) == (machine.output_lanes > 4 and reader != "added first")


def test_input_in_a_concatenation_stays_wide(check, machine):
    """Where the concatenation needs no copy, the input has its planes."""
    build = NetworkBuilder((3, 24, 32))
    same = build.formats["input"]
    out = build.concat(build.convolution("input", 64, (1, 1), form=same), "input")
    compilation = check(build.model(out), machine, build.image())
    assert not _narrow(compilation)


def test_program_file_round_trip(tmp_path):
    build = _lenet()
    model, image = build.model(build.nodes[-1].output), build.image()
    program = compile_model(model, Machine(), image, run(model, image[None]))
    program.save(tmp_path / "net.prog")
    loaded = ProgramFile.load(tmp_path / "net.prog")
    assert loaded.layers == program.layers
    assert loaded.input == program.input
    simulator = ProgramSimulator(loaded.machine, loaded.memory_bytes)
    simulator.load(loaded)
    assert np.array_equal(simulator.run(loaded.known_input), loaded.known_output)
    # a second image, without loading again
    other = build.image()
    assert np.array_equal(simulator.run(other), run(model, other[None])[model.graph.output][0])


def test_compiling_twice_gives_the_same_program(tmp_path):
    files = []
    for number in range(2):
        build = _lenet()
        model, image = build.model(build.nodes[-1].output), build.image()
        compile_model(model, Machine(), image, run(model, image[None])).save(tmp_path / f"{number}.prog")
        files.append((tmp_path / f"{number}.prog").read_bytes())
    assert files[0] == files[1]


def test_memory_does_not_overlap():
    build = _lenet()
    model, image = build.model(build.nodes[-1].output), build.image()
    program = compile_model(
        model, Machine(output_lanes=8, weight_fifo_words=64), image, run(model, image[None])
    )
    areas = [(segment.address, segment.address + len(segment.content)) for segment in program.segments]
    areas += [
        (place.address, place.address + place.byte_count(8))
        for place in (program.input, *(layer.tensor for layer in program.layers))
    ]
    areas.sort()
    for (_, end), (start, _) in itertools.pairwise(areas):
        assert end <= start
    assert areas[0][0] == 0
    assert areas[-1][1] <= program.memory_bytes
    assert all(start % 64 == 0 for start, _ in areas)


def test_known_answer_is_computed_only_for_models_that_fit():
    build = NetworkBuilder((3, 300, 4))
    model = build.model(build.average_pool("input", (300, 4)))
    with pytest.raises(CompileError, match="kernel"):
        compile_passes(model, Machine(), build.image(), lambda: pytest.fail("too early"))


def test_network_without_nodes():
    build = NetworkBuilder((3, 4, 4))
    with pytest.raises(CompileError, match="nothing to compile"):
        compile_model(build.model("input"), Machine(), build.image(), {})


def test_vgg16_compiles():
    """Maps and weights far larger than the scratchpad: 15.5 G multiplications, 138 MB of weights."""
    build = NetworkBuilder((3, 224, 224))
    tensor = "input"

    def weights(outputs: int, channels: int, kernel: int) -> np.ndarray:
        return build.random.integers(-60, 61, (outputs, channels, kernel, kernel), dtype=np.int8)

    for widths in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
        for width in widths:
            tensor = build.convolution(
                tensor, width, pads=(1, 1, 1, 1), values=weights(width, build.shapes[tensor][0], 3)
            )
        tensor = build.max_pool(tensor)
    for width in (4096, 4096, 1000):
        channels, size, _ = build.shapes[tensor]
        tensor = build.convolution(tensor, width, (size, size), values=weights(width, channels, size))
    model = build.model(tensor)

    class Zeros(dict):
        def __missing__(self, name: str) -> np.ndarray:
            return np.zeros(model.graph.shapes[name], np.int64)

        def __contains__(self, name: object) -> bool:
            return True

    start = time.monotonic()
    compilation = compile_passes(model, Machine(), np.zeros((3, 224, 224), np.int64), Zeros())
    assert time.monotonic() - start < 60
    program = compilation.program
    assert sum(layer.macs for layer in program.layers) == 15_470_264_320
    assert program.memory_bytes < 200 << 20
    # re-streamed weights and halos stay small beside the work
    beats = sum(
        entry.instruction["planes"] * entry.instruction["rows"] * entry.instruction["words"] * 2
        for entry in compilation.schedule.program
        if entry.instruction.opcode is Opcode.LOAD
    )
    assert beats < 5_000_000
