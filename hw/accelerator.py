"""The core that implements a machine."""

from __future__ import annotations

from typing import Literal

from hw.core import Core
from hw.machine import Machine
from hw.small_core import SmallCore

__all__ = ["AcceleratorMultiplier", "accelerator"]

AcceleratorMultiplier = Literal["portable", "ecp5", "ice40"]


def accelerator(machine: Machine, multiplier: AcceleratorMultiplier = "portable") -> Core | SmallCore:
    """`SmallCore` for a machine with ``in_order``, else `Core`.

    ``multiplier``: whose DSP blocks are instantiated; what the core has no form for is left to inference.
    """
    if machine.in_order:
        return SmallCore(machine, multiplier="ice40" if multiplier == "ice40" else "portable")
    return Core(machine, multiplier="ecp5" if multiplier == "ecp5" else "portable")
