"""Choosing a machine: bounds, what fits, the order, and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fixed_networks import NetworkBuilder

from compiler.__main__ import main
from compiler.bounds import least_cycles, weight_bytes
from compiler.candidates import Target, check
from compiler.compile import place_instructions
from compiler.error import CompileError
from compiler.estimate import estimate
from compiler.fit import FitError, Result, choose_machine, evaluate, ranked
from compiler.lower import lower
from hw.kept_memory import kept_block_rams
from hw.machine import Machine
from hw.program_file import ProgramFile
from quant.fixed_model import FixedModel
from quant.qdq import write_fixed_model
from sim.memory_settings import memory_settings

SMALL = {"scratchpad_words": 1024, "accumulator_depth": 64, "weight_fifo_words": 128}


def _area(machine: Machine) -> dict[str, int]:
    """A part that grows with the multipliers and with the scratchpad."""
    return {
        "luts": 100 * machine.multipliers,
        "ffs": 0,
        "dsps": machine.multipliers,
        "block_rams": machine.scratchpad_words * machine.word_bytes // 2048
        + kept_block_rams(machine.bus_width, machine.kept_weight_words),
    }


TARGET = Target(
    name="tested",
    part="part",
    resources={"luts": 10_000, "ffs": 1, "dsps": 70, "block_rams": 8},
    area=_area,
    memory=memory_settings("ulx3s"),
    memory_bytes=1 << 20,
    clock_mhz=50.0,
)


def _model() -> FixedModel:
    build = NetworkBuilder((3, 12, 12))
    return build.model(build.convolution(build.max_pool(build.convolution("input", 20)), 24))


@pytest.fixture(scope="module")
def model() -> FixedModel:
    return _model()


@pytest.fixture
def onnx_file(tmp_path: Path, model: FixedModel) -> Path:
    write_fixed_model(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("lanes", [(4, 4, 32), (4, 8, 64), (8, 16, 64)])
@pytest.mark.parametrize("memory", ["ideal", "ulx3s"])
def test_no_estimate_undercuts_the_bound(model, lanes, memory):
    machine = Machine(input_lanes=lanes[0], output_lanes=lanes[1], bus_width=lanes[2], **SMALL)
    settings = memory_settings(memory)
    layers = lower(model, machine).layers
    operations = [operation for layer in layers for operation in layer.operations]
    bound = least_cycles(operations, machine, settings)
    found = estimate(place_instructions(model, machine).instructions, machine, settings).cycles
    assert 0.3 * found < bound <= found
    if lanes[2] == 64:  # with all weights kept, of a later inference
        keeping = replace(machine, kept_weight_words=1024)
        placed = place_instructions(model, keeping)
        start = placed.memory_map.weights
        later = estimate(placed.instructions, keeping, settings, kept_address=start).cycles
        assert least_cycles(operations, keeping, settings) <= min(later, bound)
        assert later < found or memory == "ideal"
    deeper = replace(machine, accumulator_depth=128)
    assert weight_bytes(operations, deeper) < weight_bytes(operations, machine)


def test_the_bound_knows_weights_that_are_given_again():
    """They cross the bus once, however many rectangles of pixels there are."""
    build = NetworkBuilder((64, 16, 16))
    model = build.model(build.convolution("input", 8))
    settings = memory_settings("ulx3s")
    for depth in (16, 32, 64):
        machine = Machine(input_lanes=8, output_lanes=8, scratchpad_words=2048, accumulator_depth=depth)
        operations = [operation for layer in lower(model, machine).layers for operation in layer.operations]
        found = estimate(place_instructions(model, machine).instructions, machine, settings).cycles
        assert 0.4 * found < least_cycles(operations, machine, settings) <= found


def test_all_that_is_short_is_named():
    assert check(Machine(input_lanes=4, output_lanes=8, scratchpad_words=256), TARGET).problem == ""
    assert check(Machine(), TARGET).problem == (
        "needs 128 DSP blocks of 70, 64 block RAMs of 8, 12,800 LUTs of 10,000"
    )


def _results(*cycles_and_luts: tuple[int, int]) -> list[Result]:
    needs = {"luts": 0, "ffs": 0, "dsps": 0, "block_rams": 0}
    return [Result(Machine(), {**needs, "luts": luts}, cycles=cycles) for cycles, luts in cycles_and_luts]


def test_about_as_fast_and_smaller_comes_first():
    results = _results((1000, 50), (1009, 40), (1020, 10), (990, 70))
    order = ranked([*results, Result(Machine(), {}, problem="no")])
    assert [result.cycles for result in order] == [990, 1009, 1000, 1020]
    assert [result.cycles for result in ranked(_results((1000, 50), (1009, 40)))] == [1009, 1000]


def test_the_choice(model):
    seen = []

    def evaluator(candidates):
        seen.extend(candidate.machine for candidate in candidates)
        return [evaluate(model, candidate, TARGET) for candidate in candidates]

    choice = choose_machine(model, TARGET, evaluator)
    best = choice.order[0]
    assert len(seen) == len(set(seen)) == len(choice.order)
    assert not any(machine.average_pooling for machine in seen)  # the network has no use for it
    assert all(result.cycles >= best.cycles / 1.01 for result in choice.order + choice.slower)
    for result in [*choice.order, *choice.slower]:
        assert all(result.needs[name] <= TARGET.resources[name] for name in ("dsps", "luts", "block_rams"))
    refused = [(result.machine.input_lanes, result.machine.output_lanes) for result in choice.refused]
    assert (8, 16) in refused
    # the figures are those of the compiled program
    program = place_instructions(model, best.machine)
    kept = program.memory_map.weights if best.machine.kept_weight_words else None
    later = estimate(program.instructions, best.machine, TARGET.memory, kept_address=kept)
    assert best.cycles == later.cycles
    assert best.memory_bytes == program.memory_map.end
    assert best.shares is not None
    assert sum(best.shares.values()) == pytest.approx(1, abs=0.01)
    assert best.shares[best.bottleneck] == max(best.shares.values())


def test_weights_are_kept_where_block_rams_are_left(model):
    def evaluator(candidates):
        return [evaluate(model, candidate, roomy) for candidate in candidates]

    roomy = replace(TARGET, resources={**TARGET.resources, "block_rams": 12})
    best = choose_machine(model, roomy, evaluator).order[0]
    assert best.machine.kept_weight_words
    assert best.needs["block_rams"] <= 12
    without = replace(best.machine, kept_weight_words=0)
    assert evaluate(model, check(without, roomy), roomy).cycles > best.cycles


def test_none_fits(model):
    def evaluator(candidates):
        return [evaluate(model, candidate, small) for candidate in candidates]

    small = replace(TARGET, memory_bytes=1000)
    with pytest.raises(FitError, match=r"tested has 1,000; use a smaller network or input, or a board"):
        choose_machine(model, small, evaluator)
    small = replace(TARGET, resources={**TARGET.resources, "luts": 100})
    with pytest.raises(FitError, match=r"needs 1,600 LUTs of 100"):
        choose_machine(model, small, evaluator)
    build = NetworkBuilder((3, 300, 4))
    tall = build.model(build.average_pool("input", (300, 4)))
    with pytest.raises(CompileError, match="kernel"):
        choose_machine(tall, TARGET, evaluator)


def test_command(onnx_file, tmp_path, capsys):
    pytest.importorskip("amaranth_boards")
    pytest.importorskip("joblib")
    chosen, report = tmp_path / "machine.json", tmp_path / "fit.json"
    arguments = ["fit", str(onnx_file), "--board", "ulx3s-25f", "--backend", "sequential"]
    assert main([*arguments, "-o", str(chosen), "--json", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ulx3s-25f, LFE5U-25F-6BG381C"
    assert "of 28" in lines[2]
    assert any("needs 32 DSP blocks of 28" in line for line in lines)
    found = json.loads(report.read_text())
    first = found["candidates"][0]
    assert Machine.from_json(first["machine"]) == Machine.from_json(json.loads(chosen.read_text()))
    assert first["frames_per_second"] == pytest.approx(50e6 / first["cycles"])
    assert all(one["cycles"] >= first["cycles"] / 1.01 for one in found["candidates"])
    # what was chosen compiles
    assert main([str(onnx_file), "--machine", str(chosen), "-o", str(tmp_path / "net.prog"), "--quiet"]) == 0
    assert ProgramFile.load(tmp_path / "net.prog").machine == Machine.from_json(first["machine"])
    # the same from another backend
    capsys.readouterr()
    again = tmp_path / "again.json"
    other = ["--backend", "threading", "--jobs", "2", "--json", str(again), "--quiet"]
    assert main([*arguments[:4], *other]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(again.read_text()) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--board", "nobody"], "no board is called nobody; there are ulx3s-85f"),
        (["--board", "icebreaker"], "there is an area model for ECP5 parts only"),
        (["--board", "ecp5", "--clock", "0"], "--clock must be 1 to 500 MHz, not 0"),
        (["--board", "ecp5", "--backend", "nobody"], "backend nobody: "),
        (["--board", "ecp5", "--jobs", "0"], "--jobs must be at least 1, not 0"),
        (["--board", "ecp5", "-o", "/nowhere/machine.json"], "does not exist"),
    ],
)
def test_errors_in_one_line(onnx_file, capsys, options, message):
    pytest.importorskip("amaranth_boards")
    pytest.importorskip("joblib")
    assert main(["fit", str(onnx_file), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_unreadable_models(tmp_path, capsys):
    pytest.importorskip("amaranth_boards")
    pytest.importorskip("joblib")
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    for name in ("net.onnx", "missing.onnx"):
        messages = []
        for command in (["fit", "--board", "ecp5"], ["--quiet"]):
            assert main([*command, str(tmp_path / name)]) == 1
            messages.append(capsys.readouterr().err)
        assert messages[0] == messages[1]
        assert messages[0].count("\n") == 1
