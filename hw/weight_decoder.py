"""Encoded weights to tiles (`hw.weight_stream` says what the bytes mean), at the speed of the bus or faster.

Raw words are gathered to a piece of a tile, and so are dense indices, which are looked up together.  Sparse
weights are written into a window of tiles whose weights are zero before; a tile leaves when all lanes are
past it::

                 ┌─ raw words ───────────────────────────────────┐
                 ├─ entries ─▶ codebook, if narrow ─▶ window ────┴─▶ bytes ───┐
    weight FIFO ─┼─ dense indices ─▶ nibbles ─▶ codebook ─────────────────────┴─▶ pieces of tiles
                 └─ parameters, which do not wait for tiles ────────────────────▶ parameters
"""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.machine import Machine
from hw.sparse_entries import SparseEntries
from hw.weight_stream import CODEBOOK_ENTRIES, BlockHeader, Encoding
from hw.weight_window import WeightWindow
from hw.weights import weight_layout

__all__ = ["WeightDecoder"]

_HEADER_BYTE = 7


class _State(enum.Enum):
    DRAIN = 0     # the first word of another encoding or codebook waits until what came before has left
    CODEBOOK = 1  # its first words are a codebook
    FILL = 2      # which is written
    TILES = 3


class WeightDecoder(wiring.Component):
    """Decodes the tiles of each block as its parameters say.

    Parameters
    ----------
    machine : Machine
        With ``weight_decoder``.

    Members
    -------
    weights : ``In(stream)``
        Words from the weight FIFO.
    parameters : ``Out(stream)``
        Words of parameter blocks.
    pieces : ``Out(stream)``
        Tiles, ``tile_piece_bytes`` in a cycle.
    tile_comes : ``Out(1)``
        Strobe: of another tile all weights are there; if ``pieces`` flow, the last one comes in two cycles,
        or in two more than there are if weights are sparse.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__({
            "weights": In(stream.Signature(weight_layout(machine))),
            "parameters": Out(stream.Signature(8 * machine.weight_word_bytes)),
            "pieces": Out(stream.Signature(8 * machine.tile_piece_bytes)),
            "tile_comes": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        word, is_parameter = self.weights.payload.data, self.weights.payload.parameters
        state = Signal(_State)
        encoding = Signal(Encoding)
        take = Signal()      # of a word of tiles or codebooks
        gathered = Signal(range(8))  # words of a piece
        tile_word = Signal()
        m.d.comb += [
            tile_word.eq(self.weights.valid & ~is_parameter),
            self.parameters.payload.eq(word),
            self.parameters.valid.eq(self.weights.valid & is_parameter),
            self.weights.ready.eq(Mux(is_parameter, self.parameters.ready, take)),
        ]

        # a block's header
        words = machine.parameter_bytes // machine.weight_word_bytes
        parameters_left = Signal(range(words), init=words - 1)
        brings_codebook = Signal()
        begins = Signal()
        m.d.comb += begins.eq(self.parameters.valid & self.parameters.ready)
        with m.If(begins):
            m.d.sync += parameters_left.eq(Mux(parameters_left == 0, words - 1, parameters_left - 1))
            with m.If(parameters_left == words - 1):
                header = word.word_select(_HEADER_BYTE, 8)
                new_codebook = (header & BlockHeader(codebook=True).to_byte()) != 0
                m.d.sync += [encoding.eq(header), brings_codebook.eq(new_codebook), gathered.eq(0)]
                with m.If(new_codebook | (header[:len(encoding)] != encoding)):
                    m.d.sync += state.eq(_State.DRAIN)

        # what is gathered for a piece
        gathered_bytes = Signal(8 * machine.tile_piece_bytes, reset_less=True)
        nibbles = Signal(4 * machine.tile_piece_bytes, reset_less=True)
        full = Signal()
        is_bytes = Signal()
        move, accept = Signal(), Signal()
        m.d.comb += [
            move.eq(full & (~self.pieces.valid | self.pieces.ready)),
            accept.eq(~full | move),
        ]

        m.submodules.entries = entries = SparseEntries(machine)
        m.submodules.window = window = WeightWindow(machine)
        wiring.connect(m, entries.entries, window.entries)
        sparse = Signal()
        m.d.comb += [
            entries.wide.eq(encoding == Encoding.SPARSE_VALUES),
            entries.restart.eq(begins),
            sparse.eq(entries.wide | (encoding == Encoding.SPARSE)),
            entries.words.payload.eq(word),
            entries.words.valid.eq((state == _State.TILES) & tile_word & sparse),
            window.pieces.ready.eq(accept),
        ]
        # left to itself, Yosys makes flip-flops and a multiplexer for each port of it
        codebook = memory.Memory(shape=8, depth=CODEBOOK_ENTRIES, init=[], attrs={"ram_style": "distributed"})
        m.submodules.codebook = codebook
        drained = Signal()
        m.d.comb += [drained.eq(window.quiet & ~full), window.restart.eq(state == _State.DRAIN)]
        self._codebook(m, codebook, state, tile_word, brings_codebook, drained, take)

        # one piece at a time
        pieces = machine.tile_bytes // machine.tile_piece_bytes
        pieces_left = Signal(range(pieces), init=pieces - 1)
        gathers = Signal()  # the last of a dense piece
        m.d.comb += self.tile_comes.eq(window.loads | (gathers & (pieces_left == 0)))
        with m.If(gathers):
            m.d.sync += pieces_left.eq(Mux(pieces_left == 0, pieces - 1, pieces_left - 1))
        with m.If(move):
            m.d.sync += full.eq(0)
        with m.If((state == _State.TILES) & sparse):
            m.d.comb += take.eq(entries.words.ready)
        with m.If(window.pieces.valid & accept):
            m.d.sync += [gathered_bytes.eq(window.pieces.payload), full.eq(1), is_bytes.eq(1)]
        with m.If((state == _State.TILES) & tile_word & ~sparse & accept):
            m.d.comb += take.eq(1)
            raw_words = machine.tile_piece_bytes // machine.weight_word_bytes
            shares = {Encoding.RAW: 1, Encoding.FOUR_BITS: 2, Encoding.TWO_BITS: 4}
            last = {kind: raw_words // share - 1 for kind, share in shares.items()}
            with m.Switch(encoding):
                for kind, number in last.items():
                    with m.Case(kind):
                        with m.If(gathered == number):
                            m.d.comb += gathers.eq(1)
                            m.d.sync += [gathered.eq(0), full.eq(1), is_bytes.eq(kind is Encoding.RAW)]
                        with m.Else():
                            m.d.sync += gathered.eq(gathered + 1)
                        if kind is Encoding.RAW:
                            m.d.sync += gathered_bytes.eq(Cat(gathered_bytes[len(word):], word))
                        elif kind is Encoding.FOUR_BITS:
                            m.d.sync += nibbles.eq(Cat(nibbles[len(word):], word))
                        else:
                            pairs = (word[low:low + 2] for low in range(0, len(word), 2))
                            wider = Cat(Cat(pair, C(0, 2)) for pair in pairs)
                            m.d.sync += nibbles.eq(Cat(nibbles[len(wider):], wider))

        # pieces
        piece = self.pieces.payload
        with m.If(self.pieces.ready):
            m.d.sync += self.pieces.valid.eq(0)
        looked_up = Signal.like(piece)
        for number in range(machine.tile_piece_bytes):
            port = codebook.read_port(domain="comb")
            m.d.comb += [
                port.addr.eq(nibbles.word_select(number, 4)),
                looked_up.word_select(number, 8).eq(port.data),
            ]
        for lane, field in enumerate(window.fields):
            port = codebook.read_port(domain="comb")
            m.d.comb += [
                port.addr.eq(field[:4]),
                window.values[lane].eq(Mux(entries.wide, field, port.data)),
            ]
        with m.If(move):
            m.d.sync += [self.pieces.valid.eq(1), piece.eq(Mux(is_bytes, gathered_bytes, looked_up))]
        return m

    def _codebook(self, m: Module, codebook: memory.Memory, state: Signal, tile_word: Signal,
                  brings_codebook: Signal, drained: Signal, take: Signal) -> None:
        """From the start of a block to its first tile; a codebook is written entry by entry."""
        word = self.weights.payload.data
        words = max(1, CODEBOOK_ENTRIES // self.machine.weight_word_bytes)
        bits = 8 * CODEBOOK_ENTRIES
        entries = Signal(bits, reset_less=True)
        words_left = Signal(range(words), init=words - 1)
        entry = Signal(range(CODEBOOK_ENTRIES))
        write = codebook.write_port()
        m.d.comb += [write.addr.eq(entry), write.data.eq(entries[:8])]
        with m.Switch(state):
            with m.Case(_State.DRAIN), m.If(tile_word & drained):
                m.d.sync += state.eq(Mux(brings_codebook, _State.CODEBOOK, _State.TILES))
            with m.Case(_State.CODEBOOK), m.If(tile_word):
                m.d.comb += take.eq(1)
                m.d.sync += entries.eq(Cat(entries, word)[-bits:] if len(word) < bits else word[:bits])
                with m.If(words_left == 0):
                    m.d.sync += [state.eq(_State.FILL), words_left.eq(words - 1)]
                with m.Else():
                    m.d.sync += words_left.eq(words_left - 1)
            with m.Case(_State.FILL):
                m.d.comb += write.en.eq(1)
                m.d.sync += [entries.eq(entries >> 8), entry.eq(entry + 1)]
                with m.If(entry == CODEBOOK_ENTRIES - 1):
                    m.d.sync += state.eq(_State.TILES)
