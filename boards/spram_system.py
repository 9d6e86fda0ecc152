"""A system without external memory: core, SPRAM and serial bridge, in one clock domain."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from boards.host_link import HostLink, join_managers
from boards.spram import SPRAMKind
from boards.spram_memory import MEMORY_BYTES, SPRAMMemory

__all__ = ["SPRAMSystem"]


class SPRAMSystem(Component):
    """Everything but clock and pins, the same in the bitstream and in the simulation.

    Parameters
    ----------
    core : Component
        Has ``m_axi`` and ``s_axil``, as `hw.core.Core`.
    bus_width : int
        Of the core's bus: 32 or 64.
    clock_hz, baud : int
    kind : "portable" or "ice40"
        As for `boards.spram.SPRAM`.

    Members
    -------
    rx : In(1), tx : Out(1)
        The serial line.
    executing : Out(1)
        A request of the host is being executed.
    """

    def __init__(
        self, core: Component, bus_width: int, *, clock_hz: int, baud: int, kind: SPRAMKind = "ice40"
    ) -> None:
        self.core = core
        self.memory = SPRAMMemory(bus_width, kind)
        self.link = HostLink(MEMORY_BYTES, clock_hz, baud)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "executing": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        m.submodules.memory = memory = self.memory
        m.submodules.link = link = self.link
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            link.memory_ready.eq(1),
            self.executing.eq(link.executing),
        ]
        join_managers(m, link.m_axil, core.s_axil)
        join_managers(m, core.m_axi, memory.core)
        join_managers(m, link.m_axi, memory.host)
        return m
