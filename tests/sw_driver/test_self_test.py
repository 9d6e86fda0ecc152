"""Faults of every kind, each of which the self-test must find and put where it belongs."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from software_board import MemoryLink, compute, small_program

from hw.program_file import ProgramFile
from hw.registers import Status
from sw_driver.accelerator import Accelerator, AcceleratorError
from sw_driver.memory_test import MemoryFault, exercise_memory, used_regions
from sw_driver.self_test import self_test, self_test_bytes

PROGRAM = small_program()


def test_nothing_wrong() -> None:
    moved: list[int] = []
    result = self_test(Accelerator(MemoryLink(PROGRAM)), PROGRAM, moved.append)
    assert result.passed
    assert result.verdict == "passed"
    assert [layer.result for layer in result.layers] == ["right"] * 3
    assert result.memory_bytes >= 5300
    assert sum(moved) == self_test_bytes(PROGRAM)
    assert json.loads(json.dumps(result.to_json()))["passed"] is True


class BrokenMemory(MemoryLink):
    """Faults that real memories and boards have."""

    def __init__(self, fault: str) -> None:
        super().__init__(PROGRAM)
        self.fault = fault

    def write_memory(self, address: int, content: bytes) -> None:
        if self.fault == "address line":  # bit 13 is stuck at 0
            for offset, byte in enumerate(content):
                self.memory[(address + offset) & ~0x2000] = byte
            return
        super().write_memory(address, content)

    def read_memory(self, address: int, count: int) -> bytes:
        if self.fault == "address line":
            return bytes(self.memory[(address + offset) & ~0x2000] for offset in range(count))
        content = bytearray(super().read_memory(address, count))
        for offset in range(count):
            place = address + offset
            if (self.fault == "data line" and place % 2 == 1) or (self.fault == "cell" and place == 0x1234):
                content[offset] &= ~0x10
        return bytes(content)


@pytest.mark.parametrize("fault", ["data line", "address line", "cell"])
def test_memory_faults_are_not_blamed_on_the_array(fault: str) -> None:
    link = BrokenMemory(fault)
    result = self_test(Accelerator(link), PROGRAM)
    assert not result.passed
    assert result.verdict.startswith(f"memory {fault}s:")
    assert "not the array" in result.verdict
    assert link.starts == 0
    if fault == "cell":
        assert "the first at 0x1234" in result.verdict
        assert "0x10" in result.verdict


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_first_wrong_layer_is_named(wrong: int) -> None:
    def broken(program: ProgramFile, memory: bytearray) -> None:
        compute(program, memory)
        for layer in program.layers[wrong:]:
            memory[layer.tensor.address + 3] ^= 4

    result = self_test(Accelerator(MemoryLink(PROGRAM, work=broken)), PROGRAM)
    assert not result.passed
    assert result.memory_fault == ""
    assert [layer.result for layer in result.layers] == ["right"] * wrong + ["wrong"] * (3 - wrong)
    name = PROGRAM.layers[wrong].name
    assert f"layer {wrong} ({name}) is the first wrong one" in result.verdict
    assert "the memory is good, and a second run gives the same" in result.verdict
    assert result.repeatable is True


def test_values_that_change_from_run_to_run() -> None:
    runs = [0]

    def shaky(program: ProgramFile, memory: bytearray) -> None:
        compute(program, memory)
        runs[0] += 1
        memory[program.layers[1].tensor.address + runs[0]] ^= 1

    result = self_test(Accelerator(MemoryLink(PROGRAM, work=shaky)), PROGRAM)
    assert result.repeatable is False
    assert "layer 1 (double)" in result.verdict
    assert "the clock is too fast" in result.verdict


def test_program_that_writes_over_its_weights() -> None:
    def broken(program: ProgramFile, memory: bytearray) -> None:
        compute(program, memory)
        memory[0x1005] ^= 1
        memory[program.output.address] ^= 1

    result = self_test(Accelerator(MemoryLink(PROGRAM, work=broken)), PROGRAM)
    assert "the segment weights at 0x1000 changed while the program ran" in result.verdict


def test_run_that_ends_with_an_error() -> None:
    link = MemoryLink(PROGRAM)
    link.errors = Status.READ_ERROR
    result = self_test(Accelerator(link), PROGRAM)
    assert not result.passed
    assert "the memory answered a read with an error" in result.verdict


def test_layers_whose_memory_is_used_again() -> None:
    program = small_program()
    shared = program.layers[1]
    places = {0: shared.tensor.address}
    program.layers[0] = type(shared)(
        0,
        "add_one",
        "Convolution",
        10,
        type(shared.tensor)("first", shared.tensor.shape, 8, False, 0, places[0]),
        program.layers[0].checksum,
    )
    result = self_test(Accelerator(MemoryLink(program)), program)
    assert result.passed
    assert [layer.result for layer in result.layers] == ["overwritten", "right", "right"]


def test_layers_that_are_not_stored() -> None:
    """Nobody looks for them in memory."""
    program = small_program()
    program.layers[0] = replace(program.layers[0], stored=False, checksum=program.layers[0].checksum ^ 1)
    moved: list[int] = []
    result = self_test(Accelerator(MemoryLink(program)), program, moved.append)
    assert result.passed
    assert [layer.name for layer in result.layers] == [layer.name for layer in program.layers[1:]]
    assert sum(moved) == self_test_bytes(program)


def test_another_machine_is_refused() -> None:
    link = MemoryLink(PROGRAM)
    link.digest ^= 1
    with pytest.raises(AcceleratorError, match="compiled for the machine"):
        self_test(Accelerator(link), PROGRAM)
    assert link.writes == 0


def test_wrong_output_alone() -> None:
    program = small_program()
    program.known_output = program.known_output + 1
    result = self_test(Accelerator(MemoryLink(program)), program)
    assert not result.passed
    assert "the output is wrong" in result.verdict


@settings(max_examples=60, deadline=None)
@given(ranges=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=8))
def test_regions_cover_exactly_the_ranges(ranges: list[tuple[int, int]]) -> None:
    regions = used_regions(ranges)
    expected = {place for address, count in ranges for place in range(address, address + count)}
    assert {place for address, count in regions for place in range(address, address + count)} == expected
    assert all(first[0] + first[1] < second[0] for first, second in pairwise(regions))


@settings(max_examples=25, deadline=None)
@given(place=st.integers(0x1000, 0x1000 + 4999), bit=st.integers(0, 7), stuck=st.booleans())
def test_every_stuck_cell_is_found(place: int, bit: int, stuck: bool) -> None:
    class Stuck(MemoryLink):
        def read_memory(self, address: int, count: int) -> bytes:
            content = bytearray(super().read_memory(address, count))
            if address <= place < address + count:
                old = content[place - address]
                content[place - address] = old | 1 << bit if stuck else old & ~(1 << bit)
            return bytes(content)

    # one pattern leaves half of the stuck cells unseen; each is written with a bit and with its complement
    with pytest.raises(MemoryFault, match=hex(place)):
        exercise_memory(Accelerator(Stuck(PROGRAM)), [(0x1000, 5000)])


def test_a_cell_that_disturbs_another_is_found() -> None:
    class Coupled(MemoryLink):
        def write_memory(self, address: int, content: bytes) -> None:
            super().write_memory(address, content)
            if address <= 0x1100 < address + len(content):
                self.memory[0x1900] ^= 1

    link = Coupled(PROGRAM)
    with pytest.raises(MemoryFault, match="0x1900"):
        exercise_memory(Accelerator(link), [(0x1000, 0x200), (0x1800, 0x200)])
