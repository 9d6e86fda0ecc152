"""Dependency tokens: what load, compute and store know about each other (`docs/machine.md`).

There is one counter for every ordered pair of units (a unit may also give tokens to itself).
"""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.isa import MAXIMUM_TOKENS, Unit

__all__ = ["TokenPort", "Tokens"]

#: How a unit takes and gives tokens.
#:
#: While ``wait_valid``, ``wait`` is the mask of units (bit positions `hw.isa.Unit`) from which one
#: token each is wanted; ``wait_ready`` answers in the same cycle when all are there, and takes them.
#: ``signal_valid`` is a strobe that gives one token to each unit in the mask ``signal``; a unit
#: that waits for it can go on in the next cycle.
TokenPort = wiring.Signature({
    "wait": Out(3),
    "wait_valid": Out(1),
    "wait_ready": In(1),
    "signal": Out(3),
    "signal_valid": Out(1),
})


class Tokens(wiring.Component):
    """The token counters of all pairs of units.

    Members
    -------
    units : ``In(TokenPort).array(3)``
        One port for each unit, indexed by `hw.isa.Unit`.
    clear : ``In(1)``
        Forget all tokens (at the start of a program).
    error : ``Out(1)``
        Strobe, three cycles later: a token was given where `hw.isa.MAXIMUM_TOKENS` already waited. That token
        is lost.
    """

    def __init__(self) -> None:
        super().__init__({
            "units": In(TokenPort).array(len(Unit)),
            "clear": In(1),
            "error": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        full, given_more = Signal(len(Unit) ** 2), Signal(len(Unit) ** 2)  # both of the cycle before
        for taker in Unit:
            port = self.units[taker]
            counters = {giver: Signal(range(MAXIMUM_TOKENS + 1),
                                      name=f"from_{giver.name}_to_{taker.name}".lower()) for giver in Unit}
            there = Signal(len(Unit), name=f"there_for_{taker.name}".lower())
            take = Signal(name=f"take_{taker.name}".lower())
            # `there` is kept beside the counters, because the answer is needed in the same cycle
            m.d.comb += [
                port.wait_ready.eq((port.wait & ~there) == 0),
                take.eq(port.wait_valid & port.wait_ready),
            ]
            for giver, counter in counters.items():
                given = self.units[giver].signal_valid & self.units[giver].signal[taker]
                taken = take & port.wait[giver]
                number = giver * len(Unit) + taker
                m.d.sync += [
                    full[number].eq(counter == MAXIMUM_TOKENS),
                    given_more[number].eq(given & ~taken),
                ]
                with m.If(given & ~taken), m.If(counter != MAXIMUM_TOKENS):
                    m.d.sync += [counter.eq(counter + 1), there[giver].eq(1)]
                with m.Elif(taken & ~given):
                    m.d.sync += [counter.eq(counter - 1), there[giver].eq(counter != 1)]
                with m.If(self.clear):
                    m.d.sync += [counter.eq(0), there[giver].eq(0)]
        lost = Signal.like(full)
        m.d.sync += [lost.eq(full & given_more), self.error.eq(lost.any())]
        return m
