"""Starts an SDRAM behind LiteDRAM: the power-up sequence that its controller leaves to its user."""

from __future__ import annotations

import math
from dataclasses import dataclass

from amaranth.hdl import Array, Const, Module, Signal
from amaranth.lib.wiring import Component, In, Out

from boards.litedram import MemoryController

__all__ = ["SDRAMStart", "Step", "start_sequence"]

# Bits of LiteDRAM's registers (litedram/dfii.py).
_CONTROLLER, _CLOCK_ENABLE = 0x01, 0x02
_SELECT, _WRITE, _COLUMN, _ROW = 0x01, 0x02, 0x04, 0x08

_ALL_BANKS = 1 << 10
#: What JEDEC asks for: clock and no commands for 200 us.
_POWER_UP_SECONDS = 200e-6
#: Between two commands: longer than the longest refresh or precharge of any of these memories (70 ns).
_COMMAND_SECONDS = 100e-9
#: Some of these memories ask for two, others for eight.
_REFRESHES = 8


@dataclass(frozen=True)
class Step:
    """Write ``value`` to the register at byte address ``address``, then wait ``cycles``."""

    address: int
    value: int
    cycles: int = 0


def start_sequence(controller: MemoryController, clock_hz: float) -> list[Step]:
    """Everything from power-up to a memory that may be used.

    Clock enable, a pause, precharge of all banks, refreshes, the mode register (burst length 1,
    sequential, the controller's CAS latency), and the hand-over to the controller.
    """
    register = controller.registers
    pause = math.ceil(_COMMAND_SECONDS * clock_hz)

    def command(bits: int, address: int) -> list[Step]:
        return [
            Step(register["sdram_dfii_pi0_address"], address),
            Step(register["sdram_dfii_pi0_baddress"], 0),
            Step(register["sdram_dfii_pi0_command"], bits | _SELECT),
            Step(register["sdram_dfii_pi0_command_issue"], 1, pause),
        ]

    steps = [
        Step(register["sdram_dfii_control"], _CLOCK_ENABLE, math.ceil(_POWER_UP_SECONDS * clock_hz)),
        *command(_ROW | _WRITE, _ALL_BANKS),
    ]
    for _ in range(_REFRESHES):
        steps += command(_ROW | _COLUMN, 0)
    steps += command(_ROW | _COLUMN | _WRITE, controller.timing.cas_latency << 4)
    steps += [
        Step(register["sdram_dfii_control"], _CONTROLLER | _CLOCK_ENABLE),
        Step(register["ddrctrl_init_done"], 1),
    ]
    return steps


class SDRAMStart(Component):
    """Plays a `start_sequence` on LiteDRAM's control bus once after reset.

    Parameters
    ----------
    steps : list of Step

    Members
    -------
    bus_* :
        Wishbone, 32 bits, addresses in words.
    """

    def __init__(self, steps: list[Step]) -> None:
        self.steps = list(steps)
        super().__init__(
            {
                "bus_address": Out(30),
                "bus_data": Out(32),
                "bus_request": Out(1),
                "bus_acknowledge": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        index = Signal(range(len(self.steps) + 1))
        wait = Signal(range(max(step.cycles for step in self.steps) + 1))
        addresses = Array(Const(step.address // 4, 30) for step in self.steps)
        values = Array(Const(step.value, 32) for step in self.steps)
        cycles = Array(Const(step.cycles, len(wait)) for step in self.steps)
        m.d.comb += [self.bus_address.eq(addresses[index]), self.bus_data.eq(values[index])]
        with m.FSM():
            with m.State("WRITE"):
                m.d.comb += self.bus_request.eq(1)
                with m.If(self.bus_acknowledge):
                    m.d.sync += [wait.eq(cycles[index]), index.eq(index + 1)]
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(wait != 0):
                    m.d.sync += wait.eq(wait - 1)
                with m.Elif(index != len(self.steps)):
                    m.next = "WRITE"
        return m
