"""Programs as bytes: instructions one after another, without words that they share.

An instruction is eight words of 8 bytes.  A program may leave out those of its words that are the same as
in the newest instruction before it with its opcode; seven bits of the first word say which.  Of END there is
the first word alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hw.isa import INSTRUCTION_BYTES, Instruction, Opcode, assemble, disassemble
from hw.machine import Machine

__all__ = ["LEFT_OUT", "WORD_BYTES", "ProgramDecoder", "assemble_program", "bytes_of", "disassemble_program",
           "leave_out_words"]

#: Bytes of the words that may be left out.
WORD_BYTES = 8
#: Bits of the first word that say which of the others are left out, the second word's first.
LEFT_OUT = slice(9, 16)

_WORDS = INSTRUCTION_BYTES // WORD_BYTES
_ALL = (1 << _WORDS - 1) - 1


def _words(instruction: Instruction) -> list[bytes]:
    code = assemble(instruction)
    return [code[at:at + WORD_BYTES] for at in range(0, INSTRUCTION_BYTES, WORD_BYTES)]


def leave_out_words(instructions: Iterable[Instruction], where: Callable[[Instruction], bool]) -> None:
    """Set ``left_out`` of a program's instructions ``where`` it may be anything."""
    newest: dict[Opcode, list[bytes]] = {}
    for instruction in instructions:
        words = _words(instruction)
        before = newest.get(instruction.opcode)
        if before is not None and where(instruction):
            same = (words[number + 1] == before[number + 1] for number in range(_WORDS - 1))
            instruction.left_out = sum(one << number for number, one in enumerate(same))
        newest[instruction.opcode] = words


def bytes_of(instruction: Instruction) -> int:
    """Bytes that an instruction other than END takes in a program."""
    return INSTRUCTION_BYTES - WORD_BYTES * instruction.left_out.bit_count()


def assemble_program(instructions: Sequence[Instruction], machine: Machine) -> bytes:
    """A program's bytes, up to a multiple of 64.

    Parameters
    ----------
    instructions : sequence of Instruction
        Without END, which is added.
    machine : Machine

    Raises
    ------
    ValueError
        If a field is unknown or its value does not fit; if the machine executes in order and a word is left
        out.
    """
    if machine.in_order and any(instruction.left_out for instruction in instructions):
        raise ValueError("a machine that executes in order takes instructions with all their words")
    code = bytearray()
    for instruction in instructions:
        first, *others = _words(instruction)
        code += first
        for number, word in enumerate(others):
            if not instruction.left_out >> number & 1:
                code += word
    code += assemble(Instruction(Opcode.END))[:INSTRUCTION_BYTES if machine.in_order else WORD_BYTES]
    return bytes(code.ljust(-(-len(code) // INSTRUCTION_BYTES) * INSTRUCTION_BYTES, b"\0"))


class ProgramDecoder:
    """Takes a program apart, one instruction after another."""

    def __init__(self) -> None:
        self._newest: dict[int, list[bytes]] = {}

    def next(self, code: bytes) -> tuple[Instruction, int]:
        """The instruction at the start of some bytes, and how many it takes.

        Raises
        ------
        ValueError
            If its opcode does not exist, if it leaves out words of which there are none before, or if it
            does not end.
        """
        first = int.from_bytes(code[:WORD_BYTES], "little")
        opcode = first & 7
        if len(code) < WORD_BYTES:
            raise ValueError("the program ends without END")
        if opcode == Opcode.END.value:
            return Instruction(Opcode.END), WORD_BYTES
        mask = first >> LEFT_OUT.start & _ALL
        words, size = [code[:WORD_BYTES]], WORD_BYTES
        for number in range(1, _WORDS):
            if mask >> number - 1 & 1:
                if opcode not in self._newest:
                    raise ValueError("it leaves out words, and no instruction before it has its opcode")
                words.append(self._newest[opcode][number])
            else:
                words.append(code[size:size + WORD_BYTES])
                size += WORD_BYTES
        if size > len(code):
            raise ValueError("the program ends in the middle of an instruction")
        self._newest[opcode] = words
        return disassemble(b"".join(words)), size


def disassemble_program(code: bytes) -> list[Instruction]:
    """The instructions that `assemble_program` made into these bytes, without END.

    Raises
    ------
    ValueError
        As `ProgramDecoder.next`.
    """
    decoder, found, at = ProgramDecoder(), list[Instruction](), 0
    while True:
        instruction, size = decoder.next(code[at:at + INSTRUCTION_BYTES])
        if instruction.opcode is Opcode.END:
            return found
        found.append(instruction)
        at += size
