"""The small core's microprogram: what `docs/machine.md` says, one instruction after another."""

from __future__ import annotations

from functools import cache

from hw.isa import Opcode, layout_of
from hw.small_assembler import (
    Assembler,
    Condition,
    In,
    Operand,
    Operation,
    Port,
    accumulator,
    immediate,
    indexed,
    memory,
    port,
)

__all__ = ["BLOCK_BEATS", "WEIGHTS_AHEAD", "small_firmware"]

#: WEIGHTS instructions whose blocks no COMPUTE has begun to take; one more is a bad program.
WEIGHTS_AHEAD = 16
#: Most bus beats of an output block's parameters and weights.
BLOCK_BEATS = (1 << 16) - 1

# Data memory: the instruction's 16-bit words from 0 on, then variables.
_WORD = [memory(number) for number in range(26)]


def _field(opcode: Opcode, field: str, word: int = 0) -> Operand:
    """The ``word``-th word of a field that begins a word; so many bits of it as the field has are meant."""
    first, within = divmod(layout_of(opcode)[field].offset, 16)
    assert within == 0, f"{field} of {opcode.name} does not begin a word"
    return _WORD[first + word]


def _compute(field: str) -> Operand:
    return _field(Opcode.COMPUTE, field)


def _weights(field: str, word: int = 0) -> Operand:
    return _field(Opcode.WEIGHTS, field, word)


def _transfer(field: str, word: int = 0) -> Operand:
    return _field(Opcode.STORE, field, word)


_BIASES = 32
(_OPCODE, _PLACE_LOW, _PLACE_HIGH, _HEAD, _TAIL, _QUEUED, _BLOCKS, _BEATS, _STREAM_LOW, _STREAM_HIGH, _FLAGS,
 _DESTINATION_PLANE, _DESTINATION_ROW, _OUTPUTS, _INPUTS, _HOLDS, _PAIR, _COMMAND,
 _NEXT_COMMAND, _MAXIMUM, _INPUT_BASE, _INPUTS_LEFT, _ROW_BASE, _ROW, _ROWS_LEFT, _BASE, _COLUMN,
 _COLUMNS_LEFT, _ROW_LOW, _ROW_HIGH, _SCRATCH, _COUNT) = (memory(40 + number) for number in range(32))
_SOURCE, _DESTINATION = _compute("source_address"), _compute("destination_address")
_QUEUE = 128
#: Bits of a COMPUTE's word 18, in its upper byte, and of `hw.small_array.Command`.
_ODD_MODE, _MAXIMUM_MODE, _HOLD, _CONTINUES, _PARTIAL, _FOLD = (1 << bit for bit in (0, 1, 3, 4, 5, 6))
_SECOND_PAIR, _FIRST, _LOAD, _OF_MAXIMUM, _BOTH = (1 << bit for bit in range(5))


