"""The instruction set, declared once: assembler, disassembler, simulator and RTL use these layouts.

Every instruction is 64 bytes: a header that all units share, then the fields of one unit.  In a program
it may take fewer (`hw.program_code`).  What the fields mean, bit for bit, is in `docs/machine.md`.
"""

from __future__ import annotations

import enum as py_enum
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data, enum

__all__ = [
    "COMPUTE", "END", "HEADER", "INSTRUCTION_BYTES", "LOAD", "MAXIMUM_TOKENS", "NARROW_BYTES", "STORE",
    "WEIGHTS", "Instruction", "Mode", "Opcode", "Unit", "assemble", "disassemble", "layout_of",
]

INSTRUCTION_BYTES = 64

#: Most tokens that may be waiting between one pair of units.
MAXIMUM_TOKENS = 255

#: Bytes of a pixel in memory where a LOAD is ``narrow``.
NARROW_BYTES = 4


class Opcode(enum.Enum, shape=unsigned(3)):
    """Which unit executes an instruction."""

    END = 0
    LOAD = 1
    WEIGHTS = 2
    COMPUTE = 3
    STORE = 4


class Mode(enum.Enum, shape=unsigned(2)):
    """What the array does with a scratchpad word."""

    DENSE = 0      #: every output lane sums the products of all input lanes
    DEPTHWISE = 1  #: output lane o sums the products of its own channel at one tap for each input lane
    MAXIMUM = 2    #: output lane o keeps the largest product of channel o
    THIN = 3       #: as DENSE with one to four channels: input lanes are channels of several taps

    @property
    def reads_taps(self) -> bool:
        """Whether input lanes are taps of the kernel, many of which are read at once."""
        return self in (Mode.DEPTHWISE, Mode.THIN)

    @property
    def shares_inputs(self) -> bool:
        """Whether all output lanes see the same channels; else each sees its own."""
        return self in (Mode.DENSE, Mode.THIN)


class Unit(py_enum.IntEnum):
    """Bit positions of the units in the token masks ``wait`` and ``signal``."""

    LOAD = 0
    COMPUTE = 1
    STORE = 2


#: Shared by all instructions.  ``wait``: take one token from each named unit before starting.
#: ``signal``: give one token to each named unit when everything has been done.
HEADER: dict[str, Any] = {
    "opcode": Opcode,
    "wait": unsigned(3),
    "signal": unsigned(3),
    "_left_out": unsigned(7),  # which words a program leaves out: see `hw.program_code`
    "layer": unsigned(16),
}

END: dict[str, Any] = {}

#: Scratchpad to memory.  Memory addresses and steps are bytes (multiples of a scratchpad word), every other
#: number is in scratchpad words.
STORE: dict[str, Any] = {
    "memory_address": unsigned(32),
    # the second word: with these a strip of a layer differs from the one before
    "scratch_address": unsigned(16),
    "words": unsigned(16),
    "rows": unsigned(16),
    "planes": unsigned(16),
    "memory_plane_step": unsigned(32),
    "memory_row_step": unsigned(32),
    "scratch_plane_step": unsigned(16),
    "scratch_row_step": unsigned(16),
}

#: Memory to scratchpad: the fields of `STORE`, and one more.
LOAD: dict[str, Any] = {
    **STORE,
    "narrow": unsigned(1),               # memory has `NARROW_BYTES` of each word, of beats that are whole
}

#: Memory to weight FIFO: ``blocks`` times one parameter block, then ``words`` of `Machine.weight_word_bytes`,
#: which hold the block's tiles, encoded as its parameters say.
WEIGHTS: dict[str, Any] = {
    "memory_address": unsigned(32),
    "blocks": unsigned(16),
    "words": unsigned(32),
    "repeats": unsigned(16),             # all of it is given so many times again, without being read again
    "repeated_words": unsigned(16),      # with repeats: how many weight words it is, at most the FIFO
}

