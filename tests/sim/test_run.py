"""Networks through the RTL: random ones on small machines, and what is reported when something differs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_network import random_input, random_network

from compiler.compile import compile_model
from compiler.error import CompileError
from compiler.listing import instructions_of
from hw.isa import Instruction, Opcode
from hw.machine import Machine, MachineError
from hw.program_code import assemble_program
from hw.program_file import ProgramFile, Segment
from quant.fixed_model import FixedModel, Preparation
from quant.qdq import write_fixed_model
from sim import reference, run_command
from sim.__main__ import main
from sim.memory_settings import MEMORY_NAMES
from sim.program import ProgramSimulator
from sim.run import simulate
from sim.run_command import machine_of

SMALL = Machine(
    input_lanes=4,
    output_lanes=4,
    bus_width=32,
    scratchpad_words=256,
    accumulator_depth=32,
    weight_fifo_words=32,
)
WIDE = Machine(
    input_lanes=8,
    output_lanes=16,
    bus_width=64,
    scratchpad_words=256,
    accumulator_depth=64,
    weight_fifo_words=32,
)
_OPTIONS = [
    "--lanes",
    "4x4",
    "--bus",
    "32",
    "--scratchpad",
    "256",
    "--accumulators",
    "32",
    "--weight-fifo",
    "32",
]


def _compiled(model: FixedModel, machine: Machine, count: int = 1) -> tuple[ProgramFile, np.ndarray]:
    form, shape = model.formats[model.graph.input], model.graph.shapes[model.graph.input]
    inputs = np.random.default_rng(3).integers(form.low, form.high + 1, (count, *shape))
    return compile_model(model, machine, inputs[0], reference.run(model, inputs[:1])), inputs


def _check_random(seed: int, machine: Machine) -> None:
    model = random_network(seed, 1 + seed % 7)
    inputs = random_input(model, seed)
    try:
        program = compile_model(model, machine, inputs[0], reference.run(model, inputs))
    except CompileError as error:
        pytest.skip(f"refused: {str(error).splitlines()[0]}")
    simulator = ProgramSimulator(machine, program.memory_bytes)
    simulator.load(program)
    simulator.run(inputs[0])
    if simulator.estimate().cycles > 1_000_000:
        pytest.skip("takes too long")
    outcome = simulate(program, model, inputs, memory="random", seed=seed)
    assert outcome.bit_exact, outcome.problem


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_on_a_small_machine(seed: int) -> None:
    _check_random(seed, SMALL)


@pytest.mark.parametrize("seed", range(12, 24))
def test_random_networks_on_a_wide_machine(seed: int) -> None:
    _check_random(seed, WIDE)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24, 224))
def test_many_random_networks(seed: int) -> None:
    _check_random(seed, (SMALL, WIDE)[seed % 2])


def test_every_memory_setting(small_model: FixedModel) -> None:
    program, inputs = _compiled(small_model, SMALL, 3)
    cycles = {}
    for memory in MEMORY_NAMES:
        outcome = simulate(program, small_model, inputs, memory=memory, seed=9)
        assert outcome.bit_exact, (memory, outcome.problem)
        assert outcome.images == 3
        cycles[memory] = outcome.cycles[0]
        counted = sum(counters.cycles for counters in outcome.layer_counters().values())
        # the cycle in which the counters are cleared, and the one of the register's answer
        assert abs(counted - sum(outcome.cycles)) <= 2 * outcome.images
    assert cycles["ideal"] < cycles["stalling"] < cycles["random"]


def _with_segment(program: ProgramFile, name: str, content: bytes) -> ProgramFile:
    return replace(
        program,
        segments=[
            Segment(s.name, s.address, content if s.name == name else s.content) for s in program.segments
        ],
    )


def test_a_wrong_weight_is_named(small_model: FixedModel) -> None:
    program, inputs = _compiled(small_model, SMALL, 2)
    weights = [segment for segment in program.segments if segment.name != "instructions"]
    content = bytearray(weights[0].content)
    content[0] ^= 0x40  # the first bias
    content[1] ^= 0x07
    outcome = simulate(_with_segment(program, weights[0].name, bytes(content)), small_model, inputs)
    assert not outcome.bit_exact
    assert outcome.images == 1
    difference = outcome.difference
    assert difference is not None
    first = program.layers[0]
    assert (difference.image, difference.layer, difference.name) == (0, first.number, first.name)
    wanted = reference.run(small_model, inputs[:1])[first.tensor.name][0]
    assert difference.expected == wanted[difference.index]
    assert f"layer {first.number} ({first.name}), element {list(difference.index)}" in str(difference)


def test_a_layer_that_is_never_stored_is_found(small_model: FixedModel) -> None:
    """The result of the image before must not pass for this one's."""
    program, inputs = _compiled(small_model, SMALL, 1)
    code = instructions_of(program)
    number = max(n for n, instruction in enumerate(code) if instruction.opcode is Opcode.STORE)
    code[number].fields["memory_address"] = program.input.address
    for instruction in code:
        instruction.left_out = 0
    broken = assemble_program(code, program.machine)
    outcome = simulate(
        _with_segment(program, "instructions", broken), small_model, np.repeat(inputs, 2, axis=0)
    )
    assert outcome.difference is not None
    assert outcome.difference.tensor == program.output.name


