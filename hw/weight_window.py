"""The tiles of a sparse stream under way: lanes write weights into them, and they leave when all are past."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.machine import Machine
from hw.sparse_entries import entry_layout
from hw.sparse_stream import WINDOW, lane_places

__all__ = ["WeightWindow"]


class WeightWindow(wiring.Component):
    """`WINDOW` tiles in a ring.

    Each place of a tile has a memory, a word for each tile, and bits that say which words have been written.

    Parameters
    ----------
    machine : Machine

    Members
    -------
    entries : ``In(stream.Signature(entry_layout(machine)))``
    fields : ``Out``
        Those taken in the cycle before.
    values : ``In``
        The weights they stand for, in the same cycle.
    pieces : ``Out(stream)``
        Tiles, ``tile_piece_bytes`` in a cycle.
    loads : ``Out(1)``
        Strobe: the pieces of another tile come, from the next cycle on.
    quiet : ``Out(1)``
        No tile leaves or will leave without further entries.
    restart : ``In(1)``
        While it is quiet, forget what has been left of a stream that no encoder has made.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        fields = data.ArrayLayout(8, machine.bus_bytes)
        super().__init__({
            "entries": In(stream.Signature(entry_layout(machine))),
            "fields": Out(fields),
            "values": In(fields),
            "pieces": Out(stream.Signature(8 * machine.tile_piece_bytes)),
            "loads": Out(1),
            "quiet": Out(1),
            "restart": In(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        lanes = machine.bus_bytes
        part = machine.tile_bytes // lanes
        offset_bits, tile_bits = exact_log2(part), exact_log2(WINDOW)
        step, writing, forget = Signal(), Signal(), Signal()
        m.d.comb += forget.eq(self.restart & self.quiet)
        m.d.sync += writing.eq(step)

        # Positions count once more than the ring is long, so that a lane at the window's end is not taken for
        # one at its beginning.
        oldest = Signal(tile_bits + 1)
        chosen = Signal(tile_bits)  # the tile that leaves
        clear = Signal(WINDOW)
        past = []
        weights: list[Value] = [Value.cast(0)] * machine.tile_bytes
        places = lane_places(machine)
        for lane, entry in enumerate(self.entries.payload):
            position = Signal(offset_bits + tile_bits + 1, name=f"position_{lane}")
            place = Signal.like(position, name=f"place_{lane}")
            written = Signal(offset_bits + tile_bits, reset_less=True, name=f"written_{lane}")
            m.d.comb += place.eq(position + entry.gap)
            with m.If(step):
                m.d.sync += [
                    position.eq(position + entry.gap + entry.field.any()),
                    self.fields[lane].eq(entry.field),
                    written.eq(place),
                ]
            past.append(position[offset_bits:] != oldest)
            with m.If(forget):
                m.d.sync += position.eq(0)
            for offset in range(part):
                slot = memory.Memory(shape=8, depth=WINDOW, init=[], attrs={"ram_style": "distributed"})
                m.submodules[f"slot_{lane}_{offset}"] = slot
                write, read = slot.write_port(), slot.read_port(domain="comb")
                known = Signal(WINDOW, name=f"known_{lane}_{offset}")
                m.d.comb += [
                    write.addr.eq(written[offset_bits:]),
                    write.data.eq(self.values[lane]),
                    write.en.eq(writing & self.fields[lane].any() & (written[:offset_bits] == offset)),
                    read.addr.eq(chosen),
                ]
                m.d.sync += known.eq((known | write.en << write.addr) & ~clear)
                weights[int(places[lane, offset])] = Mux(Array(known)[chosen], read.data, 0)

        # a tile that all lanes are past is copied in the next cycle, when its last weight has been written
        pieces = machine.tile_bytes // machine.tile_piece_bytes
        pending, copied, free, load = Signal(), Signal(), Signal(), Signal()
        all_past = Signal()
        tile = Signal(8 * machine.tile_bytes, reset_less=True)
        pieces_left = Signal(range(pieces + 1))
        leaves = Signal()
        m.d.comb += [
            all_past.eq(Value.cast(Cat(past)).all()),
            self.pieces.valid.eq(pieces_left != 0),
            self.pieces.payload.eq(tile[:len(self.pieces.payload)]),
            leaves.eq(self.pieces.valid & self.pieces.ready),
            load.eq(pending & ((pieces_left == 0) | ((pieces_left == 1) & self.pieces.ready))),
            self.loads.eq(load),
            free.eq(~pending | load),
            self.entries.ready.eq(free),
            step.eq(self.entries.valid & free),
            copied.eq(all_past & free),
            clear.eq((load << chosen) | forget.replicate(WINDOW)),
            self.quiet.eq(~all_past & ~pending & (pieces_left == 0) & ~writing),
        ]
        m.d.sync += pending.eq(copied | (pending & ~load))
        with m.If(copied):
            m.d.sync += [oldest.eq(oldest + 1), chosen.eq(oldest)]
        with m.If(forget):
            m.d.sync += oldest.eq(0)
        with m.If(leaves):
            m.d.sync += pieces_left.eq(pieces_left - 1)
            if pieces > 1:
                m.d.sync += tile.eq(tile[len(self.pieces.payload):])
        with m.If(load):
            m.d.sync += [tile.eq(Cat(*weights)), pieces_left.eq(pieces)]
        return m
