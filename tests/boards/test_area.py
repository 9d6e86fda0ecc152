"""The area model against the designs it is fitted to, and the command that measures them."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

pytest.importorskip("amaranth_boards", reason="amaranth-boards is not installed")

from boards import area_command
from boards.__main__ import main
from boards.area import TERMS, AreaPoint, board_area, fit, read_points, terms, write_points
from boards.decoder_area import (
    LOADER_MACHINES,
    decoder_area,
    decoder_block_rams,
    read_loaders,
    variants,
    write_loaders,
)
from boards.registry import find_board
from hw.machine import Machine

POINTS = read_points()
BOARDS = [point for point in POINTS if point.kind]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.design} {point.machine.output_lanes}")
def test_measured_designs(point):
    found = board_area(point.machine, point.kind)
    assert found["dsps"] == point.dsps
    assert found["block_rams"] == point.block_rams
    assert found["luts"] == pytest.approx(point.luts, rel=0.15)
    assert found["ffs"] == pytest.approx(point.ffs, rel=0.15)


@pytest.mark.parametrize("point", BOARDS, ids=lambda point: point.design)
def test_a_board_from_the_other_designs(point):
    for resource, factors in fit([other for other in POINTS if other != point]).items():
        predicted = factors @ terms(point.machine, point.kind)
        assert predicted == pytest.approx(getattr(point, resource), rel=0.15), resource


def test_every_term_costs_something():
    for resource, factors in fit(POINTS).items():
        assert len(factors) == len(TERMS)
        assert (factors > 0).all(), (resource, factors)


def test_the_measured_machines_are_the_boards():
    """The baseline names boards that exist, with their memory."""
    for point in POINTS:
        if point.design != "core":
            board = find_board(point.design)
            assert board.external.kind == point.kind
            assert all(getattr(point, name) <= board.part.resources[name] for name in ("luts", "dsps"))


def test_fit_finds_the_factors_of_what_is_a_sum():
    factors = np.random.default_rng(0).integers(1, 50, len(TERMS)) * 100.0
    points = []
    for (inputs, outputs), bus_width, kind, pooling, pairs in itertools.product(
        ((4, 8), (8, 16), (16, 16)), (32, 64), ("", "sdram", "ddr3"), (False, True), (False, True)
    ):
        machine = Machine(
            input_lanes=inputs,
            output_lanes=outputs,
            bus_width=bus_width,
            average_pooling=pooling,
            weight_pairs=pairs and outputs > inputs,
        )
        size = int(factors @ terms(machine, kind))
        points.append(AreaPoint("made", kind, machine, size, 2 * size, 0, 0))
    found = fit(points)
    for point in points:
        assert found["luts"] @ terms(point.machine, point.kind) == pytest.approx(point.luts)
        assert found["ffs"] @ terms(point.machine, point.kind) == pytest.approx(point.ffs)


def test_small_memories_are_in_luts():
    small = Machine(scratchpad_words=1024, accumulator_depth=16, weight_fifo_words=64)
    # 16 accumulators of 32 x 16 bits, 32 pairs of weight beats and four instructions ahead cost less in
    # LUTs; a bank of the scratchpad is never less than a block RAM deep
    assert board_area(small, "")["block_rams"] == 8 * 8 + 0 + 0 + 2 + 4


def test_the_weight_fifo_is_counted():
    shallow, deep = (board_area(Machine(weight_fifo_words=words), "")["block_rams"] for words in (512, 4096))
    assert deep - shallow == 15 - 4  # 130 bits wide, half as deep


def test_decoders_are_counted():
    for machine in LOADER_MACHINES:
        plain, decoder, both = variants(machine)
        sizes = dict(read_loaders())
        for one in (decoder, both):
            added = decoder_area(one)
            for resource in ("luts", "ffs"):
                measured = sizes[one][resource] - sizes[plain][resource]
                assert added[resource] == pytest.approx(measured, rel=0.06), (one, resource)
            assert decoder_block_rams(one) == sizes[one]["block_rams"]
            whole, without = board_area(one, "sdram"), board_area(plain, "sdram")
            assert whole["luts"] - without["luts"] == pytest.approx(added["luts"], abs=1)
            assert whole["block_rams"] - without["block_rams"] == decoder_block_rams(one)
    assert decoder_area(Machine()) == {"luts": 0, "ffs": 0}


def test_loaders_are_read_as_written_and_measured_again(tmp_path, monkeypatch, capsys):
    path = tmp_path / "loaders.json"
    write_loaders(read_loaders(), path)
    assert read_loaders(path) == read_loaders()
    measured = []

    def measure_loader(machine: Machine) -> dict[str, int]:
        measured.append(machine)
        return {"luts": 1, "ffs": 2, "block_rams": 3}

    monkeypatch.setattr(area_command, "measure_loader", measure_loader)
    monkeypatch.setattr(area_command, "write_loaders", lambda loaders: write_loaders(loaders, path))
    assert main(["area", "--decoders"]) == 0
    assert [machine for machine, _ in read_loaders(path)] == measured
    assert measured == [one for machine in LOADER_MACHINES for one in variants(machine)]


def test_points_are_read_as_written(tmp_path):
    write_points(POINTS, tmp_path / "area.json")
    assert read_points(tmp_path / "area.json") == POINTS


def test_command(tmp_path, monkeypatch, capsys):
    baseline = tmp_path / "area.json"
    write_points(POINTS, baseline)
    monkeypatch.setattr(area_command, "read_points", lambda: read_points(baseline))
    monkeypatch.setattr(area_command, "write_points", lambda points: write_points(points, baseline))
    assert main(["area"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("output lanes" in line for line in lines)
    # a routed design takes the place of the one before
    machine = find_board("ecp5").machine
    report = {
        "board": "ecp5",
        "machine": machine.to_json(),
        "luts": 28_000,
        "ffs": 19_000,
        "dsps": 128,
        "block_rams": 88,
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert main(["area", "--add", str(tmp_path / "report.json")]) == 0
    assert len(read_points(baseline)) == len(POINTS)
    assert AreaPoint("ulx3s-85f", "sdram", machine, 28_000, 19_000, 128, 88) in read_points(baseline)
    # cores are synthesized again
    measured = []

    def measure_core(machine: Machine) -> AreaPoint:
        measured.append(machine)
        return AreaPoint("core", "", machine, 1, 2, 3, 4)

    monkeypatch.setattr(area_command, "measure_core", measure_core)
    cores = [point.machine for point in POINTS if point.design == "core"]
    assert main(["area", "--measure", "--core", '{"output_lanes": 8}', "--quiet"]) == 0
    assert measured == [*cores, Machine(output_lanes=8)]
    assert AreaPoint("core", "", Machine(output_lanes=8), 1, 2, 3, 4) in read_points(baseline)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--core", "lanes"], "--core: not a JSON object of machine fields"),
        (["--core", '{"input_lanes": 5}'], "input_lanes must be 4, 8 or 16, not 5"),
        (["--add", "/nowhere/report.json"], "/nowhere/report.json: not the report of a bitstream"),
    ],
)
def test_errors_in_one_line(capsys, options, message):
    assert main(["area", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
