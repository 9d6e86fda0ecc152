"""From the weight FIFO to the multipliers: collects tiles and parameter blocks ahead of their use.

A tile is collected in a shift register and moved to a second one as soon as that is free, so that
the bus need not wait while the first word of a pass is on its way to the multipliers.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.machine import Machine
from hw.weights import weight_layout

__all__ = ["SHIFT_BITS", "WeightLoader"]

#: Bits of a lane's right shift, -9 to 40.
SHIFT_BITS = 7

_LANE_BITS = 32 + SHIFT_BITS


class WeightLoader(wiring.Component):
    """Holds the next tile, the one after it as far as it has arrived, and the next parameter block.

    Something that is *available* has arrived and nobody has claimed it; a claim is a promise to use
    it: ``take_tile`` and ``release_parameters`` follow later, in the order of the claims.

    Members
    -------
    weights : ``In(stream)``
        Words from the weight FIFO, in the order of `docs/machine.md`.
    tile_available, claim_tile : ``Out(1)``, ``In(1)``
    tile : ``Out(8 * multipliers)``
        The claimed tile; at the latest four cycles after its claim, if the tile before it has been
        taken by then.
    take_tile : ``In(1)``
        The tile will be copied in the next cycle.
    parameters_available, claim_parameters : ``Out(1)``, ``In(1)``
    bias : ``Out``
        Int32 of each output lane, valid from claim to release.
    shift : ``Out``
        Right shift of each output lane, valid from claim to release.
    release_parameters : ``In(1)``
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        lanes = machine.output_lanes
        super().__init__({
            "weights": In(stream.Signature(weight_layout(machine))),
            "tile_available": Out(1),
            "claim_tile": In(1),
            "tile": Out(8 * machine.multipliers),
            "take_tile": In(1),
            "parameters_available": Out(1),
            "claim_parameters": In(1),
            "bias": Out(data.ArrayLayout(signed(32), lanes)),
            "shift": Out(data.ArrayLayout(signed(SHIFT_BITS), lanes)),
            "release_parameters": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = Signal(weight_layout(self.machine), reset_less=True)
        word_valid = Signal()
        next_word = Signal.like(word)
        next_valid = Signal()
        tile_shift = Signal()  # steers the words; flip-flops by the thousand have copies of their own
        parameter_shift = Signal()
        parameter_room = Signal()
        m.d.comb += [
            self.weights.ready.eq(~word_valid | tile_shift | parameter_shift),
            next_word.eq(word),
            next_valid.eq(word_valid),
            parameter_shift.eq(word_valid & word.parameters & parameter_room),
        ]
        with m.If(self.weights.ready):
            m.d.comb += [next_word.eq(self.weights.payload), next_valid.eq(self.weights.valid)]
        m.d.sync += [word.eq(next_word), word_valid.eq(next_valid)]
        self._collect_tiles(m, word.data, tile_shift, next_valid & ~next_word.parameters)
        self._collect_parameters(m, word.data, parameter_shift, parameter_room)
        return m

    def _collect_tiles(self, m: Module, word: Value, shift: Signal, next_is_tile: Value) -> None:
        """Everything that enables thousands of flip-flops is a register, computed a cycle before."""
        machine = self.machine
        words = machine.tile_bytes // machine.weight_word_bytes
        arriving = Signal(8 * machine.multipliers, reset_less=True)
        arrived = Signal()
        left = Signal(range(words), init=words - 1)
        waiting = Signal(8 * machine.multipliers, reset_less=True)
        waiting_full = Signal()
        move = Signal()
        take = Signal()
        shift_all, move_all = Signal(attrs={"keep": 1}), Signal(attrs={"keep": 1})
        complete = Signal()
        next_arrived = Signal()
        next_waiting_full = Signal()
        next_move = Signal()
        m.d.comb += [
            self.tile.eq(waiting),
            complete.eq(shift & (left == 0)),
            next_arrived.eq(complete | (arrived & ~move)),
            next_waiting_full.eq(move | (waiting_full & ~take)),
            next_move.eq(next_arrived & (~next_waiting_full | self.take_tile)),
        ]
        m.d.sync += [
            arrived.eq(next_arrived),
            waiting_full.eq(next_waiting_full),
            take.eq(self.take_tile),
            move.eq(next_move),
            move_all.eq(next_move),
            shift.eq(next_is_tile & (~next_arrived | next_move)),
            shift_all.eq(next_is_tile & (~next_arrived | next_move)),
        ]
        with m.If(shift_all):
            m.d.sync += arriving.eq(Cat(arriving[len(word):], word))
        with m.If(shift):
            m.d.sync += left.eq(Mux(left == 0, words - 1, left - 1))
        with m.If(move_all):
            m.d.sync += waiting.eq(arriving)

        available = Signal(range(3))
        m.d.comb += self.tile_available.eq(available != 0)
        m.d.sync += available.eq(available + complete - self.claim_tile)

    def _collect_parameters(self, m: Module, word: Value, shift: Signal, room: Signal) -> None:
        machine = self.machine
        words = machine.parameter_bytes // machine.weight_word_bytes
        lanes = Signal(_LANE_BITS * machine.output_lanes, reset_less=True)
        left = Signal(range(words), init=words - 1)
        full = Signal()
        m.d.comb += room.eq(~full)
        arriving = Cat(*(word[offset:offset + _LANE_BITS] for offset in range(0, len(word), 64)))
        with m.If(shift):
            m.d.sync += [
                lanes.eq(Cat(lanes[len(arriving):], arriving)),
                left.eq(Mux(left == 0, words - 1, left - 1)),
            ]
        with m.If(shift & (left == 0)):
            m.d.sync += [full.eq(1), self.parameters_available.eq(1)]
        with m.Else():
            with m.If(self.release_parameters):
                m.d.sync += full.eq(0)
            with m.If(self.claim_parameters):
                m.d.sync += self.parameters_available.eq(0)
        for lane in range(machine.output_lanes):
            m.d.comb += [
                self.bias[lane].eq(lanes[_LANE_BITS * lane:_LANE_BITS * lane + 32].as_signed()),
                self.shift[lane].eq(lanes[_LANE_BITS * lane + 32:_LANE_BITS * (lane + 1)].as_signed()),
            ]
