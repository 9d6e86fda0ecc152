"""The iCE40's PLL as the source of a board's only clock (Lattice FPGA-TN-02052, sysCLOCK PLL)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, ResetSignal, Signal

from boards.pll import ClockError

__all__ = ["Ice40Clock", "Ice40PLLSettings", "ice40_pll_settings"]

_VCO_HZ = (533e6, 1066e6)
_LARGEST_FEEDBACK = 127
_LARGEST_POWER = 6
#: Loop filters, up to which frequency at the phase detector.
_FILTERS = ((17e6, 1), (26e6, 2), (44e6, 3), (66e6, 4), (101e6, 5), (math.inf, 6))
#: For so long after the clock is there everything is held in reset: block RAMs read as zeros at first.
_RESET_SECONDS = 15e-6


@dataclass(frozen=True)
class Ice40PLLSettings:
    """The VCO runs at ``input * (feedback + 1)``, the clock is that divided by ``2 ** power``."""

    feedback: int
    power: int
    filter: int
    clock_hz: float


def ice40_pll_settings(input_hz: float, clock_hz: float) -> Ice40PLLSettings:
    """Settings for exactly ``clock_hz`` (to a millionth).

    Raises
    ------
    ClockError
        If no setting gives this clock; with the nearest one that there is.
    """
    if not 0 < clock_hz < math.inf:
        raise ClockError(f"the clock must be a frequency above 0, not {clock_hz / 1e6:g} MHz")
    chosen_filter = next(number for limit, number in _FILTERS if input_hz < limit)
    found = [
        Ice40PLLSettings(feedback, power, chosen_filter, input_hz * (feedback + 1) / 2**power)
        for feedback in range(_LARGEST_FEEDBACK + 1)
        for power in range(1, _LARGEST_POWER + 1)
        if _VCO_HZ[0] <= input_hz * (feedback + 1) <= _VCO_HZ[1]
    ]
    best = min(found, key=lambda settings: abs(settings.clock_hz - clock_hz))
    if abs(best.clock_hz - clock_hz) > 1e-6 * clock_hz:
        raise ClockError(
            f"the PLL cannot make {clock_hz / 1e6:g} MHz from {input_hz / 1e6:g} MHz; the nearest is "
            f"{best.clock_hz / 1e6:.4f} MHz"
        )
    return best


class Ice40Clock(Elaboratable):
    """Clock and reset of the domain ``sync``, which is the parent's, from a board's clock pin.

    Parameters
    ----------
    pin : str
        The platform's name of the pin.
    settings : Ice40PLLSettings
    """

    def __init__(self, pin: str, settings: Ice40PLLSettings) -> None:
        self.pin = pin
        self.settings = settings

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        port = platform.request(self.pin, dir="-")
        clock, locked = Signal(attrs={"keep": 1}), Signal()
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=Const(0, 4),
            p_DIVF=Const(self.settings.feedback, 7),
            p_DIVQ=Const(self.settings.power, 3),
            p_FILTER_RANGE=Const(self.settings.filter, 3),
            io_PACKAGEPIN=port.io,
            i_RESETB=Const(1, 1),
            i_BYPASS=Const(0, 1),
            o_PLLOUTGLOBAL=clock,
            o_LOCK=locked,
        )
        m.domains += ClockDomain("begin", reset_less=True, local=True)
        m.d.comb += [ClockSignal("sync").eq(clock), ClockSignal("begin").eq(clock)]
        platform.add_clock_constraint(clock, self.settings.clock_hz)
        delay = int(_RESET_SECONDS * self.settings.clock_hz)
        waited, seen = Signal(range(delay + 1)), Signal(2)
        m.d.begin += seen.eq(seen << 1 | locked)
        with m.If(~seen[1]):
            m.d.begin += waited.eq(0)
        with m.Elif(waited != delay):
            m.d.begin += waited.eq(waited + 1)
        reset = Signal(init=1)
        m.d.begin += reset.eq(waited != delay)
        m.d.comb += ResetSignal("sync").eq(reset)
        return m
