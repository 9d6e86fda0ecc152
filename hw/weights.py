"""The weights unit: the weight stream from memory to the weight FIFO (WEIGHTS in `docs/machine.md`)."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.isa import Opcode, layout_of
from hw.machine import Machine
from hw.read_client import ReadClient, ReadPortSignature

__all__ = ["Weights", "urgent_beats", "weight_layout"]


def urgent_beats(machine: Machine) -> int:
    """While fewer beats are in the weight FIFO or on their way to it, weights are read in turn with feature
    maps, else after them: the blocks' parameters and first tiles, and more for the time in which bursts of
    feature maps that the memory has accepted before are answered; half a FIFO that is too small for that."""
    wanted = (2 * machine.parameter_bytes + 5 * machine.tile_bytes) // machine.bus_bytes
    return min(wanted, machine.weight_fifo_words // 2)


def weight_layout(machine: Machine) -> data.StructLayout:
    """What leaves the weight FIFO in a cycle: ``data``, and ``parameters`` = 1 if it belongs to a parameter
    block."""
    return data.StructLayout({"data": 8 * machine.weight_word_bytes, "parameters": 1})


class Weights(wiring.Component):
    """Reads parameter blocks and weight tiles, as far ahead as the weight FIFO has room.

    Parameters
    ----------
    machine : Machine
    maximum_burst : int
        Most beats in a burst; never more than half the FIFO.

    Members
    -------
    instructions : ``In(stream.Signature(layout_of(Opcode.WEIGHTS)))``
    port : ``Out(ReadPortSignature(bus_width))``
    output : ``Out(stream.Signature(weight_layout(machine)))``
    discard : ``In(1)``
        Throw the FIFO's contents away: nobody is going to take them.
    busy : ``Out(1)``
        Beats are still to be asked for, to arrive or to be taken.
    """

    def __init__(self, machine: Machine, *, maximum_burst: int = 64) -> None:
        self.machine = machine
        self.maximum_burst = min(maximum_burst, machine.weight_fifo_words // 2)
        super().__init__({
            "instructions": In(stream.Signature(layout_of(Opcode.WEIGHTS))),
            "port": Out(ReadPortSignature(machine.bus_width)),
            "output": Out(stream.Signature(weight_layout(machine))),
            "discard": In(1),
            "busy": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        together = machine.weight_word_bytes // machine.bus_bytes
        width = 32 - exact_log2(machine.bus_bytes)  # of a number of beats that fits into memory
        m.submodules.client = client = ReadClient(machine.bus_width, depth=machine.weight_fifo_words,
                                                  maximum_burst=self.maximum_burst, beats_width=width,
                                                  urgent_below=urgent_beats(machine),
                                                  beats_together=together, repeats=True)
        wiring.connect(m, client.port, wiring.flipped(self.port))
        m.d.comb += [
            self.output.payload.data.eq(client.output.payload.data),
            self.output.payload.parameters.eq(client.output.payload.tag),
            self.output.valid.eq(client.output.valid & ~self.discard),
            client.output.ready.eq(self.output.ready | self.discard),
            client.drop.eq(self.discard),
        ]

        address = Signal(32, reset_less=True)
        blocks = Signal(16, reset_less=True)  # that have not been finished
        asking = Signal()         # there are some
        tile_bytes = Signal(32, reset_less=True)  # of one block's tiles as they are encoded
        no_tiles = Signal()
        tiles_next = Signal()
        transfer = client.transfers
        size = Signal(32)
        instruction, repeat = self.instructions.payload, client.repeats
        repeats, may_repeat = Signal(), Signal()
        position = Signal.like(repeat.payload.first)  # weight words that have been asked for
        m.d.comb += [
            # what is given again is said when all before it has been asked for
            may_repeat.eq(client.asked & repeat.ready),
            self.instructions.ready.eq(~asking & (may_repeat | ~repeats)),
            repeats.eq(instruction.repeats != 0),
            repeat.valid.eq(self.instructions.valid & ~asking & client.asked & repeats),
            repeat.payload.first.eq(position),
            repeat.payload.entries.eq(instruction.repeated_words),
            repeat.payload.repeats.eq(instruction.repeats),
            size.eq(Mux(tiles_next, tile_bytes, machine.parameter_bytes)),
            transfer.valid.eq(asking),
            transfer.payload.address.eq(address),
            transfer.payload.beats.eq(size[exact_log2(machine.bus_bytes):]),
            transfer.payload.tag.eq(~tiles_next),
            self.busy.eq(transfer.valid | ~client.idle),
        ]
        with m.If(transfer.valid & transfer.ready):
            m.d.sync += [
                address.eq(address + size),
                position.eq(position + size[exact_log2(machine.weight_word_bytes):]),
                tiles_next.eq(~tiles_next & ~no_tiles),
            ]
            with m.If(tiles_next | no_tiles):
                m.d.sync += [blocks.eq(blocks - 1), asking.eq(blocks != 1)]
        with m.If(self.instructions.valid & self.instructions.ready):
            m.d.sync += [
                address.eq(instruction.memory_address),
                blocks.eq(instruction.blocks),
                asking.eq(instruction.blocks != 0),
                tile_bytes.eq(instruction.words << exact_log2(machine.weight_word_bytes)),
                no_tiles.eq(instruction.words == 0),
                tiles_next.eq(0),
            ]
        return m
