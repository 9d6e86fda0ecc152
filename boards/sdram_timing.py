"""When an SDRAM is clocked, and when its read data is taken: chosen by the system clock.

Times in ns, counted from a rising edge of the system clock in the FPGA.  Commands and write data
leave pin registers at that edge.  The memory's clock comes ``phase`` of a period later through the
same kind of register.  Read data goes into pin registers at a system clock edge: the first or the
second one after the memory's clock edge that it belongs to.

Memory: AS4C32M16SB-7, table 16, the slowest of the chips that the boards were built with, except for the
hold time (others ask for 1.0).  FPGA: LVCMOS33 with fast slew; allowances from the figures of FPGA-DS-02012,
"External Switching Characteristics", without characterization.

====================== ============ =================================================================
tCK                    10.0, 7.0    shortest period with CAS latency 2, 3
tAC                    6.0, 5.4     from the memory's clock to its data, with CAS latency 2, 3
tOH                    2.5          from its clock's next edge to the end of its data
tIS, tIH               1.5, 1.0     set-up and hold of commands and write data
clock to pin           1.0 to 3.0   of a pin register in the FPGA
pin to register        0.3 to 1.8   input buffer and set-up; the least is without any hold time
skew                   1.0          between two pins, clock and data, board included
board                  0.2 to 0.5   there and back
====================== ============ =================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LEAST_MARGIN", "SDRAMTiming", "read_margins", "sdram_timing", "write_margins"]

#: Shortest clock period and longest access time of each CAS latency.
_PERIOD = {2: 10.0, 3: 7.0}
_ACCESS = {2: 6.0, 3: 5.4}
_OUTPUT_HOLD = 2.5
_SETUP, _HOLD = 1.5, 1.0

_CLOCK_TO_PIN = (1.0, 3.0)
_PIN_TO_REGISTER = (0.3, 1.8)
_SKEW = 1.0
_BOARD = (0.2, 0.5)

#: Part of a period by which the PLL may make one shorter.
_JITTER = 0.02

#: The first edge and a quarter of a period are kept as long as everything has this to spare (ns): that is how
#: other designs have run these boards.
LEAST_MARGIN = 1.0


@dataclass(frozen=True)
class SDRAMTiming:
    """How a memory is run.

    Attributes
    ----------
    cas_latency : int
        For its mode register.
    capture_edge : int
        Read data is taken at this system clock edge after the memory's clock edge that gives it: 1 or 2.
    degrees : float
        How much later than the system clock the memory's clock rises, of 360.
    """

    cas_latency: int
    capture_edge: int
    degrees: float

    @property
    def read_latency(self) -> int:
        """Cycles that the controller must believe the CAS latency to be: it takes data at the first edge."""
        return self.cas_latency + self.capture_edge - 1


def write_margins(timing: SDRAMTiming, period: float) -> tuple[float, float]:
    """What commands and write data have to spare before and after the memory's clock, in ns."""
    later = timing.degrees / 360 * period
    return later - _SKEW - _SETUP, period - later - _SKEW - _HOLD


def read_margins(timing: SDRAMTiming, period: float) -> tuple[float, float]:
    """What read data has to spare before and after the edge at which it is taken, in ns."""
    later = timing.degrees / 360 * period
    latest = later + _CLOCK_TO_PIN[1] + _BOARD[1] + _ACCESS[timing.cas_latency] + _PIN_TO_REGISTER[1]
    ends = later + period + _CLOCK_TO_PIN[0] + _BOARD[0] + _OUTPUT_HOLD + _PIN_TO_REGISTER[0]
    taken = timing.capture_edge * period
    return taken - latest, ends - taken


def sdram_timing(clock_hz: float) -> SDRAMTiming:
    """The CAS latency, capture edge and phase for a clock.

    The lowest CAS latency that the memory allows; the first edge and a quarter period if they have
    `LEAST_MARGIN`, else the edge and the phase (to five degrees) that have most to spare.
    """
    period = 1e9 / clock_hz
    cas_latency = 2 if period * (1 - _JITTER) >= _PERIOD[2] else 3
    quarter = SDRAMTiming(cas_latency, 1, 90.0)

    def margin(timing: SDRAMTiming) -> float:
        return min(*write_margins(timing, period), *read_margins(timing, period))

    if margin(quarter) >= LEAST_MARGIN:
        return quarter
    choices = [
        SDRAMTiming(cas_latency, edge, float(degrees)) for edge in (1, 2) for degrees in range(0, 360, 5)
    ]
    return max(choices, key=margin)
