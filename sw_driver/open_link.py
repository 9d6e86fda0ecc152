"""Links by name: ``sim``, ``serial:/dev/ttyUSB0``, ``serial:/dev/ttyUSB0@115200``."""

from __future__ import annotations

from typing import Any

from hw.machine import Machine
from sw_driver.link import Link, LinkError

__all__ = ["open_link"]


def open_link(
    name: str,
    machine: Machine | None = None,
    memory_bytes: int = 0,
    *,
    timeout: float | None = None,
    memory: Any = "ideal",
) -> Link:
    """Open the link with this name.

    Parameters
    ----------
    machine, memory_bytes
        What a simulated accelerator is built with.
    timeout : float or None
        Seconds to wait for a board's answer; None: the link's own.
    memory : str or MemorySettings
        How a simulated memory behaves (`sim.memory_settings`).

    Raises
    ------
    LinkError
        If there is no such link, or it does not open.
    """
    kind, _, rest = name.partition(":")
    if kind == "sim" and not rest:
        from sw_driver.sim_link import SimulatedLink

        if machine is None:
            raise LinkError("sim: a simulated accelerator needs a program, whose machine it is")
        return SimulatedLink(machine, memory_bytes, memory)
    if kind == "serial" and rest:
        from sw_driver.serial_link import DEFAULT_BAUD, SerialLink

        port, at, rate = rest.rpartition("@")
        if not at:
            port, rate = rest, str(DEFAULT_BAUD)
        if not rate.isdecimal() or not port or int(rate) == 0:
            raise LinkError(
                f"{name}: the baud rate must be a positive number, as in serial:/dev/ttyUSB0@115200"
            )
        return (
            SerialLink(port, int(rate)) if timeout is None else SerialLink(port, int(rate), timeout=timeout)
        )
    raise LinkError(f"{name}: no such link; use sim, serial:PORT or serial:PORT@BAUD")
