"""One lane of the Huffman decoder: its bits, and the length of the next code."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.huffman_stream import CHUNK, LONGEST_CODE
from hw.machine import Machine

__all__ = ["PRIMING_STEPS", "HuffmanLane", "limits_width"]

#: Steps until the window is full: two move what is not there, so that the first beat has come; two fill it.
PRIMING_STEPS = 4


def limits_width() -> int:
    """Bits of the limits of all lengths but the longest, each with as many bits as it can have."""
    return sum(length + 1 for length in range(1, LONGEST_CODE))


class HuffmanLane(wiring.Component):
    """A window of two chunks, the rest of a beat, and a beat in reserve.

    Parameters
    ----------
    machine : Machine

    Members
    -------
    restart : ``In(1)``
        Forget everything; a beat is served before the next step.
    beat, serve : ``In``
        The reserve.
    step : ``In(1)``
        The code has been taken.  Never while a beat that was asked for has still to be served, but in the
        same cycle.
    prime : ``In(1)``
        With ``step``, in the first `PRIMING_STEPS`: no code, but a chunk moves.
    asks : ``Out(1)``
        In a step: the reserve has moved, another beat is wanted.
    limits : ``In``
        Of the lengths 1, 2, ... , without the bits that are always 0 (`hw.huffman_stream`).
    code, length : ``Out``
        The next bits, the first the most significant, and how many of them are a code.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "restart": In(1),
            "beat": In(machine.bus_width),
            "serve": In(1),
            "step": In(1),
            "prime": In(1),
            "asks": Out(1),
            "limits": In(limits_width()),
            "code": Out(LONGEST_CODE),
            "length": Out(range(LONGEST_CODE + 1)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.machine.bus_width
        chunks = width // CHUNK
        window = Signal(2 * CHUNK, reset_less=True)
        place = Signal(range(CHUNK))
        rest = Signal(width, reset_less=True)
        left = Signal(range(chunks + 1))  # chunks of it
        reserve = Signal(width, reset_less=True)

        bits = window.bit_select(place, LONGEST_CODE)
        m.d.comb += [self.code.eq(Cat(*reversed(bits))), self.length.eq(LONGEST_CODE)]
        limits, start = [], 0
        for length in range(1, LONGEST_CODE):
            limits.append(self.limits[start : start + length + 1])
            start += length + 1
        for length in range(LONGEST_CODE - 1, 0, -1):
            with m.If(self.code[LONGEST_CODE - length :] < limits[length - 1]):
                m.d.comb += self.length.eq(length)

        after = Signal(range(2 * CHUNK))
        moves = Signal()
        m.d.comb += [
            after.eq(place + self.length),
            moves.eq(self.prime | after[-1]),
            self.asks.eq(moves & (left == 1)),
        ]
        with m.If(self.step):
            m.d.sync += place.eq(Mux(self.prime, 0, after))
            with m.If(moves):
                m.d.sync += window.eq(Cat(window[CHUNK:], rest[:CHUNK]))
                with m.If(left == 1):
                    m.d.sync += [rest.eq(reserve), left.eq(chunks)]
                with m.Else():
                    m.d.sync += [rest.eq(rest[CHUNK:]), left.eq(left - 1)]
        with m.If(self.serve):
            m.d.sync += reserve.eq(self.beat)
        with m.If(self.restart):
            m.d.sync += left.eq(2)  # that mean nothing
        return m
