"""The number format against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.number_format import (
    Format,
    FormatError,
    check_width,
    requantize,
    round_half_even_divide,
    round_half_even_shift,
)

accumulators = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-40, 40),
    st.builds(lambda k, e: (2 * k + 1) << e, st.integers(-99, 99), st.integers(0, 20)),
)


@settings(max_examples=500, deadline=None)
@given(accumulators, st.integers(-31, 70))
def test_shift_is_exact(value, shift):
    exact = round(Fraction(value) / Fraction(2) ** shift)  # Fraction rounds half to even
    assert int(round_half_even_shift(np.array([value]), shift)[0]) == exact
    assert int(round_half_even_shift(np.array([value]), np.array([shift]))[0]) == exact


@settings(max_examples=500, deadline=None)
@given(accumulators, st.integers(1, 1 << 20))
def test_divide_is_exact(value, divisor):
    assert int(round_half_even_divide(np.array([value]), divisor)[0]) == round(Fraction(value, divisor))


@settings(max_examples=200, deadline=None)
@given(accumulators, st.integers(2, 16), st.booleans(), st.integers(-20, 20), st.integers(-10, 20))
def test_requantize(value, bits, signed, fl_out, fl_in):
    form = Format(bits, signed, fl_out)
    exact = round(Fraction(value) * Fraction(2) ** (fl_out - fl_in))
    assert int(requantize(np.array([value]), fl_in, form)[0]) == min(max(exact, form.low), form.high)


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.integers(2, 16), st.booleans(), st.integers(-20, 20))
def test_quantize_is_the_nearest_integer_and_dequantize_its_inverse(value, bits, signed, fl):
    form = Format(bits, signed, fl)
    found = form.quantize(np.array([value], np.float32))
    assert int(found[0]) == min(max(round(Fraction(value) * Fraction(2) ** fl), form.low), form.high)
    assert form.quantize(form.dequantize(found))[0] == found[0]


def test_ranges():
    assert (Format(8, True, 0).low, Format(8, True, 0).high) == (-128, 127)
    assert (Format(8, False, 0).low, Format(8, False, 0).high) == (0, 255)
    assert (Format(2, True, 0).low, Format(2, True, 0).high) == (-2, 1)
    assert str(Format(6, False, -3)) == "u6.-3"
    assert Format(8, True, -3).scale == 8.0


@pytest.mark.parametrize("settings_", [(1, True, 0), (33, True, 0), (8, True, 61), (8, False, -61)])
def test_formats_that_do_not_exist(settings_):
    with pytest.raises(FormatError):
        Format(*settings_)


@pytest.mark.parametrize("bits", [-1, 0, 1, 17, 32])
def test_widths_that_do_not_exist(bits):
    with pytest.raises(FormatError, match="weights must be 2 to 16 bits wide"):
        check_width(bits, "weights")
