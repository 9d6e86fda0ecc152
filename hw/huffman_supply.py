"""Which lane of the Huffman decoder gets the next beat, and when all of them may decode a code."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.huffman_stream import COUNT_BITS

__all__ = ["HuffmanSupply"]


class HuffmanSupply(wiring.Component):
    """Gives lanes the beats that they wait for, one in a cycle, by the lanes' numbers.

    A step waits until all lanes have what they asked for in steps before, so that the order of beats is that
    of steps and lanes, whenever words come.

    Parameters
    ----------
    lanes : int

    Members
    -------
    restart, words : ``In(1)``, ``In``
        A block begins that has so many words; all lanes wait for a beat.
    active : ``In(1)``
        Beats may be given, and steps made.
    word, parameters : ``In(1)``
        The next word is there and one of tiles, or one of parameters.
    left, waiting : ``Out``, ``Out(lanes)``
        Words that have not been taken, and lanes that wait for a beat.
    second, take : ``Out(1)``
        Which of the word's two beats is next; take the word.
    serve : ``Out(lanes)``
        The lane that gets the beat.
    room, step : ``In(1)``, ``Out(1)``
        There is room for a step's symbols; it is made.
    asks : ``In(lanes)``
        Lanes that, if there is a step, want another beat after it.
    ended : ``Out(1)``
        There are no more beats: steps no longer wait for any.
    cut : ``Out(1)``
        And there should have been some.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__({
            "restart": In(1),
            "words": In(COUNT_BITS),
            "active": In(1),
            "word": In(1),
            "parameters": In(1),
            "left": Out(COUNT_BITS),
            "waiting": Out(lanes),
            "second": Out(1),
            "take": Out(1),
            "serve": Out(lanes),
            "room": In(1),
            "step": Out(1),
            "asks": In(lanes),
            "ended": Out(1),
            "cut": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        waiting, left = self.waiting, self.left
        still = Signal(self.lanes)
        m.d.comb += [
            self.cut.eq(self.parameters & (left != 0)),
            self.ended.eq((left == 0) | self.parameters),
            still.eq(Mux(self.ended, 0, waiting & ~self.serve)),
            self.step.eq(self.active & (still == 0) & self.room),
        ]
        with m.If(self.active & self.word & ~self.ended):
            m.d.comb += [
                self.serve.eq(waiting & (~waiting + 1)),
                self.take.eq(self.second & waiting.any()),
            ]
        with m.If(self.serve.any()):
            m.d.sync += self.second.eq(~self.second)
        with m.If(self.take):
            m.d.sync += left.eq(left - 1)
        m.d.sync += waiting.eq(Mux(self.step, self.asks, still))
        with m.If(self.restart):
            m.d.sync += [waiting.eq(~0), left.eq(self.words), self.second.eq(0)]
        return m
