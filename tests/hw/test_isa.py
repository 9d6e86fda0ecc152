"""The assembler and disassembler against the Amaranth layouts that the RTL uses."""

import pytest
from amaranth.hdl import Shape
from hypothesis import given, settings
from hypothesis import strategies as st

from hw import isa
from hw.isa import Instruction, Opcode, assemble, disassemble, layout_of


@st.composite
def instructions(draw):
    opcode = draw(st.sampled_from(Opcode))
    fields = {}
    for name, field in layout_of(opcode):
        if name in isa.HEADER or name.startswith("_"):
            continue
        shape = Shape.cast(field.shape)
        low = -(1 << (shape.width - 1)) if shape.signed else 0
        high = low + (1 << shape.width) - 1
        if name == "mode":
            high = 2
        fields[name] = draw(st.one_of(st.sampled_from([low, high]), st.integers(low, high)))
    masks = st.integers(0, 7)
    return Instruction(opcode, fields, draw(masks), draw(masks), draw(st.integers(0, 65535)))


@given(instructions())
@settings(deadline=None)
def test_round_trip_and_layout(instruction):
    code = assemble(instruction)
    assert len(code) == isa.INSTRUCTION_BYTES
    assert disassemble(code) == instruction
    # the same bits through the declaration that the RTL uses
    seen = layout_of(instruction.opcode).from_bits(int.from_bytes(code, "little"))
    assert seen.opcode is instruction.opcode
    assert (seen.wait, seen.signal, seen.layer) == (instruction.wait, instruction.signal, instruction.layer)
    for name, value in instruction.fields.items():
        field = getattr(seen, name)
        assert (field.value if name == "mode" else field) == value


@pytest.mark.parametrize(("instruction", "message"), [
    (Instruction(Opcode.LOAD, {"rows": 65536}), r"LOAD.rows must be 0 to 65535, not 65536"),
    (Instruction(Opcode.COMPUTE, {"origin_row": -32769}), r"COMPUTE.origin_row must be -32768 to 32767"),
    (Instruction(Opcode.END, {"rows": 1}), r"END has no field rows"),
    (Instruction(Opcode.STORE, wait=8), r"STORE.wait must be 0 to 7"),
])
def test_assemble_refuses(instruction, message):
    with pytest.raises(ValueError, match=message):
        assemble(instruction)


def test_disassemble_refuses():
    with pytest.raises(ValueError, match="has 64 bytes, not 3"):
        disassemble(b"abc")
    with pytest.raises(ValueError, match="no instruction has opcode 7"):
        disassemble(b"\x07" + bytes(63))
