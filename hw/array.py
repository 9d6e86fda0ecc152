"""The array of multipliers: one scratchpad word, or those of several taps, times one tile of weights a cycle.

Columns are output lanes.  What each column's multipliers see depends on the mode
(`docs/machine.md`): in a dense or thin layer all columns see the same input lanes, in a depthwise layer
or a maximum each column sees its own channel, of one tap on each of its multipliers.

Where weights come in pairs, a multiplier has those of two output lanes, half of all apart.  Then the columns
of the upper half see the next input lanes, and every sum is that of two columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.copies import copies
from hw.delay_line import delay_line
from hw.isa import Mode
from hw.machine import Machine
from hw.multiplier import ACTIVATION_BITS, LATENCY, PRODUCT_BITS, Multiplier, MultiplierKind
from hw.pair_multiplier import PairMultiplier
from hw.slots import THIN_CHANNELS, phases
from hw.weight_pairs import unpair_tiles

__all__ = ["OPERAND_LATENCY", "MultiplierArray", "array_latency", "array_twin",
           "selection_layout", "sum_bits", "with_carry"]

#: Cycles from a scratchpad word to the multipliers' operands: shared channels are chosen, then brought to
#: all columns.
OPERAND_LATENCY = 2

#: Columns that are fed by the same registers.
_NEIGHBOURS = 4

#: A slot and one of its channels.
Place = tuple[int, int]

#: What MAXIMUM sees outside the image: less than any activation.
OUTSIDE_MAXIMUM = -256


def selection_layout(machine: Machine) -> data.StructLayout:
    """What becomes of a window's words; comes two cycles before them.

    ``inside``: of each slot, 0 outside the image and where no tap is; ``half``: which group of
    ``input_lanes`` channels a dense pass takes, or of twice as many with ``pairs``; ``phase``: channel with
    which a thin pass begins.
    """
    return data.StructLayout({
        "inside": unsigned(machine.input_lanes),
        "half": unsigned(ceil_log2(machine.blocks_per_word)),
        "phase": range(THIN_CHANNELS),
        "mode": Mode,
        "thin_channels": unsigned(3),
        "input_signed": 1,
        **({"pairs": 1} if machine.weight_pairs else {}),
    })


def sum_bits(machine: Machine) -> int:
    """Bits of one column's sum of products."""
    return PRODUCT_BITS + ceil_log2(machine.input_lanes)


