"""Post-processing: from 32-bit sums to bytes (`docs/machine.md`, "Post-processing").

A word takes eight cycles: shift and round (five), clip, two output registers.  With a residual it then
goes through three more that align and add the residual word, and once more through the same shifter
and clip: words come at every second cycle then, and those that come again take the cycles between.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.copies import copies
from hw.delay_line import delay_line
from hw.divider import Divider
from hw.isa import Opcode, layout_of
from hw.machine import Machine
from hw.rounding_shift import RESULT_BITS, SHIFT_OFFSET, RoundingShift
from hw.scratchpad import PORT_B_LATENCY
from hw.weight_loader import SHIFT_BITS

__all__ = ["FLAGS_EARLY", "OutputFlags", "Requantize", "requantize_twin"]

#: What stays with an output word: it exists, and is at the end of a row, of a block, of the instruction.
OutputFlags = data.StructLayout({"valid": 1, "row_end": 1, "block_end": 1, "end": 1})

_CLIP = RoundingShift.LATENCY      # stage whose register holds the rounded value
_CLIPPED = _CLIP + 1
_ALIGN_CYCLES = 3
_AGAIN = _CLIPPED + _ALIGN_CYCLES  # when a word comes back to the shifter
_RESIDUAL_READ = _CLIPPED - PORT_B_LATENCY
_WRITE = _CLIPPED + 2              # two registers: the way to the scratchpad is long
_WRITE_RESIDUAL = _AGAIN + _WRITE
#: Cycles from a word's flags to its sums.
FLAGS_EARLY = 2 - _RESIDUAL_READ
assert _AGAIN % 2 == 1, "a word would meet the next one at the shifter"
assert (_WRITE_RESIDUAL - _RESIDUAL_READ) % 2 == 1, "a write would meet a read at the scratchpad's port"


class Requantize(wiring.Component):
    """Post-processing of all output lanes.

    Members
    -------
    instruction : ``In``
        Constant while words are on their way.
    shift : ``In``
        Right shift of each lane, taken two cycles after ``load_shift`` is 1, for the sums of the cycle after
        that and all later ones.
    load_shift : ``In(1)``
    sums : ``In``
        Int32 of each lane.
    flags : ``In(OutputFlags)``
        Of the sums `FLAGS_EARLY` cycles later.
    residual : ``Out(OutputFlags)``
        Flags of the word whose residual is wanted in the next cycle (``valid`` only if there is one).
    residual_data : ``In(8 * output_lanes)``
        That word, `PORT_B_LATENCY` cycles after that cycle.
    write : ``Out(OutputFlags)``
        Flags of the word that is in ``write_data`` in the next cycle.
    write_data : ``Out(8 * output_lanes)``
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        lanes = machine.output_lanes
        super().__init__({
            "instruction": In(layout_of(Opcode.COMPUTE)),
            "shift": In(data.ArrayLayout(signed(SHIFT_BITS), lanes)),
            "load_shift": In(1),
            "sums": In(data.ArrayLayout(signed(32), lanes)),
            "flags": In(OutputFlags),
            "residual": Out(OutputFlags),
            "residual_data": In(8 * lanes),
            "write": Out(OutputFlags),
            "write_data": Out(8 * lanes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        code = self.instruction
        lanes = self.machine.output_lanes

        # Flags: a ring for words that come back.  `again` marks their second time.
        stages = [Signal(OutputFlags, name=f"flags{stage}") for stage in range(_CLIPPED + 1)]
        again = [Signal(name=f"again{stage}") for stage in range(_CLIPPED + 1)]
        align = [Signal(OutputFlags, name=f"align_flags{stage}") for stage in range(_ALIGN_CYCLES)]
        ahead = [self.flags]
        for stage in range(FLAGS_EARLY - 1):
            register = Signal(OutputFlags, name=f"ahead{stage}")
            m.d.sync += register.eq(ahead[-1])
            ahead.append(register)
        entering, coming = Signal(OutputFlags), ahead[-1]
        m.d.comb += entering.eq(Mux(align[-1].valid, align[-1], coming))
        m.d.sync += [again[0].eq(align[-1].valid), stages[0].eq(entering)]
        for stage in range(_CLIPPED):
            m.d.sync += [stages[stage + 1].eq(stages[stage]), again[stage + 1].eq(again[stage])]
        for stage in range(_ALIGN_CYCLES - 1):
            m.d.sync += align[stage + 1].eq(align[stage])
        # copies for each lane, because they steer all that is wide
        lane_again = copies(m, align[-2].valid, lanes, "again", levels=2)
        averages = copies(m, code.average, lanes, "average", levels=2)
        goes_round = Signal()
        # the same as ahead[1], at the other end of the part, where residuals are addressed
        reads = OutputFlags(copies(m, self.flags, 1, "reads", init=0)[0])
        m.d.comb += [
            goes_round.eq(code.residual & ~again[_CLIPPED]),
            align[0].eq(stages[_CLIPPED]),
            align[0].valid.eq(stages[_CLIPPED].valid & goes_round),
            self.residual.eq(reads),
            self.residual.valid.eq(reads.valid & code.residual),
        ]
        m.d.sync += [
            self.write.eq(stages[_CLIPPED]),
            self.write.valid.eq(stages[_CLIPPED].valid & ~goes_round),
        ]

        quotients = None
        if self.machine.average_pooling:
            m.submodules.divider = divider = Divider(lanes)
            starts = Signal()
            came, waiting = Signal(OutputFlags), Signal(OutputFlags)
            m.d.comb += [
                divider.divisor.eq(code.divisor),
                divider.shift.eq(code.divisor_shift),
                divider.dividends.eq(self.sums),
                divider.start.eq(starts),
            ]
            m.d.sync += [starts.eq(ahead[-2].valid & code.average), came.eq(coming)]
            with m.If(came.valid & code.average):
                m.d.sync += waiting.eq(came)
            with m.If(code.average):
                # the word leaves the shifter's path and comes back before the clip
                m.d.sync += stages[1].valid.eq(0)
                m.d.sync += stages[_CLIPPED].eq(waiting)
                m.d.sync += stages[_CLIPPED].valid.eq(divider.done)
            quotients = divider.results

        # The sum with the residual is v * 2^own + z * 2^other; their common factor goes into the
        # shift behind it, so that only one of the two is shifted.
        swap = Signal(reset_less=True)
        distance = Signal(4, reset_less=True)
        common = Signal(4, reset_less=True)
        wanted = Signal(signed(8), reset_less=True)
        sum_amount = Signal(6, reset_less=True)
        m.d.sync += [
            swap.eq(code.residual_shift > code.own_shift),
            common.eq(Mux(swap, code.own_shift, code.residual_shift)),
            distance.eq(Mux(swap, code.residual_shift - code.own_shift,
                            code.own_shift - code.residual_shift)),
            wanted.eq(code.sum_shift - common + SHIFT_OFFSET),
            # shifting left farther than the offset saturates all the same
            sum_amount.eq(Mux(wanted < 0, 0, wanted)),
        ]
        low = Signal(signed(9), reset_less=True)
        high = Signal(signed(9), reset_less=True)
        m.d.sync += [
            low.eq(Mux(again[_CLIP - 3], code.sum_low, code.low)),
            high.eq(Mux(again[_CLIP - 3], code.sum_high, code.high)),
        ]

        alignments = copies(m, Cat(swap, code.residual_signed, distance, sum_amount), lanes,
                            "alignment", levels=2)
        limits = copies(m, Cat(low, high), lanes, "limits", levels=2)
        load_shift = copies(m, self.load_shift, lanes, "load_shift", levels=2)
        for lane in range(lanes):
            lane_swap, lane_signed, lane_distance, lane_sum_amount = (
                alignments[lane][part] for part in (0, 1, slice(2, 6), slice(6, 12)))
            lane_low, lane_high = limits[lane][:9].as_signed(), limits[lane][9:].as_signed()
            low_clipped = Signal(signed(9), reset_less=True, name=f"low_clipped{lane}")
            high_clipped = Signal(signed(9), reset_less=True, name=f"high_clipped{lane}")
            m.d.sync += [low_clipped.eq(lane_low), high_clipped.eq(lane_high)]
            amount = Signal(6, reset_less=True, name=f"amount{lane}")
            with m.If(load_shift[lane]):
                m.d.sync += amount.eq(self.shift[lane] + SHIFT_OFFSET)

            total = Signal(signed(25), reset_less=True, name=f"total{lane}")
            shifter = RoundingShift()
            m.submodules[f"shifter{lane}"] = shifter
            m.d.comb += [
                shifter.value.eq(Mux(lane_again[lane], total, self.sums[lane])),
                shifter.amount.eq(Mux(lane_again[lane], lane_sum_amount, amount)),
            ]
            rounded = Signal(signed(RESULT_BITS), name=f"rounded{lane}")
            m.d.comb += rounded.eq(shifter.result)
            if quotients is not None:
                with m.If(averages[lane]):
                    m.d.comb += rounded.eq(quotients[lane])
            # compared in one cycle, replaced in the next
            kept = Signal(signed(9), reset_less=True, name=f"kept{lane}")
            below = Signal(reset_less=True, name=f"below{lane}")
            above = Signal(reset_less=True, name=f"above{lane}")
            clipped = Signal(signed(9), name=f"clipped{lane}")
            m.d.sync += [kept.eq(rounded), below.eq(rounded < lane_low), above.eq(rounded > lane_high)]
            m.d.comb += clipped.eq(Mux(below, low_clipped, Mux(above, high_clipped, kept)))
            m.d.comb += self.write_data.word_select(lane, 8).eq(
                delay_line(m, clipped[:8], _WRITE - _CLIPPED, f"written{lane}")[-1])

            byte = self.residual_data.word_select(lane, 8)
            other = Cat(byte, byte[7] & lane_signed).as_signed()
            chosen = Signal(signed(9), reset_less=True, name=f"chosen{lane}")
            unshifted = Signal(signed(9), reset_less=True, name=f"unshifted{lane}")
            aligned = Signal(signed(24), reset_less=True, name=f"aligned{lane}")
            unaligned = Signal(signed(9), reset_less=True, name=f"unaligned{lane}")
            m.d.sync += [
                chosen.eq(Mux(lane_swap, other, clipped)),
                unshifted.eq(Mux(lane_swap, clipped, other)),
                aligned.eq(chosen << lane_distance),
                unaligned.eq(unshifted),
                total.eq(aligned + unaligned),
            ]
        return m


def requantize_twin(acc: int, shift: int, fields: dict[str, int], residual: int = 0) -> int:
    """Post-processing of one sum, straight from `docs/machine.md`; ``residual`` is the byte's value.

    Returns the byte that is written.
    """

    def rounded(numerator: int, denominator: int) -> int:
        floor, remainder = divmod(numerator, denominator)
        return floor + (2 * remainder > denominator or (2 * remainder == denominator and floor % 2 == 1))

    def scaled(value: int, places: int) -> int:
        return rounded(value << max(-places, 0), 1 << max(places, 0))

    if fields.get("average", 0):
        places = fields.get("divisor_shift", 0)
        value = rounded(acc << max(places, 0), fields["divisor"] << max(-places, 0))
    else:
        value = scaled(acc, shift)
    value = min(max(value, fields["low"]), fields["high"])
    if fields.get("residual", 0):
        total = (value << fields.get("own_shift", 0)) + (residual << fields.get("residual_shift", 0))
        value = min(max(scaled(total, fields.get("sum_shift", 0)), fields["sum_low"]), fields["sum_high"])
    return value % 256