class _Firmware(Assembler):
    def add_long(self, low, high, step_low, step_high) -> None:
        """Add to a number of two words."""
        self.load(low, step_low)
        self.store(low)
        self.load(high)
        self.do(Operation.ADC, step_high)
        self.store(high)

    def subtract_one(self, counter, target: str) -> None:
        """Count down, and go on at ``target`` until the count is 0."""
        self.load(counter, immediate(-1))
        self.store(counter)
        self.jump(target, Operation.JNZ)

    def add(self, variable, step) -> None:
        self.load(variable, step)
        self.store(variable)

    def test(self, source, bits: int) -> None:
        """A = some bits of a word."""
        self.load(source)
        self.do(Operation.AND, immediate(bits))

    def beats(self, first: int, last: int, ports: dict[int, int] | None = None) -> None:
        """Take words of the instruction, into the data memory or a port."""
        for number in range(first, last + 1):
            self.load(port(In.BEAT_HIGH if number % 2 else In.BEAT_LOW))
            if number in (ports or {}):
                self.out((ports or {})[number])
            else:
                self.store(_WORD[number])

    def start(self) -> None:
        self.load(immediate(0))
        for variable in (_HEAD, _TAIL, _QUEUED, _BLOCKS):
            self.store(variable)
        self.out(Port.UNIT)
        self.move(port(In.PROGRAM_LOW), _PLACE_LOW)
        self.move(port(In.PROGRAM_HIGH), _PLACE_HIGH)

    def fetch(self) -> None:
        """The next instruction: its header, then as many words as its unit has fields."""
        self.label("fetch")
        self.wait(Condition.MEMORY_IDLE)
        self.move(_PLACE_LOW, Port.ADDRESS_LOW)
        self.move(_PLACE_HIGH, Port.ADDRESS_HIGH)
        self.move(immediate(1), Port.READ)
        self.add_long(_PLACE_LOW, _PLACE_HIGH, immediate(64), immediate(0))
        self.beats(0, 1)
        self.test(_WORD[0], 7)
        self.store(_OPCODE)
        self.jump("end", Operation.JZ)
        self.do(Operation.ADD, immediate(-5))
        self.jump("bad", Operation.JC)
        self.wait(Condition.MEMORY_IDLE)
        self.load(_OPCODE, immediate(-Opcode.WEIGHTS.value))
        self.jump("fetch weights", Operation.JZ)
        self.do(Operation.ADD, immediate(-1))
        self.jump("fetch compute", Operation.JZ)
        self.load(immediate(6))
        self.jump("fetch fields")
        self.label("fetch compute")
        self.load(immediate(12))
        self.jump("fetch fields")
        self.label("fetch weights")
        self.load(immediate(3))
        self.label("fetch fields")
        self.out(Port.READ)
        self.beats(2, 7)
        self.load(_OPCODE, immediate(-Opcode.WEIGHTS.value))
        self.jump("weights", Operation.JZ)
        self.beats(8, 13)
        self.load(_OPCODE, immediate(-Opcode.COMPUTE.value))
        self.jump("compute", Operation.JZ)

    def transfer(self) -> None:
        """LOAD and STORE: each row is one transfer."""
        self.load(immediate(1))
        self.store(_COUNT)
        self.load(_OPCODE, immediate(-Opcode.LOAD.value))
        self.jump("is load", Operation.JZ)
        self.load(immediate(2))
        self.store(_COUNT)
        self.label("is load")
        self.move(_COUNT, Port.UNIT)
        self.label("plane")
        address = _transfer("memory_address"), _transfer("memory_address", 1)
        plane_step = _transfer("memory_plane_step"), _transfer("memory_plane_step", 1)
        row_step = _transfer("memory_row_step"), _transfer("memory_row_step", 1)
        scratch = _transfer("scratch_address")
        for source, target in (*zip(address, (_ROW_LOW, _ROW_HIGH), strict=True), (scratch, _SCRATCH),
                               (_transfer("rows"), _ROWS_LEFT)):
            self.move(source, target)
        self.label("row")
        self.wait(Condition.MEMORY_IDLE)
        self.move(_SCRATCH, Port.WALK_BASE)
        self.move(_ROW_LOW, Port.ADDRESS_LOW)
        self.move(_ROW_HIGH, Port.ADDRESS_HIGH)
        self.load(_COUNT, immediate(-1))
        self.jump("row load", Operation.JZ)
        self.move(_transfer("words"), Port.STORE)
        self.jump("next row")
        self.label("row load")
        self.move(_transfer("words"), Port.LOAD)
        self.label("next row")
        self.add_long(_ROW_LOW, _ROW_HIGH, *row_step)
        self.add(_SCRATCH, _transfer("scratch_row_step"))
        self.subtract_one(_ROWS_LEFT, "row")
        self.add_long(*address, *plane_step)
        self.add(scratch, _transfer("scratch_plane_step"))
        self.subtract_one(_transfer("planes"), "plane")
        self.wait(Condition.MEMORY_IDLE)
        self.move(immediate(0), Port.UNIT)
        self.jump("fetch")

    def weights(self) -> None:
        """WEIGHTS is only remembered: address, blocks, beats of a block."""
        self.label("weights")
        blocks = _weights("blocks")
        self.load(blocks)
        self.jump("fetch", Operation.JZ)
        self.load(_weights("words", 1))
        self.jump("bad", Operation.JNZ)
        self.load(_weights("words"), accumulator)
        self.jump("bad", Operation.JC)
        self.do(Operation.ADD, immediate(8))
        self.jump("bad", Operation.JC)
        self.store(_BEATS)
        self.load(_QUEUED, immediate(-WEIGHTS_AHEAD))
        self.jump("bad", Operation.JZ)
        self.add(_QUEUED, immediate(1))
        self.load(_TAIL)
        self.index()
        address = _weights("memory_address"), _weights("memory_address", 1)
        for number, source in enumerate((*address, blocks, _BEATS)):
            self.move(source, indexed(_QUEUE + number))
        self.load(_TAIL, immediate(4))
        self.do(Operation.AND, immediate(4 * WEIGHTS_AHEAD - 1))
        self.store(_TAIL)
        self.jump("fetch")

    def compute(self) -> None:
        """COMPUTE: its settings, then its output blocks."""
        self.label("compute")
        settings = {20 + number: Port.WORD_20 + number for number in range(6)}
        self.beats(14, 17)
        self.load(port(In.BEAT_LOW))
        self.store(_WORD[18])
        self.out(Port.WORD_18)
        self.beats(19, 19)
        self.load(port(In.BEAT_LOW))
        self.store(_WORD[20])
        self.out(Port.WORD_20)
        self.beats(21, 24, settings)
        self.load(port(In.BEAT_HIGH))
        self.store(_WORD[25])
        self.out(settings[25])
        self.do(Operation.AND, immediate(1 << 4))  # average
        self.jump("bad", Operation.JNZ)
        self.do(Operation.HIGH, _WORD[18])
        self.store(_FLAGS)
        self.do(Operation.AND, immediate(_ODD_MODE | _FOLD))
        self.jump("bad", Operation.JNZ)
        self.move(_WORD[1], Port.LAYER)

        # fields that lie across two words, shifted by one bit
        self.load(_WORD[18], accumulator)
        for number, target in ((19, _DESTINATION_PLANE), (20, _DESTINATION_ROW)):
            self.load(_WORD[number])
            self.do(Operation.ADC, accumulator)
            self.store(target)
        for field, target in (("output_rows", Port.ROWS), ("output_columns", Port.COLUMNS),
                              ("image_rows", Port.IMAGE_ROWS), ("image_columns", Port.IMAGE_COLUMNS)):
            self.move(_compute(field), target)
        self.move(immediate(0), Port.SUMS)
        # 12 bits of inputs, 12 bits of outputs in words 17 and 18
        counts = _compute("input_blocks")
        self.load(counts)
        for _ in range(4):
            self.do(Operation.ADD, accumulator)
        for _ in range(4):
            self.do(Operation.SHR, accumulator)
        self.store(_INPUTS)
        self.do(Operation.HIGH, counts)
        for _ in range(4):
            self.do(Operation.SHR, accumulator)
        self.store(_OUTPUTS)
        self.test(_WORD[18], 0xFF)
        for _ in range(4):
            self.do(Operation.ADD, accumulator)
        self.do(Operation.ADD, _OUTPUTS)
        self.store(_OUTPUTS)

        # maxima hold their weights, which are all 1 and are not looked at
        self.test(_FLAGS, _MAXIMUM_MODE)
        self.do(Operation.ADD, accumulator)
        self.do(Operation.ADD, accumulator)
        self.store(_MAXIMUM)
        self.test(_FLAGS, _MAXIMUM_MODE | _HOLD)
        self.store(_HOLDS)

        self.label("block")
        self.take_block()
        self.move(_compute("source_row_step"), Port.ROW_STEP)
        self.move(_compute("stride_rows"), Port.STRIDES)  # and columns
        self.move(immediate(0), _PAIR)
        self.label("pair")
        self.passes()
        self.load(_HOLDS)
        self.jump("block done", Operation.JZ)
        self.load(_PAIR)
        self.jump("block done", Operation.JNZ)
        self.move(immediate(_SECOND_PAIR), _PAIR)
        self.jump("pair")
        self.label("block done")
        self.wait(Condition.ARRAY_IDLE)
        self.out(Port.DROP)
        self.wait(Condition.MEMORY_IDLE)
        self.test(_FLAGS, _PARTIAL)
        self.jump("next sums", Operation.JNZ)
        self.move(_DESTINATION, Port.WALK_BASE)
        self.move(_DESTINATION_ROW, Port.ROW_STEP)
        self.load(immediate(255), immediate(1))  # strides of 0 rows, 1 column
        self.out(Port.STRIDES)
        self.out(Port.POST)
        self.wait(Condition.POST_IDLE)
        self.add(_DESTINATION, _DESTINATION_PLANE)
        self.test(_FLAGS, _CONTINUES)
        self.jump("same sums", Operation.JZ)
        self.label("next sums")
        self.move(immediate(1), Port.SUMS)
        self.label("same sums")
        self.load(_MAXIMUM)
        self.jump("same plane", Operation.JZ)
        self.add(_SOURCE, _compute("source_plane_step"))
        self.label("same plane")
        self.subtract_one(_OUTPUTS, "block")
        self.jump("fetch")

    def take_block(self) -> None:
        """Begin to read the next output block's parameters and weights, and take the parameters."""
        self.load(_BLOCKS)
        self.jump("has block", Operation.JNZ)
        self.load(_QUEUED)
        self.jump("bad", Operation.JZ)
        self.add(_QUEUED, immediate(-1))
        self.load(_HEAD)
        self.index()
        for number, target in enumerate((_STREAM_LOW, _STREAM_HIGH, _BLOCKS, _BEATS)):
            self.move(indexed(_QUEUE + number), target)
        self.load(_HEAD, immediate(4))
        self.do(Operation.AND, immediate(4 * WEIGHTS_AHEAD - 1))
        self.store(_HEAD)
        self.label("has block")
        self.add(_BLOCKS, immediate(-1))
        self.move(_STREAM_LOW, Port.ADDRESS_LOW)
        self.move(_STREAM_HIGH, Port.ADDRESS_HIGH)
        self.move(_BEATS, Port.READ)
        self.move(immediate(4), _COUNT)  # bytes of a beat
        self.label("add beats")
        self.add_long(_STREAM_LOW, _STREAM_HIGH, _BEATS, immediate(0))
        self.subtract_one(_COUNT, "add beats")
        for lane in range(4):
            self.move(port(In.BEAT_LOW), memory(_BIASES + 2 * lane))
            self.move(port(In.BEAT_HIGH), memory(_BIASES + 2 * lane + 1))
            self.move(port(In.BEAT_LOW), Port.SHIFT)
            self.load(port(In.BEAT_HIGH))

    def passes(self) -> None:
        """All passes of a block: of both pairs of lanes, or of one, where weights are held."""
        self.load(_PAIR, _MAXIMUM, immediate(_LOAD))
        self.store(_COMMAND)
        self.test(_FLAGS, _CONTINUES)
        self.jump("continues", Operation.JNZ)
        self.add(_COMMAND, immediate(_FIRST))
        self.label("continues")
        self.load(_PAIR, _MAXIMUM)
        self.store(_NEXT_COMMAND)
        self.load(_HOLDS)
        self.jump("holds", Operation.JNZ)
        self.move(immediate(_LOAD | _BOTH), _NEXT_COMMAND)
        self.label("holds")

        self.move(_SOURCE, _INPUT_BASE)
        self.move(_INPUTS, _INPUTS_LEFT)
        self.label("input block")
        self.move(_INPUT_BASE, _ROW_BASE)
        self.move(_compute("origin_row"), _ROW)
        kernel, dilation = _compute("kernel_rows"), _compute("dilation_rows")  # and of columns
        self.test(kernel, 0xFF)
        self.store(_ROWS_LEFT)
        self.label("kernel row")
        self.move(_ROW_BASE, _BASE)
        self.move(_compute("origin_column"), _COLUMN)
        self.do(Operation.HIGH, kernel)
        self.store(_COLUMNS_LEFT)
        self.label("tap")
        self.wait(Condition.SWEEP_TAKEN)
        self.move(_BASE, Port.WALK_BASE)
        self.move(_ROW, Port.WALK_ROW)
        self.move(_COLUMN, Port.WALK_COLUMN)
        self.load(_COMMAND)
        self.do(Operation.SUB, _NEXT_COMMAND)
        self.jump("other pass", Operation.JNZ)
        self.move(_COMMAND, Port.SWEEP)
        self.label("swept")
        self.do(Operation.HIGH, dilation)
        self.store(_COUNT)
        self.add(_BASE, _COUNT)
        self.add(_COLUMN, _COUNT)
        self.subtract_one(_COLUMNS_LEFT, "tap")
        self.add(_ROW_BASE, _compute("source_tap_row_step"))
        self.test(dilation, 0xFF)
        self.do(Operation.ADD, _ROW)
        self.store(_ROW)
        self.subtract_one(_ROWS_LEFT, "kernel row")
        self.add(_INPUT_BASE, _compute("source_plane_step"))
        self.subtract_one(_INPUTS_LEFT, "input block")

    def other_passes(self) -> None:
        """The first pass of a block, whose command is another than that of the others."""
        self.label("other pass")
        self.test(_COMMAND, _FIRST)
        self.jump("no biases", Operation.JZ)
        self.biases()
        self.label("no biases")
        self.move(_COMMAND, Port.SWEEP)
        self.load(_HOLDS)
        self.jump("pass begun", Operation.JNZ)
        self.load(_PAIR)
        self.jump("both begun", Operation.JNZ)
        self.move(immediate(_SECOND_PAIR), _PAIR)
        self.add(_COMMAND, _PAIR)
        self.wait(Condition.SWEEP_TAKEN)
        self.jump("other pass")
        self.label("both begun")
        self.move(immediate(0), _PAIR)
        self.label("pass begun")
        self.move(_NEXT_COMMAND, _COMMAND)
        self.jump("swept")

    def biases(self) -> None:
        """Give the array a pair's biases, when no sweep needs those that are there."""
        self.wait(Condition.ARRAY_IDLE)
        self.load(_PAIR)
        self.do(Operation.ADD, accumulator)
        self.do(Operation.ADD, accumulator)
        self.index()
        for number in range(4):
            self.move(indexed(_BIASES + number), Port.BIAS + number)

    def end(self) -> None:
        """END, or what no machine of this kind may execute."""
        self.label("bad")
        self.out(Port.BAD)
        self.label("end")
        self.out(Port.DROP)
        self.wait(Condition.MEMORY_IDLE)
        self.out(Port.DONE)
        self.label("ended")
        self.jump("ended")


@cache
def small_firmware() -> tuple[int, ...]:
    """The microprogram's words."""
    code = _Firmware()
    code.start()
    code.fetch()
    code.transfer()
    code.weights()
    code.compute()
    code.other_passes()
    code.end()
    return tuple(code.words())