def test_a_hang_names_the_layer(small_model: FixedModel) -> None:
    program, inputs = _compiled(small_model, SMALL)
    waiting = Instruction(Opcode.COMPUTE, wait=1, layer=3)
    code = assemble_program([*instructions_of(program)[:-1], waiting], program.machine)
    outcome = simulate(_with_segment(program, "instructions", code), small_model, inputs)
    assert outcome.problem is not None
    assert "nothing has moved for 20000 cycles" in outcome.problem


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, small_model: FixedModel) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_fixed_model(replace(small_model, preparation=Preparation(divide=2.0)), folder / "small.onnx")
    channels, rows, columns = small_model.graph.shapes[small_model.graph.input]
    images = np.random.default_rng(1).normal(0, 1.5, (4, rows, columns, channels)).astype(np.float32)
    np.savez(folder / "images.npz", images=images, labels=np.arange(4))
    return folder


def test_command_line(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        "run",
        str(files / "small.onnx"),
        "--data",
        str(files / "images.npz"),
        "--images",
        "3",
        *_OPTIONS,
        "--memory",
        "all",
        "--output",
        str(files / "out"),
        "--json",
        str(files / "copy.json"),
    ]
    assert main(arguments) == 0
    report = json.loads((files / "out" / "report.json").read_text())
    assert report == json.loads((files / "copy.json").read_text())
    assert report["network"] == "small"
    assert report["images"] == 3
    assert report["bit_exact"] is True
    assert report["multipliers"] == 16
    assert report["float_top1"] is None
    assert 0 <= report["fixed_top1"] <= 1
    assert report["memory"] == "ideal"
    assert set(report["memories"]) == set(MEMORY_NAMES)
    assert Machine.from_json(report["machine"]) == SMALL
    macs = sum(layer["macs"] for layer in report["layers"])
    assert report["mac_utilisation"] == pytest.approx(macs / report["cycles_per_image"] / 16, rel=0.01)
    assert sum(layer["cycles"] for layer in report["layers"]) == pytest.approx(
        report["cycles_per_image"], abs=20
    )
    for layer in report["layers"]:
        parts = layer["array_busy"] + layer["token_wait"] + layer["weight_wait"] + layer["other_wait"]
        assert parts == pytest.approx(1) or not layer["cycles"]
    printed = capsys.readouterr().out
    assert "bit-exact: every layer equals the reference" in printed
    assert "wrote" not in printed

    def broken_compile(*arguments, **options):
        program = compile_model(*arguments, **options)
        content = bytearray(program.segments[-1].content)
        content[1] ^= 0x0F
        return _with_segment(program, program.segments[-1].name, bytes(content))

    monkeypatch.setattr(run_command, "compile_model", broken_compile)
    assert main(arguments) == 1
    assert json.loads((files / "out" / "report.json").read_text())["bit_exact"] is False
    error = capsys.readouterr().err
    assert "error: small with the memory ideal differs from the reference: image 0, layer" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.onnx", "--data", "images.npz"], "missing.onnx: no such file"),
        (["small.onnx", "--data", "missing.npz"], "missing.npz: no such file"),
        (["small.onnx", "--data", "images.npz", "--lanes", "8"], "lanes are given as INPUTxOUTPUT"),
        (["small.onnx", "--data", "images.npz", "--lanes", "5x8"], "input_lanes must be 4, 8 or 16, not 5"),
        (["small.onnx", "--data", "images.npz", "--divide", "255"], "it records how images are prepared"),
    ],
)
def test_bad_use_is_one_line(
    files: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    assert main(["run", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error


def test_machine_of_the_options():
    assert machine_of("8x16") == Machine()
    assert machine_of("4x8", weight_pairs=True) == Machine(input_lanes=4, output_lanes=8, weight_pairs=True)
    with pytest.raises(MachineError, match="weight_pairs must be False with 8 output lanes"):
        machine_of("8x8", weight_pairs=True)
