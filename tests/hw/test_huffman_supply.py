"""No beat is lost, given twice or out of turn: proved, whatever lanes ask for and whenever words come."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from boards.toolchain import ToolError, find_tool, run_tool
from hw.huffman_stream import COUNT_BITS
from hw.huffman_supply import HuffmanSupply

LANES = 4


class Proof(wiring.Component):
    """The supply among lanes and words that do anything, and what must hold.

    ``false_claim``: claim, too, that lanes never ask for beats all together.
    """

    def __init__(self, *, false_claim: bool = False) -> None:
        self.false_claim = false_claim
        self.supply = HuffmanSupply(LANES)
        members = self.supply.signature.members
        super().__init__({name: In(member.shape) for name, member in members.items() if member.flow is In})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.supply = supply = self.supply
        for name in self.signature.members:
            m.d.comb += getattr(supply, name).eq(getattr(self, name))
        # words and parameters come in one stream
        m.d.comb += Assume(~(self.word & self.parameters))
        begun, over = Signal(), Signal()  # a block has; there may have been its end
        empty = Signal(LANES)             # reserves
        taken, given, words = Signal(COUNT_BITS), Signal(COUNT_BITS), Signal(COUNT_BITS)
        serves = supply.serve.any()
        m.d.sync += [
            empty.eq((empty & ~supply.serve) | Mux(supply.step, supply.asks, 0)),
            over.eq(over | supply.ended),
            taken.eq(taken + supply.take),
            given.eq(given + serves),
        ]
        with m.If(self.restart):
            m.d.sync += [begun.eq(1), over.eq(0), empty.eq(~0)]
            m.d.sync += [taken.eq(0), given.eq(0), words.eq(self.words)]
        lower = (supply.serve - 1)[:LANES]  # lanes below the one that is served
        with m.If(begun):
            m.d.comb += [
                # a beat goes to one lane, that has none,
                Assert((supply.serve & lower) == 0),
                Assert((supply.serve & ~empty) == 0),
                # before all lanes behind it and before anything that is asked for later
                Assert((supply.serve == 0) | over | ((empty & lower) == 0)),
                Assert(~supply.step | supply.ended | over | ((empty & ~supply.serve) == 0)),
                # and every beat of every word of the block does so once
                Assert(given == (taken << 1 | supply.second)[:COUNT_BITS]),
                Assert(~serves | self.word),
                Assert(~supply.take | (self.word & serves & supply.second)),
                Assert(taken <= words),
                # what a proof by induction needs
                Assert(supply.left == (words - taken)[:COUNT_BITS]),
                Assert((supply.waiting & ~empty) == 0),
                Assert(over | (supply.waiting == empty)),
            ]
            if self.false_claim:
                m.d.comb += Assert(~supply.step | ~supply.asks.all())
        return m


def prove(folder: Path, proof: Proof) -> None:
    """By induction, with the solver in Yosys."""
    (folder / "proof.il").write_text(rtlil.convert(proof, name="proof"))
    script = "read_rtlil proof.il; hierarchy -top proof; proc; flatten; opt; chformal -lower; opt; "
    script += "sat -verify -tempinduct -prove-asserts -set-assumes -maxsteps 4 proof"
    arguments = ["-q", "-p", script]
    run_tool(find_tool("yosys"), arguments, folder, folder / "log", lambda line, seconds: None)


def test_supply_is_proved(tmp_path: Path) -> None:
    prove(tmp_path, Proof())


def test_a_false_claim_is_not(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="proof did fail"):
        prove(tmp_path, Proof(false_claim=True))
