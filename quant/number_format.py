"""The number format: words of a few bits with a power-of-two scale (Qiu et al. 2016, section 4).

A word of ``bits`` bits with fractional length ``fl`` stands for ``integer * 2**-fl``; fl may be
negative or larger than the width.  Rounding is half to even everywhere, as in ONNX QuantizeLinear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FL_LIMIT", "Format", "FormatError", "check_width", "requantize", "round_half_even_divide",
           "round_half_even_shift"]

#: Fractional lengths lie within ±FL_LIMIT, so that the unit of every accumulator, 2^-(fl_in + fl_w),
#: is a normal float32.
FL_LIMIT = 60


class FormatError(ValueError):
    """A number format that does not exist was asked for; the message names the limit."""


def check_width(bits: int, what: str) -> None:
    """Refuse widths that neither the machine nor QDQ ONNX has: all but 2 to 16 bits.

    Raises
    ------
    FormatError
        With ``what`` as the subject of the message.
    """
    if not 2 <= bits <= 16:
        raise FormatError(f"{what} must be 2 to 16 bits wide, not {bits}")


@dataclass(frozen=True)
class Format:
    """How a tensor's integers are read: ``bits`` wide, two's complement if ``signed``, times 2^-fl.

    Raises
    ------
    FormatError
        If ``bits`` is not 2 to 32 or ``fl`` not -60 to 60.
    """

    bits: int
    signed: bool
    fl: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise FormatError(f"a format must be 2 to 32 bits wide, not {self.bits}")
        if not -FL_LIMIT <= self.fl <= FL_LIMIT:
            raise FormatError(f"a fractional length must be -{FL_LIMIT} to {FL_LIMIT}, not {self.fl}")

    @property
    def low(self) -> int:
        """Smallest integer of the format."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest integer of the format."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def scale(self) -> float:
        """Value of one unit: 2^-fl."""
        return math.ldexp(1.0, -self.fl)

    def quantize(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """The nearest integers (half to even), clipped to the format's range."""
        scaled = np.rint(np.ldexp(np.asarray(values, np.float64), self.fl))
        return np.clip(scaled, self.low, self.high).astype(np.int64)

    def dequantize(self, integers: NDArray[np.integer]) -> NDArray[np.float32]:
        """The real values that these integers stand for."""
        return np.ldexp(np.asarray(integers, np.float64), -self.fl).astype(np.float32)

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.bits}.{self.fl}"


def round_half_even_shift(values: NDArray[np.int64], shift: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """``values * 2**-shift``, rounded half to even, exactly; ``shift`` may be negative (a left shift).

    Left shifts are limited to 31 and right shifts to 62, which is exact for 31-bit values.
    """
    values = np.asarray(values, np.int64)
    left = np.clip(-np.asarray(shift, np.int64), 0, 31)
    right = np.clip(np.asarray(shift, np.int64), 0, 62)
    floor = values >> right
    remainder = values - (floor << right)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 1)
    up = (right > 0) & ((remainder > half) | ((remainder == half) & (floor & 1 == 1)))
    return (floor + up) << left


def round_half_even_divide(numerator: NDArray[np.int64],
                           denominator: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """``numerator / denominator`` rounded half to even, exactly; the denominator is positive."""
    numerator = np.asarray(numerator, np.int64)
    denominator = np.asarray(denominator, np.int64)
    floor = numerator // denominator
    twice = 2 * (numerator - floor * denominator)
    return floor + ((twice > denominator) | ((twice == denominator) & (floor & 1 == 1)))


def requantize(values: NDArray[np.int64], fl_in: int | NDArray[np.int64], out: Format,
               low: int | None = None, high: int | None = None) -> NDArray[np.int64]:
    """Integers with fractional length ``fl_in`` in the format ``out``, clipped to ``low`` … ``high``.

    The bounds default to those of the format.
    """
    shifted = round_half_even_shift(values, fl_in - out.fl)
    return np.clip(shifted, out.low if low is None else low, out.high if high is None else high)
