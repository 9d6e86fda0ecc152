"""A board in software: the serial protocol over a real pseudo-terminal, and links without one."""

from __future__ import annotations

import os
import pty
import random
import threading
import tty
from collections.abc import Callable
from types import TracebackType

import numpy as np

from hw.machine import Machine
from hw.program_file import Layer, ProgramFile, Segment, TensorPlace
from hw.registers import Control, Register, Status
from hw.serial_protocol import (
    MAXIMUM_DATA,
    Command,
    FrameReader,
    Identity,
    MemoryState,
    Request,
    Response,
    ResponseStatus,
)
from sw_driver.link import Link

MACHINE = Machine(
    input_lanes=4, output_lanes=8, scratchpad_words=256, accumulator_depth=16, weight_fifo_words=32
)


def small_program(machine: Machine = MACHINE, memory_bytes: int = 1 << 16) -> ProgramFile:
    """A program whose three layers `compute` computes: +1, *2, and a sum over the rows; the second overwrites
    the first's memory in part."""
    shape = (5, 4, 6)
    rng = np.random.default_rng(5)
    known_input = rng.integers(0, 50, shape)
    places = {
        "input": TensorPlace("input", shape, 8, False, 0, 0x4000),
        "first": TensorPlace("first", shape, 8, False, 0, 0x5000),
        "second": TensorPlace("second", shape, 8, False, 0, 0x6000),
        "output": TensorPlace("output", (5, 1, 6), 8, True, 3, 0x7000),
    }
    first, second, output = _layers(known_input)
    layers = [
        Layer(0, "add_one", "Convolution", 10, places["first"], Layer.checksum_of(first)),
        Layer(1, "double", "Convolution", 20, places["second"], Layer.checksum_of(second)),
        Layer(2, "sum", "Convolution", 30, places["output"], Layer.checksum_of(output)),
    ]
    return ProgramFile(
        name="small",
        machine=machine,
        memory_bytes=memory_bytes,
        program_address=0x40,
        segments=[Segment("program", 0x40, rng.bytes(300)), Segment("weights", 0x1000, rng.bytes(5000))],
        input=places["input"],
        output=places["output"],
        output_shape=(30,),
        layers=layers,
        known_input=known_input,
        known_output=output,
    )


def _layers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first = values + 1
    second = first * 2 % 256
    output = second.sum(axis=1, keepdims=True) % 100 - 50
    return first, second, output


def compute(program: ProgramFile, memory: bytearray) -> None:
    """What the double's array does with the small program."""
    word = program.machine.word_bytes
    place = program.input
    content = bytes(memory[place.address : place.address + place.byte_count(word)])
    for layer, values in zip(program.layers, _layers(place.unpack(content, word))):
        packed = layer.tensor.pack(values, word)
        memory[layer.tensor.address : layer.tensor.address + len(packed)] = packed


class MemoryLink(Link):
    """An accelerator that is only memory, registers and a function."""

    def __init__(
        self,
        program: ProgramFile,
        memory_bytes: int = 1 << 16,
        work: Callable[[ProgramFile, bytearray], object] = compute,
        polls: int = 3,
    ) -> None:
        self.name = "double"
        self.memory_bytes = memory_bytes
        self.clock_hz = 50_000_000
        self.memory = bytearray(memory_bytes)
        self.digest = program.machine.digest()
        self.starts = 0
        self.controls: list[Control] = []  # with which programs were started
        self.status = Status.DONE
        self.errors = Status(0)
        self.writes = 0
        self._program, self._work, self._polls, self._left = program, work, polls, 0

    def read_memory(self, address: int, count: int) -> bytes:
        self.check_range(address, count)
        return bytes(self.memory[address : address + count])

    def write_memory(self, address: int, content: bytes) -> None:
        self.check_range(address, len(content))
        self.writes += 1
        self.memory[address : address + len(content)] = content

    def read_register(self, register: Register | int) -> int:
        if register == Register.ID_LOW:
            return self.digest & 0xFFFFFFFF
        if register == Register.ID_HIGH:
            return self.digest >> 32
        if register == Register.STATUS:
            if self.status & Status.BUSY:
                self._left -= 1
                if self._left == 0:
                    self._work(self._program, self.memory)
                    self.status = Status.DONE | self.errors
            return int(self.status)
        if register == Register.CYCLES + 4:
            return 2
        return 1000 if register == Register.CYCLES else 1

    def write_register(self, register: Register | int, value: int) -> None:
        if register == Register.CONTROL and value & Control.START:
            self.starts += 1
            self.controls.append(Control(value))
            self._left = self._polls
            self.status = Status.BUSY

    def pause(self, seconds: float) -> None:
        pass


class SoftwareBoard:
    """Answers the protocol on a pseudo-terminal, from a thread, as well or badly as it is told.

    ``wire_in`` and ``wire_out`` may change the bytes of each direction.
    """

    def __init__(
        self,
        link: Link,
        *,
        ready: bool = True,
        seed: int = 0,
        wire_in: Callable[[bytes, random.Random], bytes] = lambda data, _: data,
        wire_out: Callable[[bytes, random.Random], bytes] = lambda data, _: data,
        version: int = 1,
        state: Callable[[], MemoryState] | None = None,
    ) -> None:
        self.link = link
        self.ready = ready
        self.version = version
        self.register_writes: list[tuple[int, int]] = []
        self._state = state or (lambda: MemoryState.READY if self.ready else MemoryState.NOT_READY)
        self._wire_in, self._wire_out, self._random = wire_in, wire_out, random.Random(seed)
        self._previous = -1
        self._previous_status = ResponseStatus.OKAY
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self._slave = slave
        self.port = os.ttyname(slave)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> SoftwareBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join(10)
        for descriptor in (self._master, self._slave, self._stop_read, self._stop_write):
            os.close(descriptor)

    def _serve(self) -> None:
        import select

        reader = FrameReader()
        while True:
            readable, _, _ = select.select([self._master, self._stop_read], [], [])
            if self._stop_read in readable:
                return
            received = self._wire_in(os.read(self._master, 65536), self._random)
            for content in reader.feed(received):
                request = Request.decode(content)
                if request is not None:
                    answer = self._wire_out(self._answer(request).encode(), self._random)
                    while answer:
                        answer = answer[os.write(self._master, answer) :]

    def _answer(self, request: Request) -> Response:
        status, data = ResponseStatus.OKAY, b""
        fits = (
            request.address % 8 == 0
            and request.count % 8 == 0
            and 0 < request.count <= MAXIMUM_DATA
            and request.address + request.count <= self.link.memory_bytes
        )
        match request.command:
            case Command.IDENTIFY:
                state = self._state()
                data = Identity(self.link.memory_bytes, 50_000_000, state, self.version).encode()
            case Command.READ_MEMORY if fits:
                data = self.link.read_memory(request.address, request.count)
            case Command.WRITE_MEMORY if fits and len(request.data) == request.count:
                self.link.write_memory(request.address, request.data)
            case Command.READ_REGISTER if request.count == 4:
                data = self.link.read_register(request.address).to_bytes(4, "little")
            case Command.WRITE_REGISTER if len(request.data) == 4:
                if request.sequence != self._previous:
                    value = int.from_bytes(request.data, "little")
                    self.register_writes.append((request.address, value))
                    self.link.write_register(request.address, value)
            case _:
                status = ResponseStatus.BAD_REQUEST
        self._previous = request.sequence
        return Response(request.sequence, status, data)
