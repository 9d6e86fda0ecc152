"""Exact translations of shifts and divisions into the ranges that the machine has.

Every function either returns settings that give the same integer for every possible value, or None
if the machine has none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compiler.operation import Average

__all__ = ["average_settings", "clamp_right_shift", "sum_settings"]

_INT32 = 1 << 31
_LARGEST_DIVISOR = (1 << 14) - 1
_LARGEST_SHIFT = 15


def clamp_right_shift(shift: NDArray[np.int64]) -> NDArray[np.int64]:
    """Right shifts of an int32 accumulator, brought into −9 … 40.

    Exact: past 40 every int32 rounds to 0; below −9 everything but 0 passes the clip's bounds, which
    lie within −128 … 255.
    """
    return np.clip(shift, -9, 40)


def sum_settings(fl_own: int, fl_residual: int, fl_out: int) -> tuple[int, int, int] | None:
    """(own_shift, residual_shift, sum_shift) of a sum of two operands of at most 255 in magnitude."""
    finer = max(fl_own, fl_residual)
    own, other, shift = finer - fl_own, finer - fl_residual, finer - fl_out
    apart = max(own, other)
    if apart > _LARGEST_SHIFT:
        # |sum| <= 255 * 2^apart + 255 rounds to zero; it still does with the largest shifts
        if shift >= apart + 9:
            shift = 31
        # any coarse unit outweighs the finer operand and passes the clip's bounds, also at 2^15
        elif shift > 6:
            return None
        own, other = min(own, _LARGEST_SHIFT), min(other, _LARGEST_SHIFT)
    # |sum| <= 255 * 2^15 + 255 < 2^23: zero for all shifts from 25 on; below −9 all but 0 are clipped
    return own, other, min(max(shift, -9), 31)


def average_settings(
    largest_sum: int, count: int, shift: int, division: bool
) -> tuple[int, Average | None, int] | None:
    """How to get ``sum * 2^shift / count``, for |sum| <= largest_sum.

    Returns (power-of-two weight of the pass as its exponent, division or None, right shift); the
    right shift counts where there is no division.
    """
    power = (count & -count).bit_length() - 1
    odd = count >> power
    if odd == 1:
        return (0, None, int(clamp_right_shift(np.int64(power - shift)))) if largest_sum < _INT32 else None
    if not division:
        return None
    # sum * 2^shift / count = (sum * 2^exponent) * 2^divisor_shift / (odd * 2^extra); as little change
    # as possible first
    for exponent in range(7):
        for extra in (power, *(other for other in range(14) if other != power)):
            divisor, divisor_shift = odd << extra, shift - power - exponent + extra
            largest = largest_sum << exponent
            if (
                divisor <= _LARGEST_DIVISOR
                and -8 <= divisor_shift <= 8
                and largest << max(divisor_shift, 0) < _INT32
            ):
                return exponent, Average(divisor, divisor_shift), 0
    return None
