"""The small core's multipliers: two output lanes by four input lanes, and the sums of four lanes.

A sweep goes over all pixels of a rectangle with the weights of two output lanes: eight products a cycle.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.machine import Machine
from hw.multiply_add import MultiplyAdd, MultiplyAddKind

__all__ = ["PIPELINE", "Command", "SmallArray"]

#: Cycles from a pixel's addresses to its sums' writing.
PIPELINE = 5

#: What a sweep does.
Command = data.StructLayout(
    {
        "pair": 1,     # output lanes 0 and 1, or 2 and 3
        "first": 1,    # sums begin with the biases
        "load": 1,     # two weight words come first
        "maximum": 1,  # the larger of sum and pixel, instead of products
        "both": 1,     # of pair 0, then the same of pair 1
    }
)


class SmallArray(wiring.Component):
    """Executes sweeps; a second one may be given while one runs, and begins behind it.

    Parameters
    ----------
    machine : Machine
    kind : "portable" or "ice40"

    Members
    -------
    value : ``In(16)``
        For the strobes ``command`` (`Command`), ``set_signed`` (bit 10: pixels are int8) and ``set_sums``
        (0: sums begin at the first pixel's place, else behind those of the sweep before), and for
        ``set_bias``, four strobes: low and high half of the pair's first and second bias.
    taken, idle : ``Out(1)``
        No sweep waits; and none is running.
    busy, waiting : ``Out(1)``
        A word is taken; weights are waited for.
    beat, beat_valid, take
        Weights from the memory port.
    start, step, inside, last
        The walk over the pixels.
    reading : ``Out(1)``
        The scratchpad's word at the walk's address is to be read; it is in ``word`` in the next cycle.
    word : ``In(32)``
    post_start, post_step : ``In(1)``, post_pair : ``In(1)``
        Read sums from the first pixel on; go to the next one.  They are in ``sums`` a cycle later.
    sums : ``Out(64)``
    """

    def __init__(self, machine: Machine, kind: MultiplyAddKind = "portable") -> None:
        self.machine = machine
        self.kind: MultiplyAddKind = kind
        super().__init__(
            {
                "value": In(16),
                **{name: In(1) for name in ("command", "set_signed", "set_sums")},
                "set_bias": In(4),
                **{name: Out(1) for name in ("taken", "idle", "busy", "waiting")},
                "beat": In(32),
                "beat_valid": In(1),
                "take": Out(1),
                "start": Out(1),
                "step": Out(1),
                "inside": In(1),
                "last": In(1),
                "reading": Out(1),
                "word": In(32),
                **{name: In(1) for name in ("post_start", "post_step", "post_pair")},
                "sums": Out(64),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.machine.accumulator_depth
        m.submodules.memory = memory = Memory(shape=64, depth=2 * depth, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=32)

        # settings
        is_signed = Signal()
        biases = Signal(64)
        first_place = Signal(range(depth))
        place, written_place = Signal(range(depth)), Signal(range(depth))
        with m.If(self.set_signed):
            m.d.sync += is_signed.eq(self.value[10])
        for part in range(4):
            with m.If(self.set_bias[part]):
                m.d.sync += biases.word_select(part, 16).eq(self.value)
        with m.If(self.set_sums):
            m.d.sync += first_place.eq(Mux(self.value == 0, 0, place))

        # sweeps
        waiting, running = Signal(Command), Signal(Command)
        waits = Signal()
        weights = Signal(64)
        valid = Signal(PIPELINE)
        waiting_view: Any = waiting
        running_view: Any = running
        with m.If(self.command):
            m.d.sync += [waiting.eq(self.value), waits.eq(1)]
        m.d.comb += self.taken.eq(~waits)
        second = Signal()  # of two weight words
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(~waits)
                m.d.sync += second.eq(0)
                with m.If(waits):
                    m.d.comb += self.start.eq(1)
                    m.d.sync += [running.eq(waiting), waits.eq(waiting_view.both)]
                    m.d.sync += [waiting_view.both.eq(0), waiting_view.pair.eq(waiting_view.both)]
                    m.next = "WEIGHTS"
            with m.State("WEIGHTS"):
                with m.If(running_view.maximum):
                    m.d.sync += weights.eq(Mux(running_view.pair, 0x01000000_00010000, 0x00000100_00000001))
                    m.next = "RUN"
                with m.Elif(running_view.load):
                    m.d.comb += [self.take.eq(1), self.waiting.eq(~self.beat_valid)]
                    with m.If(self.beat_valid):
                        m.d.sync += [weights.eq(Cat(weights[32:], self.beat)), second.eq(1)]
                    with m.If(self.beat_valid & second):
                        m.next = "RUN"
                with m.Else():
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [self.reading.eq(1), self.busy.eq(1), self.step.eq(1)]
                with m.If(self.last):
                    m.next = "DRAIN"
            with m.State("DRAIN"), m.If(valid[:-1] == 0):
                m.next = "IDLE"
        m.d.sync += valid.eq(Cat(self.reading, valid))
        with m.If(self.start | self.post_start):
            m.d.sync += place.eq(first_place)
        with m.Elif(self.reading | self.post_step):
            m.d.sync += place.eq(place + 1)
        with m.If(self.start):
            m.d.sync += written_place.eq(first_place)
        with m.Elif(valid[-1]):
            m.d.sync += written_place.eq(written_place + 1)

        # operands, in the cycle behind their addresses
        inside = Signal()
        m.d.sync += inside.eq(self.inside)
        pixels = [Signal(signed(9), name=f"pixel_{lane}") for lane in range(4)]
        for lane, pixel in enumerate(pixels):
            byte = self.word.word_select(lane, 8)
            top = Mux(inside, is_signed & byte[7], running_view.maximum)
            m.d.comb += pixel.eq(Cat(byte & inside.replicate(8), top))
        m.d.comb += [
            read.addr.eq(Cat(place, Mux(self.idle, self.post_pair, running_view.pair))),
            self.sums.eq(read.data),
            write.addr.eq(Cat(written_place, running_view.pair)),
        ]
        # the chain adds one product in a cycle, so a pixel's bytes come one cycle after another
        delayed: list[Any] = []
        for lane, pixel in enumerate(pixels):
            value: Any = pixel
            for number in range(lane - 1):  # the multipliers' own registers are one cycle more
                later = Signal(signed(9), name=f"pixel_{lane}_{number}", reset_less=True)
                m.d.sync += later.eq(value)
                value = later
            delayed.append(value)
        for output in range(2):
            old, bias = read.data.word_select(output, 32), biases.word_select(output, 32)
            total: Any = Mux(running_view.maximum, 0, Mux(running_view.first, bias, old))
            for lane in range(4):
                stage = MultiplyAdd(self.kind, delayed=lane > 0)
                m.submodules[f"multiply_{output}_{lane}"] = stage
                m.d.comb += [
                    stage.activation.eq(delayed[lane]),
                    stage.weight.eq(weights.word_select(4 * output + lane, 8)),
                    stage.addend.eq(total),
                ]
                total = stage.total
            mine = Mux(running_view.pair, pixels[2 + output], pixels[output])
            replaces = Signal(PIPELINE - 1, name=f"replaces_{output}")
            m.d.sync += replaces.eq(
                Cat(
                    ~running_view.maximum | running_view.first | (mine.as_signed() > old[:9].as_signed()),
                    replaces,
                )
            )
            m.d.comb += [
                write.data.word_select(output, 32).eq(total),
                write.en[output].eq(valid[-1] & replaces[-1]),
            ]
        return m
