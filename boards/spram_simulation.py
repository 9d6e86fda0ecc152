"""A board without external memory in Verilator, its serial line on a pseudo-terminal."""

from __future__ import annotations

from amaranth.back import verilog
from amaranth.lib.wiring import Component

from boards.simulation import BoardSimulation, build_board
from boards.spram_system import SPRAMSystem
from hw.machine import Machine

__all__ = ["SPRAMSimulation"]

_SOURCES = ("spram_simulation.cpp", "terminal.h", "ice40_cells.v")
_CLOCKS_PER_BIT = 8


class SPRAMSimulation(BoardSimulation):
    """`boards.spram_system.SPRAMSystem` with models of the primitives: SPRAM and multipliers.

    Parameters
    ----------
    machine : Machine
    clock_hz : int
        What the board tells the host; the simulation runs as fast as it can.

    Attributes and errors are `BoardSimulation`'s.
    """

    def __init__(self, machine: Machine, *, clock_hz: int = 12_000_000) -> None:
        from hw.accelerator import accelerator

        self.baud = clock_hz // _CLOCKS_PER_BIT
        self.log = ""
        core: Component = accelerator(machine, "ice40")
        system = SPRAMSystem(core, machine.bus_width, clock_hz=clock_hz, baud=self.baud)
        ports = {name: (getattr(system, name), None) for name in system.signature.members}
        text = verilog.convert(system, name="board", ports=ports, emit_src=False, strip_internal_attrs=True)
        self._start([str(build_board({"board.v": text}, _SOURCES)), str(_CLOCKS_PER_BIT)])
