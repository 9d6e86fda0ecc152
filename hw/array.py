"""The array of multipliers: one scratchpad word times one tile of weights a cycle.

Columns are output lanes.  What each column's multipliers see depends on the mode
(`docs/machine.md`): in a dense layer all columns see the same input lanes, in a depthwise layer or
a maximum each column's first multiplier sees its own channel and the others nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.isa import Mode
from hw.machine import Machine
from hw.multiplier import ACTIVATION_BITS, LATENCY, PRODUCT_BITS, Multiplier, MultiplierKind

__all__ = ["OPERAND_LATENCY", "MultiplierArray", "array_latency", "array_twin", "sum_bits"]

#: Cycles from a scratchpad word to the multipliers' operands.
OPERAND_LATENCY = 1

#: What MAXIMUM sees outside the image: less than any activation.
OUTSIDE_MAXIMUM = -256


def sum_bits(machine: Machine) -> int:
    """Bits of one column's sum of products."""
    return PRODUCT_BITS + ceil_log2(machine.input_lanes)


def array_latency(machine: Machine) -> int:
    """Cycles from a scratchpad word to the sums of its products."""
    return OPERAND_LATENCY + LATENCY + ceil_log2(machine.input_lanes)


class MultiplierArray(wiring.Component):
    """Multiplies words by the tile that it holds; latency `array_latency`.

    Parameters
    ----------
    machine : Machine
    multiplier : str
        Kind of `Multiplier`.

    Members
    -------
    word : ``In(8 * output_lanes)``
        A word from the scratchpad, with ``inside`` (0: outside the image) and ``half`` (which group
        of ``input_lanes`` channels a dense pass takes).
    mode, input_signed : ``In``
        Constant while words of an instruction are on their way.
    tile : ``In(8 * multipliers)``
        Weight of output lane o and input lane i in byte ``o * input_lanes + i``.
    load_tile : ``In(1)``
        Take the tile for the word of `OPERAND_LATENCY` cycles ago and those after it.
    sums : ``Out``
        One signed sum for each output lane.
    """

    def __init__(self, machine: Machine, *, multiplier: MultiplierKind = "portable") -> None:
        self.machine = machine
        self.multiplier: MultiplierKind = multiplier
        super().__init__({
            "word": In(8 * machine.output_lanes),
            "inside": In(1),
            "half": In(range(machine.blocks_per_word)),
            "mode": In(Mode),
            "input_signed": In(1),
            "tile": In(8 * machine.multipliers),
            "load_tile": In(1),
            "sums": Out(data.ArrayLayout(signed(sum_bits(machine)), machine.output_lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, columns = self.machine.input_lanes, self.machine.output_lanes
        dense = Signal()
        outside = Signal(signed(ACTIVATION_BITS))
        m.d.comb += [
            dense.eq(self.mode == Mode.DENSE),
            outside.eq(Cat(Const(0, 8), self.mode == Mode.MAXIMUM)),
        ]

        def extended(byte: Value) -> Value:
            """The byte with its ninth bit."""
            return Value.cast(Cat(byte, byte[7] & self.input_signed))

        channels = [self.word.word_select(channel, 8) for channel in range(columns)]
        groups = [Array(channels[lane::lanes])[self.half] if columns > lanes else channels[lane]
                  for lane in range(lanes)]
        shared = [Signal(signed(ACTIVATION_BITS), reset_less=True, name=f"operand_lane{lane}")
                  for lane in range(1, lanes)]
        for lane, operand in enumerate(shared, 1):
            with m.If(dense & self.inside):
                m.d.sync += operand.eq(extended(groups[lane]))
            with m.Else():
                m.d.sync += operand.eq(0)

        for column in range(columns):
            first = Signal(signed(ACTIVATION_BITS), reset_less=True, name=f"operand_column{column}")
            chosen = Signal(8, name=f"chosen_column{column}")
            m.d.comb += chosen.eq(channels[column])
            with m.If(dense):
                m.d.comb += chosen.eq(groups[0])
            with m.If(self.inside):
                m.d.sync += first.eq(extended(chosen))
            with m.Else():
                m.d.sync += first.eq(outside)
            products: list[Value] = []
            for lane, operand in enumerate([first, *shared]):
                cell = Multiplier(self.multiplier)
                m.submodules[f"multiplier_{column}_{lane}"] = cell
                m.d.comb += [
                    cell.activation.eq(operand),
                    cell.weight.eq(self.tile.word_select(column * lanes + lane, 8)),
                    cell.load_weight.eq(self.load_tile),
                ]
                products.append(cell.product)
            m.d.comb += self.sums[column].eq(_adder_tree(m, products, f"column{column}"))
        return m


def _adder_tree(m: Module, terms: Sequence[Value], name: str) -> Value:
    """The sum of a power of two of signed terms, with a register after each level."""
    level = 0
    while len(terms) > 1:
        sums: list[Value] = []
        for number, (left, right) in enumerate(zip(terms[::2], terms[1::2], strict=True)):
            total = Signal(signed(len(left) + 1), reset_less=True, name=f"{name}_sum{level}_{number}")
            m.d.sync += total.eq(left + right)
            sums.append(total)
        terms = sums
        level += 1
    return terms[0]


def array_twin(machine: Machine, word: bytes, tile: bytes, *, inside: bool, half: int, mode: Mode,
               input_signed: bool) -> list[int]:
    """The sums that `MultiplierArray` gives, in plain Python."""
    lanes, columns = machine.input_lanes, machine.output_lanes

    def as_signed(byte: int) -> int:
        return byte - 256 if byte > 127 else byte

    outside = OUTSIDE_MAXIMUM if mode is Mode.MAXIMUM else 0
    values = [(as_signed(byte) if input_signed else byte) if inside else outside for byte in word]
    sums = []
    for column in range(columns):
        weights = [as_signed(byte) for byte in tile[column * lanes:(column + 1) * lanes]]
        if mode is Mode.DENSE:
            sums.append(sum(x * w for x, w in zip(values[half * lanes:(half + 1) * lanes], weights)))
        else:
            sums.append(values[column] * weights[0])
    return sums
