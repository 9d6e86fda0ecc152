"""The machine as a small core that executes instructions one after another (`docs/small-core.md`)."""

from __future__ import annotations

from typing import get_args

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from hw.control import ControlRegisters
from hw.core_signature import CoreSignature
from hw.machine import Machine
from hw.multiply_add import MultiplyAddKind
from hw.small_array import SmallArray
from hw.small_assembler import Condition, Port
from hw.small_controller import SmallController
from hw.small_firmware import small_firmware
from hw.small_memory_port import SmallMemoryPort
from hw.small_post import SmallPost
from hw.small_walk import SmallWalk

__all__ = ["SmallCore"]


class SmallCore(wiring.Component):
    """The whole accelerator.

    Parameters
    ----------
    machine : Machine
        With ``in_order``'s limits.
    multiplier : "portable" or "ice40"
        Whether multipliers are left to inference or instantiated for the iCE40 UltraPlus.

    Raises
    ------
    ValueError
        If the machine is another one, or there is no such kind of multiplier.

    Members are those of `hw.core_signature.CoreSignature`; it never waits for tokens.
    """

    def __init__(self, machine: Machine, *, multiplier: MultiplyAddKind = "portable") -> None:
        if not machine.in_order:
            raise ValueError("machine must have in_order")
        if multiplier not in get_args(MultiplyAddKind):
            raise ValueError(f"multiplier must be 'portable' or 'ice40', not {multiplier!r}")
        self.machine = machine
        self.multiplier: MultiplyAddKind = multiplier
        super().__init__(CoreSignature(machine))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        m.submodules.control = control = ControlRegisters(machine, counter_bits=32)
        m.submodules.controller = controller = SmallController(small_firmware())
        m.submodules.port = port = SmallMemoryPort()
        m.submodules.walk = walk = SmallWalk(machine)
        m.submodules.array = array = SmallArray(machine, self.multiplier)
        m.submodules.post = post = SmallPost(machine)
        m.submodules.scratchpad = scratchpad = Memory(shape=32, depth=machine.scratchpad_words, init=[])
        read, write = scratchpad.read_port(), scratchpad.write_port()

        wiring.connect(m, control.bus, wiring.flipped(self.s_axil))
        wiring.connect(m, port.m_axi, wiring.flipped(self.m_axi))

        # the controller's ports
        written, value = controller.written, controller.value
        units = Signal(2)
        m.d.comb += [
            controller.start.eq(control.start),
            controller.program_address.eq(control.program_address),
            controller.beat.eq(port.beat),
            controller.beat_valid.eq(port.beat_valid),
            controller.met[Condition.MEMORY_IDLE].eq(port.idle),
            controller.met[Condition.SWEEP_TAKEN].eq(array.taken),
            controller.met[Condition.ARRAY_IDLE].eq(array.idle),
            controller.met[Condition.POST_IDLE].eq(post.idle),
            port.value.eq(value),
            port.set_low.eq(written[Port.ADDRESS_LOW]),
            port.set_high.eq(written[Port.ADDRESS_HIGH]),
            port.read.eq(written[Port.READ]),
            port.load.eq(written[Port.LOAD]),
            port.store.eq(written[Port.STORE]),
            port.drop.eq(written[Port.DROP]),
            walk.value.eq(value),
            walk.set_base.eq(written[Port.WALK_BASE]),
            walk.set_row.eq(written[Port.WALK_ROW]),
            walk.set_column.eq(written[Port.WALK_COLUMN]),
            walk.set_row_step.eq(written[Port.ROW_STEP]),
            walk.set_strides.eq(written[Port.STRIDES]),
            walk.set_image_rows.eq(written[Port.IMAGE_ROWS]),
            walk.set_image_columns.eq(written[Port.IMAGE_COLUMNS]),
            walk.set_rows.eq(written[Port.ROWS]),
            walk.set_columns.eq(written[Port.COLUMNS]),
            array.value.eq(value),
            array.command.eq(written[Port.SWEEP]),
            array.set_sums.eq(written[Port.SUMS]),
            array.set_signed.eq(written[Port.WORD_18]),
            array.set_bias.eq(written[Port.BIAS : Port.BIAS + 4]),
            post.value.eq(value),
            post.go.eq(written[Port.POST]),
            post.push_shift.eq(written[Port.SHIFT]),
            post.set_word.eq(written[Port.WORD_20 : Port.WORD_20 + 6]),
        ]
        with m.If(written[Port.UNIT]):
            m.d.sync += units.eq(value)
        with m.If(control.start):
            m.d.sync += self.layer.eq(0)
        with m.Elif(written[Port.LAYER]):
            m.d.sync += self.layer.eq(value)

        # the walk and the scratchpad serve one after another
        transferring = Signal()
        m.d.sync += transferring.eq((transferring | written[Port.LOAD] | written[Port.STORE]) & ~(
            array.start | post.start))
        m.d.comb += [
            walk.start.eq(array.start | post.start | written[Port.LOAD] | written[Port.STORE]),
            walk.step.eq(array.step | post.step | port.step),
            walk.linear.eq(transferring),
            array.inside.eq(walk.inside),
            array.last.eq(walk.last),
            post.last.eq(walk.last),
            read.addr.eq(walk.address + Mux(post.reading, post.offset, 0)),
            read.en.eq(array.reading | post.reading | port.fetch),
            write.addr.eq(walk.address),
            write.data.eq(Mux(post.write, post.result, port.beat)),
            write.en.eq(post.write | port.write),
            array.word.eq(read.data),
            post.word.eq(read.data),
            port.word.eq(read.data),
        ]

        # weights and sums
        m.d.comb += [
            array.beat.eq(port.beat),
            array.beat_valid.eq(port.beat_valid),
            port.take.eq(controller.beat_taken | array.take),
            array.post_start.eq(post.start),
            array.post_step.eq(post.next_sums),
            array.post_pair.eq(post.pair),
            post.sums.eq(array.sums),
        ]

        # status
        m.d.comb += [
            control.finished.eq(~controller.running),
            control.read_error.eq(port.read_error),
            control.write_error.eq(port.write_error),
            control.bad_opcode.eq(written[Port.BAD]),
            control.read_beats.eq(port.read_beat),
            control.write_beats.eq(port.write_beat),
            control.layer.eq(self.layer),
            self.done.eq(control.done),
            self.compute_busy.eq(array.busy),
            self.compute_weight_wait.eq(array.waiting),
            self.load_busy.eq(units[0]),
            self.store_busy.eq(units[1]),
            control.compute_busy.eq(self.compute_busy),
            control.compute_weight_wait.eq(self.compute_weight_wait),
            control.load_busy.eq(self.load_busy),
            control.store_busy.eq(self.store_busy),
        ]
        return m