def array_latency(machine: Machine) -> int:
    """Cycles from a scratchpad word to the sums of its products."""
    return OPERAND_LATENCY + LATENCY + ceil_log2(machine.input_lanes) + machine.weight_pairs


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
        Take the tile, in two cycles, for the word of this one and those after it.
    sums : ``Out``
        One signed sum for each output lane.
    carries : ``Out(output_lanes)``
        With ``weight_pairs`` only: what must be added to them.
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
            **({"carries": Out(machine.output_lanes)} if machine.weight_pairs else {}),
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
        # the same for the upper columns, which see the next group where weights come in pairs
        upper = shared
        if self.machine.weight_pairs:
            upper = [Signal(signed(ACTIVATION_BITS), reset_less=True, name=f"upper_lane{lane}")
                     for lane in range(lanes)]
        thin = selection.mode == Mode.THIN
        pairs = selection.pairs if self.machine.weight_pairs else Const(0, 1)
        thin_sources = [(channels, phase) for channels in range(1, THIN_CHANNELS + 1)
                        for phase in phases(self.machine, channels)]
        pair_sources = [(channels, phase) for channels in range(2, THIN_CHANNELS + 1)
                        for phase in phases(self.machine, channels, pairs=True)]

        def is_thin(channels: int, phase: int) -> Value:
            return thin & (selection.thin_channels == channels) & (selection.phase == phase)

        def choose(into: Sequence[Signal], name: str, sources: Sequence[tuple[Value, Callable[[int], Place]]]
                   ) -> None:
            """Each lane's channel: of the source whose bit alone is 1, in the slot and channel that it tells.

            What steers comes two cycles before the words and has an AND with the slot's ``inside`` behind it,
            so that one LUT takes two sources.
            """
            bits = Cat(bit for bit, _ in sources)
            near = copies(m, Cat(selection.input_signed, bits, selection.inside),
                          -(-len(into) // _NEIGHBOURS), name)
            for lane, choice in enumerate(into):
                steer = near[lane // _NEIGHBOURS]
                chosen, insides = steer[1:1 + len(bits)], steer[1 + len(bits):]
                places = [place(lane) for _, place in sources]
                gates = Signal(len(bits), reset_less=True, name=f"{name}_gates{lane}")
                is_signed = copies(m, steer[0], 1, f"{name}_signed{lane}")[0]
                m.d.sync += gates.eq(Cat(bit & insides[slot]
                                         for bit, (slot, _) in zip(chosen, places, strict=True)))
                m.d.sync += choice.eq(extended(reduce(or_, (
                    words[slot][channel] & gate.replicate(8)
                    for gate, (slot, channel) in zip(gates, places, strict=True))), is_signed))

        # one bit for each source of the lanes' channels, known before the words come
        groups = self.machine.blocks_per_word
        sources: list[tuple[Value, Callable[[int], Place]]] = [
            (~thin & ~pairs & (selection.half == group), lambda lane, group=group: (0, group * lanes + lane))
            for group in range(groups)]
        sources += [(is_thin(*source), lambda lane, source=source: divmod(source[1] + lane, source[0]))
                    for source in thin_sources]
        uppers = list(sources)
        if self.machine.weight_pairs:
            for group in range(groups // 2):
                bit = ~thin & pairs & (selection.half == group)
                sources.append((bit, lambda lane, group=group: (0, 2 * group * lanes + lane)))
                uppers.append((bit, lambda lane, group=group: (0, (2 * group + 1) * lanes + lane)))
            # thin passes in pairs are none of those above for the upper columns
            uppers[groups:groups + len(thin_sources)] = [
                (is_thin(*source) & ~pairs if source in pair_sources else is_thin(*source), place)
                for source, (_, place) in zip(thin_sources, uppers[groups:], strict=False)]
            uppers += [(is_thin(*source) & pairs,
                        lambda lane, source=source: divmod(source[1] + lanes + lane, source[0]))
                       for source in pair_sources]
            choose(upper, "upper", uppers)
        choose(shared, "shared", sources)

        # brought to the columns that lie together
        seen_by = [[copies(m, lane, 1, f"column{first}_{lane.name}")[0].as_signed()
                    for lane in (shared if first < columns // 2 else upper)]
                   for first in range(0, columns, _NEIGHBOURS)]

        # what each sees alone: its channel of every slot
        inside, alone_mode, maximum, input_signed = (
            Signal(lanes, reset_less=True), Signal(reset_less=True), Signal(reset_less=True),
            Signal(reset_less=True))
        m.d.sync += [
            inside.eq(selection.inside),
            input_signed.eq(selection.input_signed),
            maximum.eq(selection.mode == Mode.MAXIMUM),
            alone_mode.eq(selection.mode.as_value().matches(Mode.DEPTHWISE, Mode.MAXIMUM)),
        ]
        late_pairs = Signal(reset_less=True)
        m.d.sync += late_pairs.eq(pairs)
        # copies for each column, because they steer all that is wide
        modes = Cat(input_signed, maximum, alone_mode, late_pairs)
        column_steers = zip(copies(m, inside, columns, "inside_alone", levels=2),
                            copies(m, modes, columns, "modes", levels=2),
                            copies(m, self.load_tile, columns, "load_tile", levels=2), strict=True)
        # of each column: sums of its lower and upper weights, what is missing in the second
        sums: list[tuple[Value, Value, Value]] = []
        for column, (insides, steer, load_tile) in enumerate(column_steers):
            is_signed, is_maximum, alone_before, is_paired = steer
            own = [Signal(signed(ACTIVATION_BITS), reset_less=True, name=f"own_column{column}_lane{lane}")
                   for lane in range(lanes)]
            outside = Cat(Const(0, 8), is_maximum).as_signed()
            held = [Signal(8, reset_less=True, name=f"held_column{column}_lane{lane}")
                    for lane in range(lanes)]
            m.d.sync += [byte.eq(words[lane][column]) for lane, byte in enumerate(held)]
            m.d.sync += [operand.eq(Mux(insides[lane], extended(held[lane], is_signed),
                                        0 if lane else outside)) for lane, operand in enumerate(own)]
            alone = Signal(reset_less=True, name=f"alone_column{column}")
            m.d.sync += alone.eq(alone_before)
            seen = seen_by[column // _NEIGHBOURS]
            operands = [Mux(alone, own[lane], seen[lane]) for lane in range(lanes)]
            if self.machine.weight_pairs:
                sums.append(self._paired_column(m, column, operands, is_paired, load_tile))
                continue
            products: list[Value] = []
            for lane, operand in enumerate(operands):
                cell = Multiplier(self.multiplier)
                m.submodules[f"multiplier_{column}_{lane}"] = cell
                m.d.comb += [
                    cell.activation.eq(operand),
                    cell.weight.eq(self.tile.word_select(column * lanes + lane, 8)),
                    cell.load_weight.eq(load_tile),
                ]
                products.append(cell.product)
            m.d.comb += self.sums[column].eq(_adder_tree(m, products, f"column{column}"))
        if self.machine.weight_pairs:
            self._join(m, sums)
        return m

    def _paired_column(self, m: Module, column: int, operands: Sequence[Value], pairs: Value,
                       load_tile: Value) -> tuple[Value, Value, Value]:
        """Sums of the products of one column's lower and upper weights; the second may lack 1."""
        lanes = self.machine.input_lanes
        paired = Signal(reset_less=True, name=f"paired_column{column}")
        m.d.sync += paired.eq(pairs)
        low: list[Value] = []
        high: list[Value] = []
        for lane, operand in enumerate(operands):
            cell = PairMultiplier(self.multiplier)
            m.submodules[f"multiplier_{column}_{lane}"] = cell
            m.d.comb += [
                cell.activation.eq(operand),
                cell.weight.eq(self.tile.word_select(column * lanes + lane, 8)),
                cell.paired.eq(paired),
                cell.load_weight.eq(load_tile),
            ]
            low.append(cell.low)
            high.append(cell.high)
        return (_adder_tree(m, low, f"column{column}_low"),
                *_borrowing_tree(m, high, [product[-1] for product in low], f"column{column}_high"))

    def _join(self, m: Module, sums: Sequence[tuple[Value, Value, Value]]) -> None:
        """In pairs each output lane has sums of two columns, else those of both halves of one column's
        weights."""
        half = self.machine.output_lanes // 2
        stages = LATENCY + ceil_log2(self.machine.input_lanes)
        before = delay_line(m, self.selection.pairs, 3 + stages, "paired")[-1]
        steers = copies(m, before, len(sums), "paired_sum")
        for column, (low, high, missing) in enumerate(sums):
            paired = steers[column]
            joined = Signal(signed(sum_bits(self.machine)), reset_less=True, name=f"joined{column}")
            # 16 times (high + missing), with one more in the carry
            whole = Cat(missing.replicate(4), high).as_signed()
            if column < half:
                first, second = low, Mux(paired, sums[column + half][0], whole)
                carry = missing & ~paired
            else:
                other, others_missing = sums[column - half][1:]
                first, second, carry = Mux(paired, other, low), Mux(paired, high, whole), missing
                still_missing = Signal(reset_less=True, name=f"still_missing{column}")
                m.d.sync += still_missing.eq(others_missing & paired)
                m.d.comb += self.carries[column].eq(still_missing)
            m.d.sync += joined.eq(with_carry(first, second, carry))
            m.d.comb += self.sums[column].eq(joined)


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


def _borrowing_tree(m: Module, terms: Sequence[Value], borrows: Sequence[Value],
                    name: str) -> tuple[Value, Value]:
    """As `_adder_tree`, of terms that are 1 too small where their bit in ``borrows`` is set.

    An adder's carry makes up for one.  There is one adder fewer than there are terms, so a bit is left.
    """
    level = 0
    while len(terms) > 1:
        sums: list[Value] = []
        left: list[Value] = []  # of each pair one is the carry, the other waits
        for number, (first, second) in enumerate(zip(terms[::2], terms[1::2], strict=True)):
            total = Signal(signed(len(first) + 1), reset_less=True, name=f"{name}_sum{level}_{number}")
            later = Signal(reset_less=True, name=f"{name}_borrow{level}_{number}")
            m.d.sync += [
                total.eq(with_carry(first, second, borrows[2 * number])),
                later.eq(borrows[2 * number + 1]),
            ]
            sums.append(total)
            left.append(later)
        terms, borrows = sums, left
        level += 1
    return terms[0], borrows[0]


def with_carry(left: Value, right: Value, carry: Value) -> Value:
    """The sum of two signed values and a bit, in one adder."""
    total = Cat(Const(1, 1), left).as_signed() + Cat(carry, right).as_signed()
    return total[1:].as_signed()


def array_twin(machine: Machine, words: Sequence[bytes], tile: bytes, *, inside: Sequence[bool], half: int,
               mode: Mode, input_signed: bool, thin_channels: int = 1, phase: int = 0,
               pairs: bool = False) -> list[int]:
    """The sums that `MultiplierArray` gives, in plain Python."""
    lanes, columns = machine.input_lanes, machine.output_lanes

    def as_signed(byte: int) -> int:
        return byte - 256 if byte > 127 else byte

    outside = OUTSIDE_MAXIMUM if mode is Mode.MAXIMUM else 0
    values = [[(as_signed(byte) if input_signed else byte) if within else outside for byte in word]
              for word, within in zip(words, inside, strict=True)]
    tiles = np.frombuffer(tile, np.int8).reshape(1, columns, lanes)
    [by_column] = (unpair_tiles(tiles, machine) if pairs else tiles).tolist()
    lanes *= 2 if pairs else 1
    sums = []
    for column, weights in enumerate(by_column):
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
