"""The instructions of the small core's controller, and an assembler for its microprogram.

A word of the microprogram has 16 bits: operation 15..12, indexed 11, source 10..9, operand 8..0.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["DATA_WORDS", "PROGRAM_WORDS", "Assembler", "Condition", "In", "Operand", "Operation", "Port",
           "Source", "accumulator", "immediate", "indexed", "memory", "port"]

#: Words of the microprogram's and of the data memory.
PROGRAM_WORDS = 512
DATA_WORDS = 256


class Operation(enum.IntEnum):
    """A is the accumulator (16 bits), B the operand, C the carry."""

    LD = 0    #: A = B
    ADD = 1   #: A = A + B, C
    ADC = 2   #: A = A + B + C, C
    SUB = 3   #: A = A - B; C: no borrow
    AND = 4   #: A = A & B
    SHR = 5   #: A = B >> 1
    HIGH = 6  #: A = B >> 8
    ST = 7    #: memory = A
    OUT = 8   #: port = A
    JMP = 9
    JZ = 10   #: if A == 0
    JNZ = 11
    JC = 12   #: if C
    WAIT = 13  #: until a condition is met
    LDX = 14  #: X = A


class Source(enum.IntEnum):
    """Where B comes from."""

    MEMORY = 0       #: the data memory, at the operand, plus X if indexed
    IMMEDIATE = 1    #: the operand, signed
    IN = 2           #: `In`
    ACCUMULATOR = 3  #: A


class In(enum.IntEnum):
    """What the controller reads besides its memory."""

    BEAT_LOW = 0      #: bits 15..0 of the bus beat that has come; waits for it
    BEAT_HIGH = 1     #: bits 31..16, and the beat is taken
    PROGRAM_LOW = 2   #: the program's address
    PROGRAM_HIGH = 3


class Port(enum.IntEnum):
    """What the controller writes."""

    ADDRESS_LOW = 0
    ADDRESS_HIGH = 1
    READ = 2          #: begin to read so many beats
    LOAD = 3          #: begin to read so many beats into the scratchpad
    STORE = 4         #: begin to write so many beats from the scratchpad
    DROP = 5          #: take the beats that are left
    WALK_BASE = 6
    WALK_ROW = 7
    WALK_COLUMN = 8
    ROW_STEP = 9
    STRIDES = 10      #: of rows, of columns
    IMAGE_ROWS = 11
    IMAGE_COLUMNS = 12
    ROWS = 13
    COLUMNS = 14
    SWEEP = 15        #: begin a sweep: `hw.small_array.Command`
    SUMS = 16         #: where sums begin: 0, or else behind the last ones
    POST = 17         #: begin post-processing
    SHIFT = 18        #: the next lane's right shift
    LAYER = 19
    BIAS = 20         #: and 21 to 23: of a pair of lanes
    WORD_18 = 24      #: words of a COMPUTE instruction
    WORD_20 = 25      #: and 26 to 30: words 21 to 25
    UNIT = 32         #: bit 0: a LOAD is executed, bit 1: a STORE
    DONE = 33
    BAD = 34


class Condition(enum.IntEnum):
    """What WAIT waits for."""

    MEMORY_IDLE = 0
    SWEEP_TAKEN = 1   #: the newest sweep has begun
    ARRAY_IDLE = 2
    POST_IDLE = 3


@dataclass(frozen=True)
class Operand:
    """The lower 12 bits of a word."""

    source: Source
    value: int
    is_indexed: bool = False


#: B is A.
accumulator = Operand(Source.ACCUMULATOR, 0)


def memory(address: int) -> Operand:
    """A word of the data memory."""
    return Operand(Source.MEMORY, address)


def indexed(address: int) -> Operand:
    """A word of the data memory, X behind this one."""
    return Operand(Source.MEMORY, address, True)


def immediate(value: int) -> Operand:
    """A number from -256 to 255."""
    if not -256 <= value <= 255:
        raise ValueError(f"an immediate must be -256 to 255, not {value}")
    return Operand(Source.IMMEDIATE, value & 0x1FF)


def port(source: In) -> Operand:
    """One of `In`."""
    return Operand(Source.IN, source)


class Assembler:
    """Collects a microprogram; every method appends one word."""

    def __init__(self) -> None:
        self._words: list[tuple[Operation, Operand | str]] = []
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        """Name the next word's address."""
        if name in self._labels:
            raise ValueError(f"label {name} twice")
        self._labels[name] = len(self._words)

    def load(self, *operands: Operand) -> None:
        """LD of the first operand; the others are added."""
        for number, operand in enumerate(operands):
            self._words.append((Operation.ADD if number else Operation.LD, operand))

    def do(self, operation: Operation, operand: Operand) -> None:
        """An operation on A."""
        self._words.append((operation, operand))

    def store(self, target: Operand) -> None:
        """ST."""
        self._words.append((Operation.ST, target))

    def move(self, source: Operand, target: Operand | int) -> None:
        """LD, then ST or OUT."""
        self.load(source)
        self.store(target) if isinstance(target, Operand) else self.out(target)

    def out(self, target: Port | int) -> None:
        """OUT."""
        self._words.append((Operation.OUT, Operand(Source.MEMORY, int(target))))

    def wait(self, condition: Condition) -> None:
        """WAIT."""
        self._words.append((Operation.WAIT, Operand(Source.MEMORY, int(condition))))

    def index(self) -> None:
        """LDX."""
        self._words.append((Operation.LDX, Operand(Source.MEMORY, 0)))

    def jump(self, label: str, operation: Operation = Operation.JMP) -> None:
        """JMP, JZ, JNZ or JC."""
        self._words.append((operation, label))

    def words(self) -> list[int]:
        """The microprogram.

        Raises
        ------
        ValueError
            If a label is missing or the program is too long.
        """
        if len(self._words) > PROGRAM_WORDS:
            raise ValueError(f"{len(self._words)} words, there is room for {PROGRAM_WORDS}")
        encoded = []
        for operation, operand in self._words:
            if isinstance(operand, str):
                if operand not in self._labels:
                    raise ValueError(f"no label {operand}")
                operand = Operand(Source.MEMORY, self._labels[operand])
            low = int(operand.is_indexed) << 11 | operand.source << 9 | operand.value
            encoded.append(operation << 12 | low)
        return encoded
