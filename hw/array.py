"""The array of multipliers: one scratchpad word, or those of several taps, times one tile of weights a cycle.

Columns are output lanes.  What each column's multipliers see depends on the mode
(`docs/machine.md`): in a dense or thin layer all columns see the same input lanes, in a depthwise layer
or a maximum each column sees its own channel, of one tap on each of its multipliers.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.copies import copies
from hw.isa import Mode
from hw.machine import Machine
from hw.multiplier import ACTIVATION_BITS, LATENCY, PRODUCT_BITS, Multiplier, MultiplierKind
from hw.slots import THIN_CHANNELS, phases

__all__ = ["OPERAND_LATENCY", "MultiplierArray", "array_latency", "array_twin",
           "selection_layout", "sum_bits"]

#: Cycles from a scratchpad word to the multipliers' operands.
OPERAND_LATENCY = 1

#: What MAXIMUM sees outside the image: less than any activation.
OUTSIDE_MAXIMUM = -256


def selection_layout(machine: Machine) -> data.StructLayout:
    """What becomes of a window's words; comes a cycle before them.

    ``inside``: of each slot, 0 outside the image and where no tap is; ``half``: which group of
    ``input_lanes`` channels a dense pass takes; ``phase``: channel with which a thin pass begins.
    """
    return data.StructLayout({
        "inside": unsigned(machine.input_lanes),
        "half": unsigned(ceil_log2(machine.blocks_per_word)),
        "phase": range(THIN_CHANNELS),
        "mode": Mode,
        "thin_channels": unsigned(3),
        "input_signed": 1,
    })


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
    words : ``In``
        The slots' words from the scratchpad, ``8 * output_lanes`` bits each; slot 0 alone counts in modes
        DENSE and MAXIMUM.
    selection : ``In(selection_layout(machine))``
    tile : ``In(8 * multipliers)``
        Weight of output lane o and input lane i in byte ``o * input_lanes + i``.
    load_tile : ``In(1)``
        Take the tile, in the next cycle, for the word of this one and those after it.
    sums : ``Out``
        One signed sum for each output lane.
    """

    def __init__(self, machine: Machine, *, multiplier: MultiplierKind = "portable") -> None:
        self.machine = machine
        self.multiplier: MultiplierKind = multiplier
        super().__init__({
            "words": In(data.ArrayLayout(unsigned(8 * machine.output_lanes), machine.input_lanes)),
            "selection": In(selection_layout(machine)),
            "tile": In(8 * machine.multipliers),
            "load_tile": In(1),
            "sums": Out(data.ArrayLayout(signed(sum_bits(machine)), machine.output_lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, columns = self.machine.input_lanes, self.machine.output_lanes
        selection = self.selection
        words = [[word.word_select(channel, 8) for channel in range(columns)] for word in self.words]

        def extended(byte: Value, is_signed: Value) -> Value:
            """The byte with its ninth bit."""
            return Value.cast(Cat(byte, byte[7] & is_signed))

        # what all columns may see: groups of the first slot's channels, or channels of several slots
        shared = [Signal(signed(ACTIVATION_BITS), reset_less=True, name=f"shared_lane{lane}")
                  for lane in range(lanes)]
        # one bit for each source of the lanes' channels, known before the words come
        thin = selection.mode == Mode.THIN
        sources = [(channels, phase) for channels in range(1, THIN_CHANNELS + 1)
                   for phase in phases(self.machine, channels)]
        chosen = Cat(*((thin & (selection.thin_channels == channels) & (selection.phase == phase))
                       for channels, phase in sources))
        steers = zip(copies(m, chosen, lanes, "chosen"), copies(m, selection.half, lanes, "half"),
                     copies(m, selection.inside, lanes, "inside_shared"),
                     copies(m, selection.input_signed, lanes, "signed_shared"), strict=True)
        for lane, (choice, half, insides, is_signed) in enumerate(steers):
            byte, inside = Signal(8, name=f"byte_lane{lane}"), Signal(name=f"inside_lane{lane}")
            m.d.comb += [byte.eq(Array(words[0][lane::lanes])[half]), inside.eq(insides[0])]
            for number, (channels, phase) in enumerate(sources):
                slot, channel = divmod(phase + lane, channels)
                with m.If(choice[number]):
                    m.d.comb += [byte.eq(words[slot][channel]), inside.eq(insides[slot])]
            m.d.sync += shared[lane].eq(Mux(inside, extended(byte, is_signed), 0))

        # what each sees alone: its channel of every slot
        alone_mode, maximum = Signal(), Signal()
        m.d.comb += [
            maximum.eq(selection.mode == Mode.MAXIMUM),
            alone_mode.eq((selection.mode == Mode.DEPTHWISE) | maximum),
        ]
        # copies for each column, because they steer all that is wide
        column_steers = zip(copies(m, selection.inside, columns, "inside_alone"),
                            copies(m, Cat(selection.input_signed, maximum, alone_mode), columns, "alone"),
                            copies(m, self.load_tile, columns, "load_tile"), strict=True)
        for column, (insides, (is_signed, is_maximum, alone_before), load_tile) in enumerate(column_steers):
            own = [Signal(signed(ACTIVATION_BITS), reset_less=True, name=f"own_column{column}_lane{lane}")
                   for lane in range(lanes)]
            outside = Cat(Const(0, 8), is_maximum).as_signed()
            m.d.sync += [operand.eq(Mux(insides[lane], extended(words[lane][column], is_signed),
                                        0 if lane else outside)) for lane, operand in enumerate(own)]
            alone = Signal(reset_less=True, name=f"alone_column{column}")
            m.d.sync += alone.eq(alone_before)
            products: list[Value] = []
            for lane in range(lanes):
                cell = Multiplier(self.multiplier)
                m.submodules[f"multiplier_{column}_{lane}"] = cell
                m.d.comb += [
                    cell.activation.eq(Mux(alone, own[lane], shared[lane])),
                    cell.weight.eq(self.tile.word_select(column * lanes + lane, 8)),
                    cell.load_weight.eq(load_tile),
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


def array_twin(machine: Machine, words: Sequence[bytes], tile: bytes, *, inside: Sequence[bool], half: int,
               mode: Mode, input_signed: bool, thin_channels: int = 1, phase: int = 0) -> list[int]:
    """The sums that `MultiplierArray` gives, in plain Python."""
    lanes, columns = machine.input_lanes, machine.output_lanes

    def as_signed(byte: int) -> int:
        return byte - 256 if byte > 127 else byte

    outside = OUTSIDE_MAXIMUM if mode is Mode.MAXIMUM else 0
    values = [[(as_signed(byte) if input_signed else byte) if within else outside for byte in word]
              for word, within in zip(words, inside, strict=True)]
    sums = []
    for column in range(columns):
        weights = [as_signed(byte) for byte in tile[column * lanes:(column + 1) * lanes]]
        match mode:
            case Mode.DENSE:
                operands = values[0][half * lanes:(half + 1) * lanes]
            case Mode.THIN:
                places = [divmod(phase + lane, thin_channels) for lane in range(lanes)]
                operands = [values[slot][channel] for slot, channel in places]
            case Mode.DEPTHWISE:
                operands = [word[column] for word in values]
            case Mode.MAXIMUM:
                operands = [values[0][column], *[0] * (lanes - 1)]
        sums.append(sum(x * w for x, w in zip(operands, weights, strict=True)))
    return sums
