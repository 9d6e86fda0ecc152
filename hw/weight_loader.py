"""From the weight FIFO to the multipliers: collects tiles and parameter blocks ahead of their use.

A tile is collected in a shift register and moved to a second one as soon as that is free, and from there
to a third unless tiles come slowly, so that the bus need not wait while the first word of a pass is on its
way to the multipliers.  Encoded weights pass the decoder before.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.copies import copies
from hw.huffman_decoder import HuffmanDecoder
from hw.machine import Machine
from hw.weight_decoder import WeightDecoder
from hw.weights import weight_layout

__all__ = ["SHIFT_BITS", "WeightLoader"]

#: Bits of a lane's right shift, -9 to 40.
SHIFT_BITS = 7

_LANE_BITS = 32 + SHIFT_BITS

#: Cycles for which a claimed tile is in the array's way.
_IN_THE_WAY = 10


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
        The tile will be copied in two cycles.
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
        if self.machine.weight_decoder:
            m.submodules.decoder = decoder = WeightDecoder(self.machine)
            if self.machine.huffman_decoder:
                m.submodules.huffman = huffman = HuffmanDecoder(self.machine)
                wiring.connect(m, wiring.flipped(self.weights), huffman.weights)
                wiring.connect(m, huffman.output, decoder.weights)
            else:
                wiring.connect(m, wiring.flipped(self.weights), decoder.weights)
            self._collect_tiles(m, decoder.pieces, decoder.tile_comes)
            self._collect_parameters(m, decoder.parameters)
            return m
        pieces = stream.Signature(8 * self.machine.weight_word_bytes).create()
        parameters = stream.Signature(8 * self.machine.weight_word_bytes).create()
        is_parameter = self.weights.payload.parameters
        m.d.comb += [
            pieces.payload.eq(self.weights.payload.data),
            pieces.valid.eq(self.weights.valid & ~is_parameter),
            parameters.payload.eq(self.weights.payload.data),
            parameters.valid.eq(self.weights.valid & is_parameter),
            self.weights.ready.eq(Mux(is_parameter, parameters.ready, pieces.ready)),
        ]
        self._collect_tiles(m, pieces)
        self._collect_parameters(m, parameters)
        return m

    def _collect_tiles(self, m: Module, source: stream.Interface, comes: Signal | None = None) -> None:
        """Everything that enables thousands of flip-flops is a register, computed a cycle before.

        ``comes``: a tile will be complete in three cycles, or three more than it has pieces, unless tiles
        before it are not taken: it may be claimed.
        """
        machine = self.machine
        words = machine.tile_bytes // machine.tile_piece_bytes
        word = Signal(8 * machine.tile_piece_bytes, reset_less=True)
        word_valid = Signal()
        next_valid = Signal()
        shift = Signal()  # steers the words; flip-flops by the thousand have copies of their own
        m.d.comb += [
            source.ready.eq(~word_valid | shift),
            next_valid.eq(Mux(source.ready, source.valid, word_valid)),
        ]
        with m.If(source.ready):
            m.d.sync += word.eq(source.payload)
        m.d.sync += word_valid.eq(next_valid)
        arriving = Signal(8 * machine.multipliers, reset_less=True)
        arrived = Signal()
        left = Signal(range(words), init=words - 1)
        # registers that hold whole tiles, the nearest to the array first: one, if two tiles do not come
        # sooner than the way of one lets them
        places = 1 if 2 * words >= _IN_THE_WAY + words else 2
        held = [Signal(8 * machine.multipliers, reset_less=True, name=f"tile{place}")
                for place in range(places)]
        full = [Signal(name=f"full{place}") for place in range(places)]
        move = [Signal(name=f"move{place}") for place in range(places)]  # into this place
        next_full = [Signal(name=f"next_full{place}") for place in range(places)]
        next_move = [Signal(name=f"next_move{place}") for place in range(places)]
        take = Signal()
        next_shift = Signal()
        complete = Signal()
        next_arrived = Signal()
        leaves = [take, *move]
        next_leaves = [self.take_tile, *next_move]
        for place, comes_next in enumerate([*next_full[1:], next_arrived]):
            m.d.comb += [
                next_full[place].eq(move[place] | (full[place] & ~leaves[place])),
                next_move[place].eq(comes_next & (~next_full[place] | next_leaves[place])),
            ]
        m.d.comb += [
            self.tile.eq(held[0]),
            complete.eq(shift & (left == 0)),
            next_arrived.eq(complete | (arrived & ~move[-1])),
            next_shift.eq(next_valid & (~next_arrived | next_move[-1])),
        ]
        m.d.sync += [
            arrived.eq(next_arrived),
            Cat(full).eq(Cat(next_full)),
            Cat(move).eq(Cat(next_move)),
            take.eq(self.take_tile),
            shift.eq(next_shift),
        ]
        # bits come and move a cycle after what is known of them: what steers them goes all over the die
        late_word = Signal.like(word, reset_less=True)
        m.d.sync += late_word.eq(word)
        arrives = Cat(arriving[len(word):], late_word)
        shifts = copies(m, next_shift, machine.output_lanes, "shift", levels=2)
        for lane, lane_shift in enumerate(shifts):
            part = slice(8 * machine.input_lanes * lane, 8 * machine.input_lanes * (lane + 1))
            with m.If(lane_shift):
                m.d.sync += arriving[part].eq(arrives[part])
        for place, before in enumerate([*held[1:], arriving]):
            moves = copies(m, next_move[place], machine.output_lanes, f"move{place}", levels=2)
            for lane, lane_move in enumerate(moves):
                part = slice(8 * machine.input_lanes * lane, 8 * machine.input_lanes * (lane + 1))
                with m.If(lane_move):
                    m.d.sync += held[place][part].eq(before[part])
        with m.If(shift):
            m.d.sync += left.eq(Mux(left == 0, words - 1, left - 1))

        # Tiles that come: in up to five places between decoder and multipliers.  When they had to wait, the
        # last of them is complete only as many cycles after the one before as it has pieces.
        available = Signal(range(places + 2 if comes is None else 8))
        apart = Signal(range(words))
        m.d.comb += self.tile_available.eq((available != 0) & (apart == 0))
        m.d.sync += available.eq(available + (complete if comes is None else comes) - self.claim_tile)
        if comes is not None:
            with m.If(self.claim_tile):
                m.d.sync += apart.eq(words - 1)
            with m.Elif(apart != 0):
                m.d.sync += apart.eq(apart - 1)

    def _collect_parameters(self, m: Module, source: stream.Interface) -> None:
        machine = self.machine
        word = Signal(8 * machine.weight_word_bytes, reset_less=True)
        word_valid, next_valid = Signal(), Signal()
        shift = Signal()  # steers the words; the lanes have copies of their own
        words = machine.parameter_bytes // machine.weight_word_bytes
        lanes = Signal(_LANE_BITS * machine.output_lanes, reset_less=True)
        left = Signal(range(words), init=words - 1)
        full, next_full, complete = Signal(), Signal(), Signal()
        m.d.comb += [
            source.ready.eq(~word_valid | shift),
            next_valid.eq(Mux(source.ready, source.valid, word_valid)),
            complete.eq(shift & (left == 0)),
            next_full.eq(complete | (full & ~self.release_parameters)),
        ]
        m.d.sync += [word_valid.eq(next_valid), full.eq(next_full), shift.eq(next_valid & ~next_full)]
        with m.If(source.ready):
            m.d.sync += word.eq(source.payload)
        with m.If(shift):
            m.d.sync += left.eq(Mux(left == 0, words - 1, left - 1))
        with m.If(complete):
            m.d.sync += self.parameters_available.eq(1)
        with m.Elif(self.claim_parameters):
            m.d.sync += self.parameters_available.eq(0)
        late_word = Signal.like(word, reset_less=True)
        m.d.sync += late_word.eq(word)
        arriving = Cat(*(late_word[offset:offset + _LANE_BITS] for offset in range(0, len(word), 64)))
        arrives = Cat(lanes[len(arriving):], arriving)
        shifts = copies(m, next_valid & ~next_full, machine.output_lanes, "parameters", levels=2)
        for lane, lane_shift in enumerate(shifts):
            part = slice(_LANE_BITS * lane, _LANE_BITS * (lane + 1))
            with m.If(lane_shift):
                m.d.sync += lanes[part].eq(arrives[part])
        for lane in range(machine.output_lanes):
            m.d.comb += [
                self.bias[lane].eq(lanes[_LANE_BITS * lane:_LANE_BITS * lane + 32].as_signed()),
                self.shift[lane].eq(lanes[_LANE_BITS * lane + 32:_LANE_BITS * (lane + 1)].as_signed()),
            ]