COMPUTE: dict[str, Any] = {
    # these make up the first two words, with which a strip of a layer differs from the one before
    "source_address": unsigned(16),      # word of the first window's corner, modulo 2^16
    "destination_address": unsigned(16),  # first word of the output
    "origin_row": signed(16),            # where the first window lies on the image part in the scratchpad
    "origin_column": signed(16),
    "output_rows": unsigned(16),
    "output_columns": unsigned(16),
    # where input words are
    "source_plane_step": unsigned(16),
    "source_row_step": unsigned(16),     # stride_rows * row pitch
    "source_tap_row_step": unsigned(16),  # dilation_rows * row pitch
    # the image part that is in the scratchpad, and the windows on it
    "image_rows": unsigned(16),
    "image_columns": unsigned(16),
    "stride_rows": unsigned(8),
    "stride_columns": unsigned(8),
    "dilation_rows": unsigned(8),
    "dilation_columns": unsigned(8),
    "kernel_rows": unsigned(8),
    "kernel_columns": unsigned(8),
    "slot_columns": unsigned(9),         # of a kernel row, with those that are no taps
    "thin_channels": unsigned(3),        # 1 to 4, THIN only
    # loop bounds
    "first_block": unsigned(4),          # in blocks of input_lanes channels inside the first word
    "input_blocks": unsigned(12),
    "output_blocks": unsigned(12),
    "mode": Mode,
    "input_signed": unsigned(1),
    "hold_weights": unsigned(1),         # one tile for all passes of an output block
    "continues": unsigned(1),            # sums begin with those that the instruction before has left
    "partial": unsigned(1),              # and are left for the next one, instead of being written; with
                                         # either, sums of all output blocks are kept, one behind the other
    "fold": unsigned(1),                 # pixels are further products of one sum, each with a tile of its own
    # where output words go
    "destination_plane_step": unsigned(16),
    "destination_row_step": unsigned(16),
    # post-processing
    "low": signed(9),
    "high": signed(9),
    "residual": unsigned(1),
    "residual_signed": unsigned(1),
    "residual_offset": unsigned(16),     # residual word = destination word + offset, modulo 2^16
    "own_shift": unsigned(4),            # left shift of this layer's value before the sum
    "residual_shift": unsigned(4),       # left shift of the residual before the sum
    "sum_shift": signed(7),              # right shift of the sum (negative: left)
    "sum_low": signed(9),
    "sum_high": signed(9),
    "average": unsigned(1),              # divide instead of shifting
    "divisor": unsigned(14),
    "divisor_shift": signed(5),          # quotient = accumulator * 2^divisor_shift / divisor
    "pairs": unsigned(1),                # two weights of 4 bits in a byte, for twice the input lanes
}

_FIELDS: dict[Opcode, dict[str, Any]] = {
    Opcode.END: END, Opcode.LOAD: LOAD, Opcode.WEIGHTS: WEIGHTS,
    Opcode.COMPUTE: COMPUTE, Opcode.STORE: STORE,
}


def layout_of(opcode: Opcode) -> data.StructLayout:
    """The 512-bit layout of the instructions with this opcode, header included."""
    members = {**HEADER, **_FIELDS[opcode]}
    used = sum(Shape.cast(shape).width for shape in members.values())
    return data.StructLayout({**members, "_padding": unsigned(8 * INSTRUCTION_BYTES - used)})


@dataclass
class Instruction:
    """One instruction: its opcode, tokens, layer number and the fields of its unit by name.

    Fields that are not given are zero.  ``left_out``: which words a program leaves out (`hw.program_code`).
    """

    opcode: Opcode
    fields: dict[str, int] = field(default_factory=dict)
    wait: int = 0
    signal: int = 0
    layer: int = 0
    left_out: int = 0

    def __getitem__(self, name: str) -> int:
        if name not in _FIELDS[self.opcode]:
            raise KeyError(f"{self.opcode.name} has no field {name}")
        return self.fields.get(name, 0)


def assemble(instruction: Instruction) -> bytes:
    """The 64 bytes of an instruction, little-endian.

    Raises
    ------
    ValueError
        If a field is unknown or its value does not fit.
    """
    values: dict[str, int] = {"opcode": instruction.opcode.value, "wait": instruction.wait,
                              "signal": instruction.signal, "layer": instruction.layer,
                              "_left_out": instruction.left_out,
                              **{name: int(value) for name, value in instruction.fields.items()}}
    shapes = {**HEADER, **_FIELDS[instruction.opcode]}
    word, position = 0, 0
    for name, member in shapes.items():
        shape = Shape.cast(member)
        value = values.pop(name, 0)
        low = -(1 << (shape.width - 1)) if shape.signed else 0
        high = low + (1 << shape.width) - 1
        if not low <= value <= high:
            raise ValueError(f"{instruction.opcode.name}.{name} must be {low} to {high}, not {value}")
        word |= (value & ((1 << shape.width) - 1)) << position
        position += shape.width
    if values:
        raise ValueError(f"{instruction.opcode.name} has no field {', '.join(sorted(values))}")
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def disassemble(code: bytes) -> Instruction:
    """The instruction that `assemble` made into these 64 bytes.

    Raises
    ------
    ValueError
        If the length is not 64 or the opcode does not exist.
    """
    if len(code) != INSTRUCTION_BYTES:
        raise ValueError(f"an instruction has {INSTRUCTION_BYTES} bytes, not {len(code)}")
    word = int.from_bytes(code, "little")
    try:
        opcode = Opcode(word & 7)
    except ValueError:
        raise ValueError(f"no instruction has opcode {word & 7}") from None
    values: dict[str, int] = {}
    position = 0
    for name, member in {**HEADER, **_FIELDS[opcode]}.items():
        shape = Shape.cast(member)
        value = word >> position & ((1 << shape.width) - 1)
        if shape.signed and value >> (shape.width - 1):
            value -= 1 << shape.width
        values[name] = value
        position += shape.width
    return Instruction(opcode, {name: values[name] for name in _FIELDS[opcode]},
                       wait=values["wait"], signal=values["signal"], layer=values["layer"],
                       left_out=values["_left_out"])
