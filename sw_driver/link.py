"""What the driver needs of a connection to an accelerator: its registers and its external memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hw.registers import Register

if TYPE_CHECKING:
    from sw_driver.ddr3 import Calibration

__all__ = ["Link", "LinkError"]


class LinkError(ValueError):
    """The accelerator cannot be reached; the message says what was expected and what to check."""


class Link(ABC):
    """A connection to one accelerator.

    Attributes
    ----------
    name : str
        What messages call it: ``"serial:/dev/ttyUSB0"``.
    memory_bytes : int
        Size of the external memory.
    clock_hz : int or None
        Clock of the accelerator; None in simulation, where time does not matter.
    calibration : Calibration or None
        What was found for its memory, if opening the link calibrated it.
    run_seconds : float
        Longest that a run may take, unless the caller knows better.
    """

    name: str
    memory_bytes: int
    clock_hz: int | None
    calibration: Calibration | None = None
    run_seconds: float = 60.0

    @abstractmethod
    def read_memory(self, address: int, count: int) -> bytes:
        """``count`` bytes of external memory; any address and count.

        Raises
        ------
        LinkError
            If the range is outside the memory, or the accelerator does not answer.
        """

    @abstractmethod
    def write_memory(self, address: int, content: bytes) -> None:
        """Write bytes to external memory, at any address; raises as `read_memory` does."""

    @abstractmethod
    def read_register(self, register: Register | int) -> int:
        """A 32-bit control register, by byte address."""

    @abstractmethod
    def write_register(self, register: Register | int, value: int) -> None:
        """Write a 32-bit control register, by byte address, exactly once."""

    @abstractmethod
    def pause(self, seconds: float) -> None:
        """Let the accelerator work before it is asked again; a simulated one advances when asked."""

    def close(self) -> None:  # noqa: B027 - most links hold nothing
        """Give up the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check_range(self, address: int, count: int) -> None:
        """Refuse what lies outside the external memory.

        Raises
        ------
        LinkError
            If some of the bytes do not exist.
        """
        if address < 0 or count < 0 or address + count > self.memory_bytes:
            raise LinkError(
                f"{self.name}: bytes {address:#x} to {address + count:#x} are outside the "
                f"{self.memory_bytes} bytes of external memory"
            )
