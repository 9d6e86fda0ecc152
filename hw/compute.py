"""The compute unit: executes COMPUTE instructions (`docs/machine.md`).

One pipeline of fixed length behind the sequencer, which is the only part that waits::

    sequencer ─ address ─▶ scratchpad ─ word ─▶ array ─ sums ─▶ accumulators ─▶ post-processing ─▶ scratchpad
                                                 ▲                  ▲                  ▲
    weight FIFO ─▶ weight loader ────────────── tile ───────────── bias ───────────── shift
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.accumulators import OPERAND_DELAY, SUM_LATENCY, Accumulators
from hw.array import OPERAND_LATENCY, MultiplierArray, array_latency, selection_layout
from hw.copies import copies
from hw.delay_line import delay_line
from hw.destination import Destination
from hw.isa import Opcode, layout_of
from hw.issue import POSITION_BITS, WordFlags
from hw.machine import Machine
from hw.multiplier import MultiplierKind, require_multiplier_kind
from hw.requantize import FLAGS_EARLY, Requantize
from hw.scratchpad import READ_LATENCY, ComputePort, place_at
from hw.sequencer import Sequencer
from hw.tokens import TokenPort
from hw.weight_loader import WeightLoader
from hw.weights import weight_layout

__all__ = ["Compute"]

#: Slots that share the registers of the word at the window's corner.
_SLOTS = 2
_CORNER = data.StructLayout({
    "address": 16, "row": signed(POSITION_BITS), "column": signed(POSITION_BITS),
})


class Compute(wiring.Component):
    """The compute unit.

    Parameters
    ----------
    machine : Machine
    multiplier : str
        ``"portable"`` or ``"ecp5"``: the kind of `hw.multiplier.Multiplier`.

    Members
    -------
    instructions : ``In(stream)``
    weights : ``In(stream)``
        What leaves the weight FIFO.
    forget_weights : ``In(1)``
        Strobe, while no instruction is executed: weights that have come and nobody has claimed are forgotten.
    tokens : ``Out(TokenPort)``
    scratchpad : ``Out(ComputePort)``
        Input words, residuals and output words; never stalls.
    idle : ``Out(1)``
        No instruction has begun and not ended.
    busy, token_wait, weight_wait : ``Out(1)``
        For the counters: a word is read, none is because the instruction waits for tokens, a pass waits for
        weights.
    layer, layer_valid : ``Out``
        Whose word is read in the next cycle, or is waited for.

    Raises
    ------
    ValueError
        If there is no such kind of multiplier.
    """

    def __init__(self, machine: Machine, *, multiplier: MultiplierKind = "portable") -> None:
        require_multiplier_kind(multiplier)
        self.machine = machine
        self.multiplier: MultiplierKind = multiplier
        super().__init__({
            "instructions": In(stream.Signature(layout_of(Opcode.COMPUTE))),
            "weights": In(stream.Signature(weight_layout(machine))),
            "forget_weights": In(1),
            "tokens": Out(TokenPort),
            "scratchpad": Out(ComputePort(8 * machine.output_lanes, machine.input_lanes)),
            "idle": Out(1),
            "busy": Out(1),
            "token_wait": Out(1),
            "weight_wait": Out(1),
            "layer": Out(16),
            "layer_valid": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        m.submodules.sequencer = sequencer = Sequencer(machine)
        loader = WeightLoader(machine)
        m.submodules.loader = ResetInserter(self.forget_weights)(loader)
        m.submodules.array = array = MultiplierArray(machine, multiplier=self.multiplier)
        m.submodules.accumulators = accumulators = Accumulators(machine)
        m.submodules.requantize = requantize = Requantize(machine)
        m.submodules.residual_addresses = residual_addresses = Destination()
        m.submodules.write_addresses = write_addresses = Destination()
        code = sequencer.writing
        issue = sequencer.issue
        port = self.scratchpad

        wiring.connect(m, wiring.flipped(self.instructions), sequencer.instructions)
        wiring.connect(m, wiring.flipped(self.weights), loader.weights)
        wiring.connect(m, sequencer.tokens, wiring.flipped(self.tokens))

        # Stages count cycles from the sequencer's issue.
        address = 1
        word = address + READ_LATENCY
        operands = word + OPERAND_LATENCY
        sums = word + array_latency(machine)      # where products meet the accumulators' operands
        pixel = sums - OPERAND_DELAY
        results = pixel + SUM_LATENCY

        valid = delay_line(m, sequencer.issue_valid, results, "valid", init=0)
        flags: list[data.View] = [issue.flags]
        for stage in range(1, results + 1):
            register = Signal(WordFlags, reset_less=True, name=f"flags_{stage}")
            m.d.sync += register.eq(flags[-1])
            flags.append(register)
        pixels = delay_line(m, issue.pixel, pixel, "pixel")

        # Where each slot's word is, and whether it lies on the image: negative rows and columns are large
        # when read as unsigned.  The word goes to all slots in one cycle, theirs are found in the next.
        m.d.comb += [
            port.read_enable.eq(valid[address]),
            port.read_all.eq(Cat(slot.used for slot in sequencer.slots)[1:].any()),
        ]
        corners = copies(m, Cat(issue.address, issue.row, issue.column), -(-machine.input_lanes // _SLOTS),
                         "corner")
        images = copies(m, delay_line(m, Cat(issue.image_rows, issue.image_columns), address, "image")[-1],
                        len(corners), "image")
        inside = []
        for number, slot in enumerate(sequencer.slots):
            corner, image = data.View(_CORNER, corners[number // _SLOTS]), images[number // _SLOTS]
            row = Signal(signed(POSITION_BITS + 1), reset_less=True, name=f"row_{number}")
            column = Signal(signed(POSITION_BITS + 1), reset_less=True, name=f"column_{number}")
            used = Signal(reset_less=True, name=f"used_{number}")
            row_inside = Signal(reset_less=True, name=f"row_inside_{number}")
            column_inside = Signal(reset_less=True, name=f"column_inside_{number}")
            m.d.comb += port.read_addresses[number].eq(corner.address + slot.offset)
            m.d.sync += [
                row.eq(corner.row + slot.row),
                column.eq(corner.column + slot.column),
                used.eq(slot.used),
                row_inside.eq(used & (row.as_unsigned() < image[:16])),
                column_inside.eq(column.as_unsigned() < image[16:]),
            ]
            inside.append(row_inside & column_inside)

        new_tile = valid[operands - 3] & flags[operands - 3].new_tile
        takes_tile, loads_tile = copies(m, new_tile, 2, "new_tile", init=0)
        m.d.comb += [
            array.words.eq(port.read_data),
            array.selection.inside.eq(delay_line(m, Cat(inside), word - 2 - (address + 2), "inside")[-1]),
            *(array.selection[name].eq(delay_line(m, Value.cast(issue[name]), word - 2, name)[-1])
              for name in selection_layout(machine).members if name != "inside"),
            array.tile.eq(loader.tile),
            loader.take_tile.eq(takes_tile),
            array.load_tile.eq(loads_tile),
            loader.claim_tile.eq(sequencer.claim_tile),
            loader.claim_parameters.eq(sequencer.claim_parameters),
            sequencer.tile_available.eq(loader.tile_available),
            sequencer.parameters_available.eq(loader.parameters_available),
        ]

        # The parameter block is copied as its first word comes by, so that the next may arrive
        # while the last words of this block are still on their way.
        bias = Signal(data.ArrayLayout(signed(32), machine.output_lanes), reset_less=True)
        new_block = copies(m, valid[sums - 3] & flags[sums - 3].new_block, machine.output_lanes, "new_block",
                           levels=2)
        for lane, takes in enumerate(new_block):
            with m.If(takes):
                m.d.sync += bias[lane].eq(loader.bias[lane])
        m.d.comb += [
            requantize.shift.eq(loader.shift),
            requantize.load_shift.eq(valid[results - 3] & flags[results - 3].new_block),
            loader.release_parameters.eq(valid[results - 1] & flags[results - 1].new_block),
            accumulators.valid.eq(valid[pixel]),
            accumulators.pixel.eq(pixels[pixel]),
            accumulators.first.eq(flags[sums - 2].first),
            accumulators.chain.eq(flags[sums - 2].chain),
            accumulators.maximum.eq(flags[sums - 2].maximum),
            accumulators.bias.eq(bias),
            accumulators.products.eq(array.sums),
            *([accumulators.carries.eq(array.carries)] if machine.weight_pairs else []),
        ]

        written_end = Signal()
        m.d.comb += [
            requantize.instruction.eq(code),
            requantize.sums.eq(accumulators.sums),
            requantize.flags.valid.eq(valid[results - FLAGS_EARLY] & flags[results - FLAGS_EARLY].last),
            *(requantize.flags[name].eq(flags[results - FLAGS_EARLY][name])
              for name in ("row_end", "block_end", "end")),
            requantize.residual_data.eq(port.residual_data),
            port.write_data.eq(requantize.write_data),
            write_addresses.word.eq(requantize.write),
            write_addresses.base.eq(code.destination_address),
            residual_addresses.word.eq(requantize.residual),
            residual_addresses.base.eq(code.destination_address + code.residual_offset),
            sequencer.finished.eq((port.write_enable & written_end)
                                  | (valid[results] & flags[results].end & ~flags[results].last)),
        ]
        # from registers, because load and store wait for what is not used
        place = place_at(m, Mux(requantize.write.valid, write_addresses.address, residual_addresses.address),
                         machine.input_lanes, wanted=requantize.write.valid | requantize.residual.valid)
        m.d.sync += [
            port.write_enable.eq(requantize.write.valid),
            written_end.eq(requantize.write.end),
            port.residual_enable.eq(requantize.residual.valid),
            port.b_place.eq(place),
        ]
        for destination in (residual_addresses, write_addresses):
            m.d.comb += [
                destination.start.eq(sequencer.start),
                destination.row_step.eq(code.destination_row_step),
                destination.plane_step.eq(code.destination_plane_step),
            ]

        m.d.comb += [
            self.idle.eq(sequencer.idle),
            self.busy.eq(port.read_enable),
            # an instruction may wait while words of the one before are read: then nothing is lost
            self.token_wait.eq(sequencer.token_wait & ~port.read_enable),
            self.weight_wait.eq(sequencer.weight_wait),
            self.layer.eq(sequencer.layer),
            self.layer_valid.eq(sequencer.layer_valid),
        ]
        return m
