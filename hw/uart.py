"""Asynchronous serial port: 8 data bits, no parity, 1 stop bit, least significant bit first."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import Component, In, Out

__all__ = ["BaudError", "UARTReceiver", "UARTTransmitter", "clocks_per_bit"]

#: Fewest clock cycles of one bit: three samples in its middle must be well inside it.
_LEAST_CLOCKS = 8
#: Largest relative error of the baud rate; the other side has its own, and ten bits must stay in step.
_LARGEST_ERROR = 0.02


class BaudError(ValueError):
    """A baud rate that cannot be made from the clock; the message names both."""


def clocks_per_bit(clock_hz: float, baud: int) -> int:
    """Clock cycles of one bit.

    Raises
    ------
    BaudError
        If the clock is too slow for the rate, or no whole number of cycles comes near it.
    """
    if baud < 1:
        raise BaudError(f"the rate must be at least 1 baud, not {baud}")
    clocks = round(clock_hz / baud)
    if clocks < _LEAST_CLOCKS:
        raise BaudError(
            f"{baud} baud needs a clock of at least {_LEAST_CLOCKS * baud / 1e6:.3f} MHz, "
            f"not {clock_hz / 1e6:.3f} MHz"
        )
    error = abs(clock_hz / clocks / baud - 1)
    if error > _LARGEST_ERROR:
        raise BaudError(
            f"{baud} baud cannot be made from {clock_hz / 1e6:.3f} MHz: the nearest is "
            f"{clock_hz / clocks:.0f}; choose another rate"
        )
    return clocks


def _check_clocks(clocks: object) -> int:
    if not isinstance(clocks, int) or clocks < _LEAST_CLOCKS:
        raise BaudError(f"clocks_per_bit must be a whole number of at least {_LEAST_CLOCKS}, not {clocks!r}")
    return clocks


class UARTReceiver(Component):
    """Turns a serial line into bytes.

    The line is synchronised to the clock; each bit is the majority of three samples around its
    middle.  A start bit that is no longer low in its middle, and a byte whose stop bit is low, are
    dropped.

    Parameters
    ----------
    clocks_per_bit : int
        At least 8.

    Members
    -------
    rx : In(1)
        The line, idle high.
    data : Out(8), valid : Out(1)
        A byte, for one cycle; there is no way to make the line wait.
    """

    def __init__(self, clocks_per_bit: int) -> None:
        self.clocks_per_bit = _check_clocks(clocks_per_bit)
        super().__init__(
            {
                "rx": In(1, init=1),
                "data": Out(8),
                "valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules += FFSynchronizer(self.rx, line, init=1)
        # the two samples before this one: the majority is centred one cycle ago
        earlier = Signal(2, init=0b11)
        m.d.sync += earlier.eq(Cat(line, earlier[0]))
        majority = Signal()
        m.d.comb += majority.eq((line & earlier[0]) | (line & earlier[1]) | (earlier[0] & earlier[1]))

        timer = Signal(range(self.clocks_per_bit + self.clocks_per_bit // 2 + 1))
        bits_left = Signal(range(9))
        m.d.sync += self.valid.eq(0)
        with m.FSM():
            with m.State("IDLE"), m.If(~line):
                m.d.sync += timer.eq(self.clocks_per_bit // 2)
                m.next = "START"
            with m.State("START"):
                m.d.sync += timer.eq(timer - 1)
                with m.If(timer == 0):
                    m.d.sync += [timer.eq(self.clocks_per_bit - 1), bits_left.eq(8)]
                    with m.If(majority):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "DATA"
            with m.State("DATA"):
                m.d.sync += timer.eq(timer - 1)
                with m.If(timer == 0):
                    m.d.sync += timer.eq(self.clocks_per_bit - 1)
                    with m.If(bits_left == 0):
                        m.d.sync += self.valid.eq(majority)
                        m.next = "BREAK"
                    with m.Else():
                        m.d.sync += [self.data.eq(Cat(self.data[1:], majority)), bits_left.eq(bits_left - 1)]
            # after a low stop bit the line must come back before a start bit can be told
            with m.State("BREAK"), m.If(line):
                m.next = "IDLE"
        return m


class UARTTransmitter(Component):
    """Sends bytes over a serial line.

    Parameters
    ----------
    clocks_per_bit : int
        At least 8.

    Members
    -------
    data : In(stream of 8 bits)
    tx : Out(1)
        The line, idle high.
    """

    def __init__(self, clocks_per_bit: int) -> None:
        self.clocks_per_bit = _check_clocks(clocks_per_bit)
        super().__init__(
            {
                "data": In(stream.Signature(8)),
                "tx": Out(1, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shift = Signal(9, init=0x1FF)  # what follows the bit on the line, stop bit last
        bits_left = Signal(range(11))
        timer = Signal(range(self.clocks_per_bit))
        m.d.comb += self.data.ready.eq(bits_left == 0)
        with m.If(bits_left == 0), m.If(self.data.valid):
            m.d.sync += [
                self.tx.eq(0),
                shift.eq(Cat(self.data.payload, 1)),
                bits_left.eq(10),
                timer.eq(self.clocks_per_bit - 1),
            ]
        with m.Elif(timer == 0):
            m.d.sync += [
                self.tx.eq(shift[0]),
                shift.eq(Cat(shift[1:], 1)),
                bits_left.eq(bits_left - 1),
                timer.eq(self.clocks_per_bit - 1),
            ]
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
        return m
