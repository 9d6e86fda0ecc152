"""PLL settings keep the device's limits and make the clock that was asked for."""

from __future__ import annotations

import pytest

from boards.pll import ClockError, pll_settings


@pytest.mark.parametrize("megahertz", [10, 12.5, 40, 50, 55, 60, 62.5, 65, 70, 75, 80, 100])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_settings(megahertz: float, degrees: float) -> None:
    settings = pll_settings(25e6, megahertz * 1e6, degrees)
    compared = 25e6 / settings.input_divider
    vco = compared * settings.feedback_divider * settings.feedback_output_divider
    assert 10e6 <= compared <= 400e6
    assert 400e6 <= vco <= 800e6
    dividers = (
        settings.input_divider,
        settings.feedback_divider,
        settings.feedback_output_divider,
        settings.output_divider,
    )
    assert all(1 <= divider <= 128 for divider in dividers)
    assert vco / settings.output_divider == pytest.approx(megahertz * 1e6)
    later = (settings.coarse + settings.fine / 8) / vco  # seconds
    assert later == pytest.approx(degrees / 360 / (megahertz * 1e6), abs=0.5 / 8 / vco)
    assert 0 <= settings.fine < 8
    assert settings.output_divider - 1 + settings.coarse <= 127


@pytest.mark.parametrize(("megahertz", "nearest"), [(50.01, "50.0000"), (900, ""), (2, "")])
def test_clocks_that_cannot_be_made(megahertz: float, nearest: str) -> None:
    with pytest.raises(ClockError, match=rf"cannot make {megahertz:g} MHz from 25 MHz.*{nearest}"):
        pll_settings(25e6, megahertz * 1e6)
