"""Settings of the ECP5's PLL: one clock, and the same clock later by part of a period."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ClockError", "PLLSettings", "pll_settings"]

# Limits of the EHXPLLL (Lattice FPGA-DS-02012, sysCLOCK PLL timing).
_VCO_HZ = (400e6, 800e6)
_PHASE_DETECTOR_HZ = (10e6, 400e6)
_LARGEST_DIVIDER = 128


class ClockError(ValueError):
    """A clock that the PLL cannot make; the message names a near one that it can."""


@dataclass(frozen=True)
class PLLSettings:
    """Dividers, and the clock that they make.

    The VCO runs at ``input / input_divider * feedback_divider * feedback_output_divider``: one output
    is there for the feedback alone.  The other two divide the VCO by ``output_divider``; the second
    is later by ``coarse`` VCO periods and ``fine`` eighths of one.
    """

    input_divider: int
    feedback_divider: int
    feedback_output_divider: int
    output_divider: int
    clock_hz: float
    coarse: int
    fine: int


def pll_settings(input_hz: float, clock_hz: float, degrees: float = 90.0) -> PLLSettings:
    """Settings for exactly ``clock_hz`` (to a millionth), the second output ``degrees`` later.

    Raises
    ------
    ClockError
        If no setting gives this clock.
    """
    if not 0 < clock_hz < math.inf:
        raise ClockError(f"the clock must be a frequency above 0, not {clock_hz / 1e6:g} MHz")
    found: tuple[float, PLLSettings] | None = None
    nearest = 0.0
    for input_divider in range(1, _LARGEST_DIVIDER + 1):
        compared = input_hz / input_divider
        if not _PHASE_DETECTOR_HZ[0] <= compared <= _PHASE_DETECTOR_HZ[1]:
            continue
        for multiplier in range(1, int(_VCO_HZ[1] / compared) + 1):
            vco = compared * multiplier
            divider = round(vco / clock_hz)
            if vco < _VCO_HZ[0] or not 1 <= divider <= _LARGEST_DIVIDER or multiplier > _LARGEST_DIVIDER:
                continue
            made = vco / divider
            if abs(made - clock_hz) < abs(nearest - clock_hz):
                nearest = made
            eighths = round(degrees / 360 * divider * 8)
            if abs(made - clock_hz) > 1e-6 * clock_hz or divider - 1 + eighths // 8 >= _LARGEST_DIVIDER:
                continue
            # the fastest VCO has the least jitter and the finest phase
            if found is None or vco > found[0]:
                found = (
                    vco,
                    PLLSettings(
                        input_divider, 1, multiplier, divider, made, coarse=eighths // 8, fine=eighths % 8
                    ),
                )
    if found is None:
        hint = f"; the nearest is {nearest / 1e6:.4f} MHz" if nearest else ""
        raise ClockError(f"the PLL cannot make {clock_hz / 1e6:g} MHz from {input_hz / 1e6:g} MHz{hint}")
    return found[1]
