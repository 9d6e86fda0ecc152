"""The ports of a core, whichever implements the machine."""

from __future__ import annotations

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.axi import AXI4, AXI4Lite
from hw.control import ADDRESS_WIDTH
from hw.machine import Machine

__all__ = ["CoreSignature"]


class CoreSignature(wiring.Signature):
    """What `hw.core.Core` and `hw.small_core.SmallCore` have outside.

    Parameters
    ----------
    machine : Machine

    Members
    -------
    m_axi : ``Out(AXI4(bus_width))``
        External memory.
    s_axil : ``In(AXI4Lite(8))``
        The registers of `hw/registers.py`.
    done : ``Out(1)``
        Interrupt: the program has ended; low again when the next one starts.
    layer : ``Out(16)``
        Layer number of the COMPUTE instruction whose word is read or waited for, the last one's if there is
        none; 0 before the first.
    compute_busy, compute_token_wait, compute_weight_wait, load_busy, store_busy : ``Out(1)``
        What the counters of the same names count.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__({
            "m_axi": Out(AXI4(machine.bus_width)),
            "s_axil": In(AXI4Lite(ADDRESS_WIDTH)),
            "done": Out(1),
            "layer": Out(16),
            "compute_busy": Out(1),
            "compute_token_wait": Out(1),
            "compute_weight_wait": Out(1),
            "load_busy": Out(1),
            "store_busy": Out(1),
        })
