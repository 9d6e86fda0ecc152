"""Settings of the ECP5's PLL: one clock, and the same clock later by part of a period."""

from __future__ import annotations

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
    """Dividers of input, feedback and output, and the clock that they make.

    ``coarse`` and ``fine`` delay the second output: whole VCO periods, and eighths of one.
    """

    input_divider: int
    feedback_divider: int
    output_divider: int
    clock_hz: float
    coarse: int
    fine: int


def pll_settings(input_hz: float, clock_hz: float, degrees: float = 90.0) -> PLLSettings:
    """Settings for exactly ``clock_hz`` (to a millionth), the second output ``degrees`` later.

    The first output is the feedback, so that clock = input * feedback divider / input divider.

    Raises
    ------
    ClockError
        If no setting gives this clock.
    """
    nearest: float | None = None
    for input_divider in range(1, _LARGEST_DIVIDER + 1):
        if not _PHASE_DETECTOR_HZ[0] <= input_hz / input_divider <= _PHASE_DETECTOR_HZ[1]:
            continue
        for feedback_divider in range(1, _LARGEST_DIVIDER + 1):
            made = input_hz / input_divider * feedback_divider
            dividers = [divider for divider in range(1, _LARGEST_DIVIDER + 1)
                        if _VCO_HZ[0] <= made * divider <= _VCO_HZ[1]]
            if not dividers:
                continue
            if nearest is None or abs(made - clock_hz) < abs(nearest - clock_hz):
                nearest = made
            if abs(made - clock_hz) > 1e-6 * clock_hz:
                continue
            divider = dividers[-1]  # the fastest VCO has the least jitter and the finest phase
            eighths = round(degrees / 360 * divider * 8)
            return PLLSettings(input_divider, feedback_divider, divider, made,
                               coarse=divider - 1 + eighths // 8, fine=eighths % 8)
    hint = f"; the nearest is {nearest / 1e6:.4g} MHz" if nearest is not None else ""
    raise ClockError(f"the PLL cannot make {clock_hz / 1e6:g} MHz from {input_hz / 1e6:g} MHz{hint}")
