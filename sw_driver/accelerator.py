"""One accelerator, wherever it is: identify, load a program, run images, read counters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.machine import Machine
from hw.program_file import ProgramFile
from hw.registers import COUNTERS, Control, Register, Status
from sw_driver.link import Link

__all__ = ["Accelerator", "AcceleratorError", "Progress"]

#: Called with the bytes that have just been moved.
Progress = Callable[[int], object]

#: Bytes between two reports of progress.
_CHUNK = 1 << 14

_ERRORS = {
    Status.READ_ERROR: "the memory answered a read with an error",
    Status.WRITE_ERROR: "the memory answered a write with an error",
    Status.BAD_OPCODE: "an unknown instruction was fetched",
    Status.TOKEN_ERROR: "too many tokens waited between two units",
}


class AcceleratorError(ValueError):
    """A program does not suit this accelerator, or did not run to its end; the message says why."""


@dataclass(frozen=True)
class _Loaded:
    program: ProgramFile
    word_bytes: int


class Accelerator:
    """Drives an accelerator over any `Link`.

    Parameters
    ----------
    link : Link
        The connection; the caller closes it.
    run_timeout : float or None
        Seconds that one run may take; None: what the link says.
    """

    def __init__(self, link: Link, *, run_timeout: float | None = None) -> None:
        self.link = link
        self.run_timeout = link.run_seconds if run_timeout is None else run_timeout
        self._loaded: _Loaded | None = None
        #: the weights that stay on the chip are those of the loaded program
        self._kept = False

    def identify(self) -> int:
        """The digest of the machine, from its ID registers (`hw.machine.Machine.digest`)."""
        return self.link.read_register(Register.ID_LOW) | self.link.read_register(Register.ID_HIGH) << 32

    def status(self) -> Status:
        """What STATUS says now."""
        return Status(self.link.read_register(Register.STATUS))

    def check(self, program: ProgramFile) -> None:
        """Refuse a program that cannot run here, before anything is transferred.

        Raises
        ------
        AcceleratorError
            If it was compiled for another machine or needs more memory.
        """
        found, wanted = self.identify(), program.machine.digest()
        if found != wanted:
            raise AcceleratorError(
                f"{program.name}: compiled for the machine {wanted:016x} ({_describe(program.machine)}), but "
                f"{self.link.name} is {found:016x}; compile the model for that machine, or load its bitstream"
            )
        if program.memory_bytes > self.link.memory_bytes:
            raise AcceleratorError(
                f"{program.name}: needs {program.memory_bytes} bytes of external memory, but "
                f"{self.link.name} has {self.link.memory_bytes}"
            )

    def load(self, program: ProgramFile, progress: Progress | None = None) -> None:
        """Write the program's memory image; later runs use it.

        Raises
        ------
        AcceleratorError
            If the program does not suit this accelerator, or another program is running.
        """
        self.check(program)
        if self.status() & Status.BUSY:
            raise AcceleratorError(f"{self.link.name}: a program is still running; wait, or reset the board")
        self._loaded, self._kept = None, False
        for segment in program.segments:
            self.write(segment.address, segment.content, progress)
        self.link.write_register(Register.PROGRAM_ADDRESS, program.program_address)
        self._loaded = _Loaded(program, program.machine.word_bytes)

    def write(self, address: int, content: bytes, progress: Progress | None = None) -> None:
        """Write external memory, reporting progress."""
        self._kept = False  # they may be what is written
        for start in range(0, len(content), _CHUNK):
            piece = content[start : start + _CHUNK]
            self.link.write_memory(address + start, piece)
            if progress is not None:
                progress(len(piece))

    def read(self, address: int, count: int, progress: Progress | None = None) -> bytes:
        """Read external memory, reporting progress."""
        parts: list[bytes] = []
        for start in range(0, count, _CHUNK):
            parts.append(self.link.read_memory(address + start, min(_CHUNK, count - start)))
            if progress is not None:
                progress(len(parts[-1]))
        return b"".join(parts)

    @property
    def program(self) -> ProgramFile:
        """The program that `load` loaded.

        Raises
        ------
        AcceleratorError
            If there is none.
        """
        return self._current().program

    def run(self, image: NDArray[np.integer]) -> NDArray[np.int64]:
        """Run the loaded program on one input.

        The weights that the machine keeps are read only by the first run after `load`.

        Parameters
        ----------
        image : int array (C, H, W)
            Integers in the format of ``program.input`` (`sw_driver.prepare`).

        Returns
        -------
        int64 array (C, H, W)
            Integers in the format of ``program.output``.

        Raises
        ------
        AcceleratorError
            If no program is loaded, the image does not fit it, the run takes longer than
            ``run_timeout``, or the machine reports an error.
        """
        loaded = self._current()
        program = loaded.program
        try:
            content = program.input.pack(image, loaded.word_bytes)
        except ValueError as error:
            raise AcceleratorError(f"{program.name}: the input does not fit: {error}") from None
        self.link.write_memory(program.input.address, content)
        self.start_and_wait()
        count = program.output.byte_count(loaded.word_bytes)
        return program.output.unpack(self.link.read_memory(program.output.address, count), loaded.word_bytes)

    def run_batch(self, images: Iterable[NDArray[np.integer]]) -> Iterator[NDArray[np.int64]]:
        """The outputs of `run`, image after image, each as soon as it is there."""
        for image in images:
            yield self.run(image)

    def start_and_wait(self) -> None:
        """Start the loaded program and wait for its end; raises as `run` does."""
        loaded = self._current()
        self.link.write_register(Register.PROGRAM_ADDRESS, loaded.program.program_address)
        control = Control.START
        if loaded.program.machine.kept_weight_words:
            self.link.write_register(Register.KEPT_ADDRESS, loaded.program.kept_address)
            control |= Control.KEPT if self._kept else Control(0)
        self._kept = False
        self.link.write_register(Register.CONTROL, control)
        deadline = time.monotonic() + self.run_timeout
        pause = 0.0005
        while True:
            status = self.status()
            if not status & Status.BUSY and status & Status.DONE:
                break
            if time.monotonic() > deadline:
                layer = self.link.read_register(Register.LAYER)
                names = {entry.number: entry.name for entry in loaded.program.layers}
                raise AcceleratorError(
                    f"{loaded.program.name}: not done after {self.run_timeout:g} s, in layer {layer} "
                    f"({names.get(layer, 'unknown')}), STATUS {int(status):#x}; run the self-test, "
                    "and reset the board first"
                )
            self.link.pause(pause)
            pause = min(2 * pause, 0.02)
        reasons = [reason for bit, reason in _ERRORS.items() if status & bit]
        if reasons:
            raise AcceleratorError(f"{loaded.program.name}: {'; '.join(reasons)}; run the self-test")
        self._kept = loaded.program.machine.kept_weight_words > 0

    def counters(self) -> dict[str, int]:
        """The counters of the last run, by the names of `hw.registers.Register` in lower case."""
        # the low word first: reading it holds the high word
        return {
            register.name.lower(): self.link.read_register(register)
            | self.link.read_register(register + 4) << 32
            for register in COUNTERS
        }

    def _current(self) -> _Loaded:
        if self._loaded is None:
            raise AcceleratorError(f"{self.link.name}: no program is loaded")
        return self._loaded


def _describe(machine: Machine) -> str:
    return (
        f"{machine.input_lanes}x{machine.output_lanes} multipliers, {machine.bus_width}-bit bus, "
        f"{machine.scratchpad_words} scratchpad words"
    )
