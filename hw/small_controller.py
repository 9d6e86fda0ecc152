"""The small core's controller: 16 bits, two cycles an instruction (`hw.small_assembler`)."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.small_assembler import DATA_WORDS, PROGRAM_WORDS, Condition, Operation, Port, Source
from hw.small_assembler import In as Input

__all__ = ["SmallController"]


class SmallController(wiring.Component):
    """Runs its microprogram from word 0 whenever it is started, until it writes `Port.DONE`.

    In its first cycle an instruction leaves the program memory and its operand is read, in its second
    one it is executed.  It begins only at ``start``: the block RAMs of an iCE40 read as zeros for some time
    after configuration.

    Parameters
    ----------
    program : sequence of int

    Members
    -------
    start : ``In(1)``
    running : ``Out(1)``
    program_address : ``In(32)``
    beat : ``In(32)``, beat_valid : ``In(1)``, beat_taken : ``Out(1)``
        Read data of the bus.
    met : ``In(4)``
        Which `Condition` is met.
    value : ``Out(16)``
    written : ``Out(len(Port))``
        Strobes of the ports, by number.
    """

    def __init__(self, program: Sequence[int]) -> None:
        self.program = list(program)
        super().__init__(
            {
                "start": In(1),
                "running": Out(1),
                "program_address": In(32),
                "beat": In(32),
                "beat_valid": In(1),
                "beat_taken": Out(1),
                "met": In(len(Condition)),
                "value": Out(16),
                "written": Out(max(Port) + 1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.program = program = Memory(shape=16, depth=PROGRAM_WORDS, init=self.program)
        m.submodules.data = data = Memory(shape=16, depth=DATA_WORDS, init=[])
        code, read, write = program.read_port(), data.read_port(), data.write_port()

        executing = Signal()  # the second cycle of an instruction
        next_place = Signal(range(PROGRAM_WORDS))
        behind = Signal(range(PROGRAM_WORDS))
        index = Signal(8)
        word = code.data
        operand, operation = word[:9], word[12:]

        address = Signal(8)
        m.d.comb += [
            address.eq(operand[:8] + Mux(word[11], index, 0)),
            read.addr.eq(address),
            read.en.eq(~executing),
            write.addr.eq(address),
            write.data.eq(self.value),
            code.addr.eq(next_place),
        ]
        inputs = Signal(16)
        with m.Switch(operand[:2]):
            for source, value in (
                (Input.BEAT_LOW, self.beat[:16]),
                (Input.BEAT_HIGH, self.beat[16:]),
                (Input.PROGRAM_LOW, self.program_address[:16]),
                (Input.PROGRAM_HIGH, self.program_address[16:]),
            ):
                with m.Case(source):
                    m.d.comb += inputs.eq(value)
        b = Signal(16)
        source = word[9:11]
        with m.Switch(source):
            with m.Case(Source.MEMORY):
                m.d.comb += b.eq(read.data)
            with m.Case(Source.IMMEDIATE):
                m.d.comb += b.eq(operand.as_signed())
            with m.Case(Source.IN):
                m.d.comb += b.eq(inputs)
            with m.Case(Source.ACCUMULATOR):
                m.d.comb += b.eq(self.value)

        carry, total = Signal(), Signal(17)
        subtracts = operation == Operation.SUB
        carry_in = subtracts | (operation == Operation.ADC) & carry
        m.d.comb += total.eq(self.value + (b ^ subtracts.replicate(16)) + carry_in)
        zero = self.value == 0

        met = Signal(len(Condition))  # what an OUT began is seen two cycles after it, where a WAIT may be
        m.d.sync += met.eq(self.met)
        is_operation = operation < Operation.ST
        waits_for_beat = is_operation & (source == Source.IN) & ~operand[1]
        held = Signal()
        m.d.comb += held.eq(
            waits_for_beat & ~self.beat_valid
            | (operation == Operation.WAIT) & ~met.bit_select(operand[:2], 1)
        )
        done = Signal()  # this is an instruction's last cycle
        m.d.comb += [
            done.eq(executing & ~held),
            self.beat_taken.eq(executing & waits_for_beat & operand[0]),
            write.en.eq(executing & (operation == Operation.ST)),
            code.en.eq(done | ~self.running),
            behind.eq(next_place + 1),
        ]
        place = Signal(range(PROGRAM_WORDS))  # of the word behind the present one
        jumps = Signal()
        m.d.comb += [
            jumps.eq(
                (operation == Operation.JMP)
                | (operation == Operation.JZ) & zero
                | (operation == Operation.JNZ) & ~zero
                | (operation == Operation.JC) & carry
            ),
            next_place.eq(Mux(self.running, Mux(jumps, operand, place), 0)),
        ]
        with m.If(~self.running):
            m.d.sync += [self.running.eq(self.start), executing.eq(0), place.eq(1)]
        with m.Elif(~executing):
            m.d.sync += executing.eq(1)
        with m.Elif(~held):
            m.d.sync += [executing.eq(0), place.eq(behind)]
            with m.Switch(operation):
                with m.Case(Operation.LD):
                    m.d.sync += self.value.eq(b)
                with m.Case(Operation.ADD, Operation.ADC, Operation.SUB):
                    m.d.sync += Cat(self.value, carry).eq(total)
                with m.Case(Operation.AND):
                    m.d.sync += self.value.eq(self.value & b)
                with m.Case(Operation.SHR):
                    m.d.sync += self.value.eq(b[1:])
                with m.Case(Operation.HIGH):
                    m.d.sync += self.value.eq(b[8:])
                with m.Case(Operation.LDX):
                    m.d.sync += index.eq(self.value)
            with m.If(self.written[Port.DONE]):
                m.d.sync += self.running.eq(0)
        outputs = executing & (operation == Operation.OUT)  # these two never wait
        for number in range(len(self.written)):
            m.d.comb += self.written[number].eq(outputs & (operand[:6] == Const(number, 6)))
        return m
