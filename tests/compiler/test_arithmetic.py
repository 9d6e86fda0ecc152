"""Translated shifts and divisions give the same integers as the wanted ones, for every value that matters."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.arithmetic import average_settings, clamp_right_shift, sum_settings


def rounded(value: Fraction) -> int:
    """Half to even; Python's round is exact on fractions."""
    return round(value)


def clipped(value: int) -> int:
    return max(-128, min(255, value))


@pytest.mark.parametrize("shift", [-60, -31, -10, -9, -1, 0, 1, 39, 40, 41, 62, 120])
def test_clamped_shift_is_exact(shift):
    clamped = int(clamp_right_shift(np.array([shift]))[0])
    assert -9 <= clamped <= 40
    for value in (0, 1, -1, 2, -2, 3, 255, -256, 1 << 30, -(1 << 31), (1 << 31) - 1):
        assert clipped(rounded(value * Fraction(2) ** -clamped)) == clipped(
            rounded(value * Fraction(2) ** -shift)
        )


OPERANDS = (-128, -127, -3, -2, -1, 0, 1, 2, 3, 5, 127, 128, 254, 255)


@settings(max_examples=300, deadline=None)
@given(st.integers(-40, 40), st.integers(-40, 40), st.integers(-60, 60))
def test_sum_settings_are_exact(fl_own, fl_residual, fl_out):
    found = sum_settings(fl_own, fl_residual, fl_out)
    if found is None:
        assert abs(fl_own - fl_residual) > 15
        return
    own, other, shift = found
    assert 0 <= own <= 15
    assert 0 <= other <= 15
    assert -9 <= shift <= 31
    for a, b in itertools.product(OPERANDS, OPERANDS):
        wanted = rounded(
            (a * Fraction(2) ** -fl_own + b * Fraction(2) ** -fl_residual) * Fraction(2) ** fl_out
        )
        assert clipped(rounded(((a << own) + (b << other)) * Fraction(2) ** -shift)) == clipped(wanted)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 65025), st.integers(-12, 14), st.data())
def test_average_settings_are_exact(count, shift, data):
    largest = 255 * count
    found = average_settings(largest, count, shift, True)
    if found is None:
        return
    exponent, average, right = found
    for value in (0, 1, count, largest, -largest, data.draw(st.integers(-largest, largest))):
        wanted = clipped(rounded(value * Fraction(2) ** shift / count))
        acc = value << exponent
        if average is None:
            assert clipped(rounded(acc * Fraction(2) ** -right)) == wanted
        else:
            assert 1 <= average.divisor < 1 << 14
            assert -8 <= average.divisor_shift <= 8
            assert abs(acc) << max(average.divisor_shift, 0) < 1 << 31
            assert clipped(rounded(acc * Fraction(2) ** average.divisor_shift / average.divisor)) == wanted


def test_common_averages_are_possible():
    for size in range(1, 18):
        for shift in range(-8, 9):
            assert average_settings(255 * size * size, size * size, shift, True) is not None
    assert average_settings(255 * 9, 9, 0, False) is None
    assert average_settings(255 * 16, 16, 3, False) == (0, None, 1)
