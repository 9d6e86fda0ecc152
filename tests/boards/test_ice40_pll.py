"""Settings of the iCE40's PLL."""

from __future__ import annotations

import pytest

from boards.ice40_pll import Ice40PLLSettings, ice40_pll_settings
from boards.pll import ClockError


@pytest.mark.parametrize("megahertz", [9, 12, 16.5, 21, 24, 30, 48, 60])
def test_settings(megahertz: float) -> None:
    found = ice40_pll_settings(12e6, megahertz * 1e6)
    vco = 12e6 * (found.feedback + 1)
    assert 533e6 <= vco <= 1066e6
    assert 0 <= found.feedback <= 127
    assert 1 <= found.power <= 6
    assert vco / 2**found.power == found.clock_hz == megahertz * 1e6


def test_filter_follows_the_input() -> None:
    assert ice40_pll_settings(12e6, 24e6) == Ice40PLLSettings(63, 5, 1, 24e6)
    assert ice40_pll_settings(48e6, 24e6).filter == 4


@pytest.mark.parametrize("megahertz", [0, -1, float("nan"), 13.01, 500])
def test_what_it_cannot_make(megahertz: float) -> None:
    with pytest.raises(ClockError):
        ice40_pll_settings(12e6, megahertz * 1e6)
