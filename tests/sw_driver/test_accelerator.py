"""Loading and running on a double whose array is a function."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from software_board import MACHINE, MemoryLink, SoftwareBoard, small_program

from hw.machine import Machine
from hw.registers import COUNTERS, Control, Register, Status
from sw_driver.accelerator import Accelerator, AcceleratorError
from sw_driver.serial_link import SerialLink

PROGRAM = small_program()


def test_load_and_run() -> None:
    link = MemoryLink(PROGRAM)
    accelerator = Accelerator(link)
    moved: list[int] = []
    accelerator.load(PROGRAM, moved.append)
    assert sum(moved) == sum(len(segment.content) for segment in PROGRAM.segments)
    for segment in PROGRAM.segments:
        assert link.memory[segment.address : segment.address + len(segment.content)] == segment.content
    assert np.array_equal(accelerator.run(PROGRAM.known_input), PROGRAM.known_output)
    assert link.starts == 1
    images = [np.full(PROGRAM.input.shape, value) for value in (0, 3, 9)]
    outputs = list(accelerator.run_batch(images))
    assert [int(output[0, 0, 0]) for output in outputs] == [2 * 4 - 50, 8 * 4 - 50, 20 * 4 - 50]
    assert link.starts == 4


def test_over_the_serial_line() -> None:
    link = MemoryLink(PROGRAM)
    with SoftwareBoard(link) as board, SerialLink(board.port) as serial:
        accelerator = Accelerator(serial)
        assert accelerator.identify() == MACHINE.digest()
        accelerator.load(PROGRAM)
        assert np.array_equal(accelerator.run(PROGRAM.known_input), PROGRAM.known_output)


def test_counters_have_64_bits_and_low_words_come_first() -> None:
    class Latching(MemoryLink):
        order: list[int] = []  # noqa: RUF012

        def read_register(self, register: Register | int) -> int:
            self.order.append(int(register))
            return super().read_register(register)

    link = Latching(PROGRAM)
    counters = Accelerator(link).counters()
    assert list(counters) == [register.name.lower() for register in COUNTERS]
    assert counters["cycles"] == 1000 + (2 << 32)
    assert link.order == [address for register in COUNTERS for address in (register, register + 4)]


def test_program_for_another_machine_is_refused_before_transfer() -> None:
    link = MemoryLink(PROGRAM)
    other = small_program(Machine(input_lanes=8, output_lanes=8))
    with pytest.raises(
        AcceleratorError, match=r"small: compiled for the machine .*8x8 multipliers.*double is"
    ):
        Accelerator(link).load(other)
    assert link.writes == 0


def test_program_that_needs_more_memory_is_refused_before_transfer() -> None:
    link = MemoryLink(PROGRAM, memory_bytes=1 << 15)
    with pytest.raises(AcceleratorError, match="needs 65536 bytes of external memory, but double has 32768"):
        Accelerator(link).load(PROGRAM)
    assert link.writes == 0


def test_run_without_a_program() -> None:
    with pytest.raises(AcceleratorError, match="no program is loaded"):
        Accelerator(MemoryLink(PROGRAM)).run(PROGRAM.known_input)


def test_load_while_a_program_runs() -> None:
    link = MemoryLink(PROGRAM)
    link.status, link._left = Status.BUSY, 100
    with pytest.raises(AcceleratorError, match="still running"):
        Accelerator(link).load(PROGRAM)
    assert link.writes == 0


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 6), np.int64),
        np.full(PROGRAM.input.shape, 256),
        np.full(PROGRAM.input.shape, -1),
    ],
)
def test_input_that_does_not_fit(image: np.ndarray) -> None:
    link = MemoryLink(PROGRAM)
    accelerator = Accelerator(link)
    accelerator.load(PROGRAM)
    writes = link.writes
    with pytest.raises(AcceleratorError, match="small: the input does not fit: input"):
        accelerator.run(image)
    assert link.writes == writes
    assert link.starts == 0


def test_run_that_does_not_end() -> None:
    link = MemoryLink(PROGRAM, polls=-1)
    accelerator = Accelerator(link, run_timeout=0.1)
    accelerator.load(PROGRAM)
    began = time.monotonic()
    with pytest.raises(AcceleratorError, match=r"not done after 0.1 s, in layer 1 \(double\), STATUS 0x1"):
        accelerator.run(PROGRAM.known_input)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Status.READ_ERROR, "answered a read with an error"),
        (Status.WRITE_ERROR, "answered a write with an error"),
        (Status.BAD_OPCODE, "unknown instruction"),
        (Status.TOKEN_ERROR, "too many tokens"),
        (Status.READ_ERROR | Status.BAD_OPCODE, "read with an error; an unknown instruction"),
    ],
)
def test_errors_in_the_status(error: Status, text: str) -> None:
    link = MemoryLink(PROGRAM)
    accelerator = Accelerator(link)
    accelerator.load(PROGRAM)
    link.errors = error
    with pytest.raises(AcceleratorError, match=text):
        accelerator.run(PROGRAM.known_input)


def test_failed_load_leaves_no_program() -> None:
    link = MemoryLink(PROGRAM)
    accelerator = Accelerator(link)
    accelerator.load(PROGRAM)
    with pytest.raises(AcceleratorError):
        accelerator.load(dataclasses.replace(PROGRAM, memory_bytes=1 << 20))
    assert accelerator.program is PROGRAM  # nothing was transferred, so the first is still whole


def test_weights_are_kept_from_one_run_to_the_next() -> None:
    program = small_program(dataclasses.replace(MACHINE, kept_weight_words=1024))
    program.kept_address = 0x1000
    link = MemoryLink(program)
    accelerator = Accelerator(link)
    accelerator.load(program)
    fresh, kept = Control.START, Control.START | Control.KEPT
    for _ in range(3):
        accelerator.run(program.known_input)
    assert link.controls == [fresh, kept, kept]
    # not after anything that may have changed them, or a run that failed
    accelerator.write(0x1000, b"1234")
    accelerator.run(program.known_input)
    link.errors = Status.READ_ERROR
    with pytest.raises(AcceleratorError, match="read"):
        accelerator.run(program.known_input)
    link.errors = Status(0)
    for _ in range(2):
        accelerator.run(program.known_input)
    accelerator.load(program)
    accelerator.run(program.known_input)
    assert link.controls[3:] == [fresh, kept, fresh, kept, fresh]


def test_a_machine_that_keeps_no_weights_is_started_plainly() -> None:
    link = MemoryLink(PROGRAM)
    accelerator = Accelerator(link)
    accelerator.load(PROGRAM)
    for _ in range(2):
        accelerator.run(PROGRAM.known_input)
    assert link.controls == [Control.START] * 2
