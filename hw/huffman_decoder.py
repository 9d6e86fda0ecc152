"""Huffman codes to the words they stand for, between weight FIFO and weight decoder (`hw.huffman_stream`).

Parameters, and blocks without codes, pass.  Of a coded block the table and the codes stay here::

    words ─┬─ table ─▶ limits, offsets, symbols
           ├─ codes ─▶ lanes ─▶ lengths ─▶ numbers of symbols ─▶ symbols ─▶ words ─┐
           └───────────────────────────────────────────────────────────────────────┴─▶ words
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import enum, memory, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.huffman_lane import PRIMING_STEPS, HuffmanLane
from hw.huffman_stream import CHUNK, COUNT_BITS, LONGEST_CODE, TABLE_HEAD_BYTES
from hw.huffman_supply import HuffmanSupply
from hw.machine import Machine
from hw.weight_stream import CODEBOOK_ENTRIES, BlockHeader
from hw.weights import weight_layout

__all__ = ["HuffmanDecoder"]

_HEADER_BYTE = 7
#: Words that wait behind the decoder: two for those that are in it when there is no more room, and two more,
#: so that one leaves while others come.
_ROOM = 4


class _State(enum.Enum):
    PASS = 0      # words that are no codes
    CODEBOOK = 1  # which passes, too
    TABLE = 2     # limits and offsets
    SYMBOLS = 3   # a word of them
    FILL = 4      # which are written
    COUNTS = 5
    DECODE = 6
    DRAIN = 7     # until the last word has left
    DISCARD = 8   # words that fill up


class HuffmanDecoder(wiring.Component):
    """Decodes a beat in a cycle.

    Words that no encoder has made end in some words or wait for more; with the next parameters everything
    begins again.

    Parameters
    ----------
    machine : Machine
        With ``huffman_decoder``.

    Members
    -------
    weights : ``In(stream.Signature(weight_layout(machine)))``
        Words from the weight FIFO.
    output : ``Out(stream.Signature(weight_layout(machine)))``
        The same without tables and codes, but with the words they stand for.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "weights": In(stream.Signature(weight_layout(machine))),
            "output": Out(stream.Signature(weight_layout(machine))),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        word, is_parameter = self.weights.payload.data, self.weights.payload.parameters
        state = Signal(_State)
        codes_next = Signal(_State)  # behind parameters and codebook
        tile_word, taken = Signal(), Signal()
        m.d.comb += [
            tile_word.eq(self.weights.valid & ~is_parameter),
            taken.eq(self.weights.valid & self.weights.ready),
        ]

        # what passes
        passes = Signal()
        holds = Signal()  # parameters, too
        m.d.comb += [
            holds.eq((state == _State.FILL) | (state == _State.DECODE) | (state == _State.DRAIN)),
            passes.eq(Mux(is_parameter, ~holds, (state == _State.PASS) | (state == _State.CODEBOOK))),
            self.output.payload.eq(self.weights.payload),
            self.output.valid.eq(self.weights.valid & passes),
        ]
        with m.If(passes):
            m.d.comb += self.weights.ready.eq(self.output.ready)

        # tables and counts
        head = Signal(8 * TABLE_HEAD_BYTES, reset_less=True)
        head_words = TABLE_HEAD_BYTES // machine.weight_word_bytes
        codebook_words = max(1, CODEBOOK_ENTRIES // machine.weight_word_bytes)
        words_left = Signal(range(max(head_words, codebook_words)))
        symbol_word = Signal(8 * machine.weight_word_bytes, reset_less=True)
        symbols = memory.Memory(shape=8, depth=256, init=[], attrs={"ram_style": "block"})
        m.submodules.symbols = symbols
        fill = symbols.write_port()
        number, last_symbol = Signal(8), head.word_select(3 * LONGEST_CODE - 2, 8)
        in_word = Signal(exact_log2(machine.weight_word_bytes))
        steps = Signal(COUNT_BITS + 1)
        begins = Signal()
        m.d.comb += [fill.addr.eq(number), fill.data.eq(symbol_word[:8]), fill.en.eq(state == _State.FILL)]
        with m.Switch(state):
            with m.Case(_State.CODEBOOK), m.If(tile_word & taken):
                m.d.sync += words_left.eq(words_left - 1)
                with m.If(words_left == 0):
                    m.d.sync += [state.eq(codes_next), words_left.eq(head_words - 1)]
            with m.Case(_State.TABLE), m.If(tile_word):
                m.d.comb += self.weights.ready.eq(1)
                m.d.sync += [
                    head.eq(Cat(head, word)[-len(head):]),
                    words_left.eq(words_left - 1),
                    number.eq(0),
                ]
                with m.If(words_left == 0):
                    m.d.sync += state.eq(_State.SYMBOLS)
            with m.Case(_State.SYMBOLS), m.If(tile_word):
                m.d.comb += self.weights.ready.eq(1)
                m.d.sync += [symbol_word.eq(word), in_word.eq(0), state.eq(_State.FILL)]
            with m.Case(_State.FILL):
                m.d.sync += [symbol_word.eq(symbol_word[8:]), number.eq(number + 1), in_word.eq(in_word + 1)]
                with m.If(number == last_symbol):
                    m.d.sync += state.eq(_State.COUNTS)
                with m.Elif(in_word == machine.weight_word_bytes - 1):
                    m.d.sync += state.eq(_State.SYMBOLS)
            with m.Case(_State.COUNTS), m.If(tile_word):
                m.d.comb += [self.weights.ready.eq(1), begins.eq(1)]
                m.d.sync += [
                    steps.eq(word[32 : 32 + COUNT_BITS] << 1),
                    state.eq(Mux(word[32 : 32 + COUNT_BITS].any(), _State.DECODE, _State.DISCARD)),
                ]
            with m.Case(_State.DISCARD), m.If(tile_word):
                m.d.comb += self.weights.ready.eq(1)

        # lanes
        m.submodules.supply = supply = HuffmanSupply(machine.bus_bytes)
        step = supply.step
        room = Signal()
        priming = Signal(range(PRIMING_STEPS + 1))
        decoding = Signal()
        m.d.comb += [
            decoding.eq(state == _State.DECODE),
            supply.restart.eq(begins),
            supply.words.eq(word[:COUNT_BITS]),
            supply.active.eq(decoding),
            supply.word.eq(tile_word),
            supply.parameters.eq(self.weights.valid & is_parameter),
            supply.room.eq(room),
        ]
        with m.If(decoding):
            m.d.comb += self.weights.ready.eq(supply.take)
        lanes = []
        for number_of_lane in range(machine.bus_bytes):
            m.submodules[f"lane_{number_of_lane}"] = lane = HuffmanLane(machine)
            m.d.comb += [
                lane.restart.eq(begins),
                lane.beat.eq(Mux(supply.second, word[machine.bus_width:], word[:machine.bus_width])),
                lane.serve.eq(supply.serve[number_of_lane]),
                lane.step.eq(step),
                lane.prime.eq(priming != 0),
                lane.limits.eq(_limits(head)),
                supply.asks[number_of_lane].eq(lane.asks),
            ]
            lanes.append(lane)
        with m.If(step):
            with m.If(priming != 0):
                m.d.sync += priming.eq(priming - 1)
            with m.Else():
                m.d.sync += steps.eq(steps - 1)
                with m.If(steps == 1):
                    m.d.sync += state.eq(_State.DRAIN)
        # no encoder ends a block before its beats, or goes on when the lanes have no more bits
        most = 2 * machine.bus_width + 2 * CHUNK
        alone = Signal(range(most + 1))  # steps without further beats
        with m.If(step & supply.ended):
            m.d.sync += alone.eq(alone + 1)
        with m.If(decoding & (supply.cut | (alone == most))):
            m.d.sync += state.eq(_State.DRAIN)
        with m.If(begins):
            m.d.sync += [alone.eq(0), priming.eq(PRIMING_STEPS)]

        # lengths to symbols, in three cycles
        valid = Signal(3)
        m.d.sync += valid.eq(Cat(step & (priming == 0), valid))
        decoded = Signal(machine.bus_width, reset_less=True)
        offsets = Array([Value.cast(0), *_offsets(head)])
        for number_of_lane, lane in enumerate(lanes):
            code = Signal.like(lane.code, name=f"code_{number_of_lane}", reset_less=True)
            length = Signal.like(lane.length, name=f"length_{number_of_lane}", reset_less=True)
            read = symbols.read_port()
            m.d.sync += [code.eq(lane.code), length.eq(lane.length)]
            behind = (LONGEST_CODE - length)[: len(length)]  # bits that are not the code's
            m.d.comb += read.addr.eq((code >> behind) + offsets[length])
            m.d.sync += decoded.word_select(number_of_lane, 8).eq(read.data)

        # beats to words
        m.submodules.words = words = SyncFIFO(width=2 * machine.bus_width, depth=_ROOM)
        odd = Signal()
        first = Signal(machine.bus_width, reset_less=True)
        m.d.comb += [
            room.eq(words.r_level <= 1),
            words.w_data.eq(Cat(first, decoded)),
            words.w_en.eq(valid[-1] & odd),
        ]
        with m.If(valid[-1]):
            m.d.sync += [first.eq(decoded), odd.eq(~odd)]
        with m.If(begins):
            m.d.sync += odd.eq(0)
        with m.If((state == _State.DECODE) | (state == _State.DRAIN)):
            m.d.comb += [
                self.output.payload.data.eq(words.r_data),
                self.output.payload.parameters.eq(0),
                self.output.valid.eq(words.r_rdy),
                words.r_en.eq(self.output.ready),
            ]
        with m.If((state == _State.DRAIN) & (valid == 0) & ~words.r_rdy):
            m.d.sync += state.eq(_State.DISCARD)
        self._header(m, state, codes_next, words_left, taken, head_words, codebook_words)
        return m

    def _header(self, m: Module, state: Signal, codes_next: Signal, words_left: Signal, taken: Signal,
                head_words: int, codebook_words: int) -> None:
        """With the first word of a block's parameters, it begins."""
        machine = self.machine
        words = machine.parameter_bytes // machine.weight_word_bytes
        left = Signal(range(words), init=words - 1)
        header = self.weights.payload.data.word_select(_HEADER_BYTE, 8)

        def has(field: BlockHeader) -> Value:
            return (header & field.to_byte()) != 0

        with m.If(taken & self.weights.payload.parameters):
            m.d.sync += left.eq(Mux(left == 0, words - 1, left - 1))
            with m.If(left == words - 1):
                behind = Mux(has(BlockHeader(table=True)), _State.TABLE, _State.COUNTS)
                m.d.sync += [state.eq(_State.PASS), codes_next.eq(behind), words_left.eq(codebook_words - 1)]
                with m.If(has(BlockHeader(huffman=True))):
                    with m.If(has(BlockHeader(codebook=True))):
                        m.d.sync += state.eq(_State.CODEBOOK)
                    with m.Else():
                        m.d.sync += [state.eq(behind), words_left.eq(head_words - 1)]


def _limits(head: Value) -> Value:
    """Of a table's head: without the bits that are always 0."""
    limits = (head.word_select(length - 1, 16) for length in range(1, LONGEST_CODE))
    kept = (limit[LONGEST_CODE - length : LONGEST_CODE + 1] for length, limit in enumerate(limits, 1))
    return Value.cast(Cat(*kept))


def _offsets(head: Value) -> list[Value]:
    first = 2 * (LONGEST_CODE - 1)
    return [Value.cast(head.word_select(first + number, 8)) for number in range(LONGEST_CODE)]
