"""The memory's clock and the edge that takes its data leave something to spare at every clock."""

from __future__ import annotations

import pytest

from boards.pll import pll_settings
from boards.sdram_timing import LEAST_MARGIN, SDRAMTiming, read_margins, sdram_timing, write_margins


@pytest.mark.parametrize("megahertz", [10, 25, 40, 50, 60])
def test_slow_clocks(megahertz: float) -> None:
    """A quarter of a period and the first edge, as long as they suffice."""
    assert sdram_timing(megahertz * 1e6) == SDRAMTiming(cas_latency=2, capture_edge=1, degrees=90.0)


@pytest.mark.parametrize(("megahertz", "cas_latency"), [(66, 2), (75, 2), (80, 2), (95, 2), (100, 3)])
def test_fast_clocks(megahertz: float, cas_latency: int) -> None:
    timing = sdram_timing(megahertz * 1e6)
    assert timing.cas_latency == cas_latency
    assert timing.capture_edge == 2
    assert timing.read_latency == cas_latency + 1


@pytest.mark.parametrize("megahertz", [10, 12.5, 25, 40, 50, 60, 62.5, 65, 70, 75, 80, 90, 100])
def test_margins(megahertz: float) -> None:
    """Every set-up and hold time, with the phase that the PLL can make."""
    period = 1e3 / megahertz
    timing = sdram_timing(megahertz * 1e6)
    made = pll_settings(25e6, megahertz * 1e6, timing.degrees)
    degrees = 360 * (made.coarse + made.fine / 8) / made.output_divider
    exact = SDRAMTiming(timing.cas_latency, timing.capture_edge, degrees)
    assert min(*write_margins(exact, period), *read_margins(exact, period)) >= 0.8 * LEAST_MARGIN


def test_first_edge_at_100_mhz() -> None:
    """What a fast clock would be with a slow one's settings: data is late at the first edge."""
    assert read_margins(SDRAMTiming(2, 1, 90.0), 10.0)[0] == pytest.approx(7.5 - 11.3)
    assert max(read_margins(SDRAMTiming(3, 1, degrees), 10.0)[0] for degrees in range(360)) < 0
