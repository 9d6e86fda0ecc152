"""The accelerator's RTL, compiled by Verilator, in this process."""

from __future__ import annotations

from typing import Any

from hw.machine import Machine
from hw.registers import Register, Status
from sw_driver.link import Link, LinkError

__all__ = ["SimulatedLink"]

#: Clock cycles that pass at most whenever STATUS is read while a program runs: long enough that the
#: call costs nothing, short enough that Control-C and timeouts are heeded.
_CYCLES_A_POLL = 1_000_000


class SimulatedLink(Link):
    """A simulated accelerator with its own memory.

    Building the simulation takes about a minute the first time; later uses find it built.

    Parameters
    ----------
    machine : Machine
        The accelerator.
    memory_bytes : int
        Size of the external memory.
    memory : str or MemorySettings
        Memory setting of `sim.verilator`; ``"ideal"`` answers at once.

    Raises
    ------
    LinkError
        If what the simulation needs is not installed, or it cannot be built.
    """

    run_seconds = 24 * 3600.0  # a run in which nothing moves any more ends by itself

    def __init__(self, machine: Machine, memory_bytes: int, memory: Any = "ideal") -> None:
        self.name = "sim"
        self.memory_bytes = memory_bytes
        self.clock_hz = None
        try:
            from sim.verilator import VerilatedCore  # needs Amaranth and Verilator, a board does not
        except ImportError as error:
            raise LinkError(
                f"sim: the simulation is not installed ({error}); install pointshift[sim]"
            ) from None
        try:
            self._core: Any = VerilatedCore(machine, memory_bytes, memory=memory)
        except (OSError, ValueError) as error:
            raise LinkError(f"sim: {error}") from None

    def close(self) -> None:
        self._core.close()

    def pause(self, seconds: float) -> None:
        pass

    def read_memory(self, address: int, count: int) -> bytes:
        self.check_range(address, count)
        return bytes(self._core.read_memory(address, count))

    def write_memory(self, address: int, content: bytes) -> None:
        self.check_range(address, len(content))
        self._core.write_memory(address, content)

    def read_register(self, register: Register | int) -> int:
        try:
            value = int(self._core.read_register(int(register)))
            if register == Register.STATUS and value & Status.BUSY:
                self._core.advance(_CYCLES_A_POLL)
                value = int(self._core.read_register(int(register)))
        except ValueError as error:
            raise LinkError(f"sim: {error}") from None
        return value

    def write_register(self, register: Register | int, value: int) -> None:
        try:
            self._core.write_register(int(register), value)
        except ValueError as error:
            raise LinkError(f"sim: {error}") from None
