"""Encoded weights to tiles (`hw.weight_stream` says what the bytes mean), at the speed of the bus or faster.

Dense indices are gathered to a piece of a tile, looked up, and go on.  Sparse ones are written into a window
of tiles whose weights are zero before; a tile leaves when all lanes are past it, and then goes the same way::

                 ┌─ raw words ──────────────────────────────────────────────────┐
    weight FIFO ─┼─ dense indices ───────────────────────────────┐              ├─▶ pieces of tiles
                 ├─ gaps and indices ─▶ positions ─▶ window ─▶ nibbles ─▶ codebook
                 └─ parameters, which do not wait for tiles ───────────────────────▶ parameters
"""

from __future__ import annotations

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.machine import Machine
from hw.weight_stream import CODEBOOK_ENTRIES, CODEBOOK_FLAG, WINDOW, Encoding, lane_places
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
        Strobe: of another tile all pieces are there, the last one's in two cycles if ``pieces`` flow.
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
                new_codebook = (header & CODEBOOK_FLAG) != 0
                m.d.sync += [encoding.eq(header), brings_codebook.eq(new_codebook), gathered.eq(0)]
                with m.If(new_codebook | (header[:len(encoding)] != encoding)):
                    m.d.sync += state.eq(_State.DRAIN)

        # what is gathered for a piece
        raw = Signal(8 * machine.tile_piece_bytes, reset_less=True)
        nibbles = Signal(4 * machine.tile_piece_bytes, reset_less=True)
        full = Signal()
        is_raw = Signal()
        move, accept = Signal(), Signal()
        m.d.comb += [
            move.eq(full & (~self.pieces.valid | self.pieces.ready)),
            accept.eq(~full | move),
        ]

        window = _Window(m, machine)
        sparse = Signal()
        m.d.comb += [
            sparse.eq(encoding == Encoding.SPARSE),
            window.beats.eq(word),
            window.valid.eq((state == _State.TILES) & tile_word & sparse),
            window.accept.eq(accept),
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
        gathers = Signal()  # the last of a piece
        m.d.comb += self.tile_comes.eq(gathers & (pieces_left == 0))
        with m.If(gathers):
            m.d.sync += pieces_left.eq(Mux(pieces_left == 0, pieces - 1, pieces_left - 1))
        with m.If(move):
            m.d.sync += full.eq(0)
        with m.If((state == _State.TILES) & sparse):
            m.d.comb += take.eq(window.take)
        with m.If(window.leaves):
            m.d.comb += gathers.eq(1)
            m.d.sync += [nibbles.eq(window.piece), full.eq(1), is_raw.eq(0)]
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
                            m.d.sync += [gathered.eq(0), full.eq(1), is_raw.eq(kind is Encoding.RAW)]
                        with m.Else():
                            m.d.sync += gathered.eq(gathered + 1)
                        if kind is Encoding.RAW:
                            m.d.sync += raw.eq(Cat(raw[len(word):], word))
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
        with m.If(move):
            m.d.sync += [self.pieces.valid.eq(1), piece.eq(Mux(is_raw, raw, looked_up))]
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


class _Window:
    """The tiles of a sparse stream under way: `WINDOW` of them, in a ring.

    Attributes
    ----------
    beats, valid, take : Signal
        A weight word whose beats are taken one after another; ``take`` with the last of them.
    accept, leaves, piece : Signal
        In a cycle of ``accept``, a piece of indices may leave.
    quiet : Signal
        No tile leaves or will leave without further beats.
    restart : Signal
        While it is quiet, forget what has been left of a stream that no encoder has made.
    """

    def __init__(self, m: Module, machine: Machine) -> None:
        lanes = machine.bus_bytes
        part = machine.tile_bytes // lanes
        offset_bits, tile_bits = exact_log2(part), exact_log2(WINDOW)
        self.beats = Signal(8 * machine.weight_word_bytes)
        self.valid, self.take, self.accept, self.leaves = Signal(), Signal(), Signal(), Signal()
        self.quiet, self.restart = Signal(), Signal()
        self.piece = Signal(4 * machine.tile_piece_bytes)

        places = lane_places(machine)
        step = Signal()
        second = Signal()
        beat = Signal(machine.bus_width)
        m.d.comb += [
            beat.eq(Mux(second, self.beats[machine.bus_width:], self.beats[:machine.bus_width])),
            self.take.eq(step & second),
        ]
        with m.If(step):
            m.d.sync += second.eq(~second)

        # Positions count once more than the ring is long, so that a lane at the window's end is not taken for
        # one at its beginning.
        oldest = Signal(tile_bits + 1)
        past = []
        forget = Signal()
        m.d.comb += forget.eq(self.restart & self.quiet)
        slots = [Signal(4, name=f"weight_{tile}_{place}")
                 for tile in range(WINDOW) for place in range(machine.tile_bytes)]
        clear = Signal(WINDOW)
        writing = Signal()
        m.d.sync += writing.eq(step)
        for lane in range(lanes):
            position = Signal(offset_bits + tile_bits + 1, name=f"position_{lane}")
            place = Signal.like(position, name=f"place_{lane}")
            index = Signal(4, reset_less=True, name=f"index_{lane}")
            written = Signal(offset_bits + tile_bits, reset_less=True, name=f"written_{lane}")
            byte = beat.word_select(lane, 8)
            m.d.comb += place.eq(position + byte[4:])
            with m.If(step):
                m.d.sync += [
                    position.eq(position + byte[4:] + byte[:4].any()),
                    index.eq(byte[:4]),
                    written.eq(place),
                ]
            past.append(position[offset_bits:] != oldest)
            with m.If(forget):
                m.d.sync += position.eq(0)
            write = Signal(name=f"write_{lane}")
            m.d.comb += write.eq(writing & index.any())
            for tile in range(WINDOW):
                for offset in range(part):
                    slot = slots[tile * machine.tile_bytes + int(places[lane, offset])]
                    with m.If(clear[tile]):
                        m.d.sync += slot.eq(0)
                    with m.Elif(write & (written == tile * part + offset)):
                        m.d.sync += slot.eq(index)

        # a tile that all lanes are past is copied in the next cycle, when its last weight has been written
        pieces = machine.tile_bytes // machine.tile_piece_bytes
        pending, copied = Signal(), Signal()
        chosen = Signal(tile_bits)
        free = Signal()
        load = Signal()
        tile = Signal(4 * machine.tile_bytes, reset_less=True)
        pieces_left = Signal(range(pieces + 1))
        m.d.comb += [
            self.leaves.eq((pieces_left != 0) & self.accept),
            self.piece.eq(tile[:len(self.piece)]),
            load.eq(pending & ((pieces_left == 0) | ((pieces_left == 1) & self.accept))),
            free.eq(~pending | load),
            step.eq(self.valid & free),
            copied.eq(Value.cast(Cat(past)).all() & free),
            clear.eq((load << chosen) | forget.replicate(WINDOW)),
            self.quiet.eq(~Value.cast(Cat(past)).all() & ~pending & (pieces_left == 0) & ~writing),
        ]
        m.d.sync += pending.eq(copied | (pending & ~load))
        with m.If(copied):
            m.d.sync += [oldest.eq(oldest + 1), chosen.eq(oldest)]
        with m.If(forget):
            m.d.sync += [oldest.eq(0), second.eq(0)]
        with m.If(self.leaves):
            m.d.sync += [tile.eq(tile[len(self.piece):]), pieces_left.eq(pieces_left - 1)]
        with m.If(load):
            tiles = Array(Cat(slots[first:first + machine.tile_bytes])
                          for first in range(0, len(slots), machine.tile_bytes))
            m.d.sync += [tile.eq(tiles[chosen]), pieces_left.eq(pieces)]
