"""Programs as text, for people who debug them."""

from __future__ import annotations

from collections.abc import Iterator

from hw.isa import Instruction, Mode, Opcode, Unit
from hw.program_code import disassemble_program
from hw.program_file import ProgramFile

__all__ = ["instructions_of", "listing"]


def instructions_of(program: ProgramFile) -> list[Instruction]:
    """A program's instructions, END left out."""
    code = next(
        segment.content[program.program_address - segment.address :]
        for segment in program.segments
        if segment.address <= program.program_address < segment.address + len(segment.content)
    )
    return disassemble_program(code)


def _units(mask: int) -> str:
    return "+".join(unit.name.lower() for unit in Unit if mask >> unit & 1)


def _line(number: int, instruction: Instruction) -> str:
    fields = [
        f"{name}={Mode(value).name if name == 'mode' else value}"
        for name, value in instruction.fields.items()
        if value or name == "mode"
    ]
    tokens = []
    if instruction.wait:
        tokens.append(f"wait={_units(instruction.wait)}")
    if instruction.signal:
        tokens.append(f"signal={_units(instruction.signal)}")
    return " ".join([f"{number:6}", f"{instruction.opcode.name:8}", *tokens, *fields])


def listing(program: ProgramFile) -> Iterator[str]:
    """One line for each instruction, with a heading for each layer; fields that are zero are left out."""
    layers = {layer.number: layer for layer in program.layers}
    current = -1
    for number, instruction in enumerate([*instructions_of(program), Instruction(Opcode.END)]):
        if instruction.opcode is not Opcode.END and instruction.layer != current:
            current = instruction.layer
            layer = layers[current]
            yield f"; layer {layer.number}: {layer.name} ({layer.kind}) → {layer.tensor.name}"
        yield _line(number, instruction)
