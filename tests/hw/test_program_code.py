"""Programs as bytes: there and back, words left out, and bytes that are no program."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from hw.isa import INSTRUCTION_BYTES, Instruction, Opcode, assemble
from hw.machine import IN_ORDER, Machine
from hw.program_code import assemble_program, bytes_of, disassemble_program, leave_out_words

sys.path.insert(0, str(Path(__file__).parent))
from random_transfers import similar_instructions


def _same(found: list[Instruction], wanted: list[Instruction]) -> bool:
    return [assemble(one) for one in found] == [assemble(one) for one in wanted]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_there_and_back(seed: int, share: float) -> None:
    rng = random.Random(seed)
    codes = similar_instructions(rng, 40 * seed)
    leave_out_words(codes, lambda _: rng.random() < share)
    text = assemble_program(codes, Machine())
    assert _same(disassemble_program(text), codes)
    size = sum(map(bytes_of, codes)) + 8
    assert len(text) == -(-size // INSTRUCTION_BYTES) * INSTRUCTION_BYTES
    assert (size < 64 * len(codes)) == (share > 0 and seed > 0)


def test_all_words_in_order() -> None:
    codes = similar_instructions(random.Random(1), 20)
    text = assemble_program(codes, IN_ORDER)
    assert text == b"".join(map(assemble, [*codes, Instruction(Opcode.END)]))
    assert _same(disassemble_program(text), codes)
    leave_out_words(codes, lambda _: True)
    with pytest.raises(ValueError, match="takes instructions with all their words"):
        assemble_program(codes, IN_ORDER)


def test_what_is_left_out() -> None:
    first = Instruction(Opcode.LOAD, {"memory_address": 64, "words": 9, "rows": 3}, signal=2)
    other = Instruction(Opcode.STORE, {"memory_address": 64, "words": 9, "rows": 3})
    again = Instruction(Opcode.LOAD, {"memory_address": 128, "words": 9, "rows": 3}, wait=1)
    lower = Instruction(Opcode.LOAD, {"memory_address": 128, "words": 9, "rows": 2}, wait=1)
    codes = [first, other, again, lower]
    leave_out_words(codes, lambda _: True)
    assert list(map(bytes_of, codes)) == [64, 64, 8, 16]  # the row count stands in the fourth word


def test_refuses() -> None:
    codes = [Instruction(Opcode.LOAD, {"words": 5}), Instruction(Opcode.LOAD)]
    leave_out_words(codes, lambda _: True)
    text = assemble_program(codes, Machine())
    disassemble_program(text)
    with pytest.raises(ValueError, match="ends without END"):
        disassemble_program(text[:80])
    with pytest.raises(ValueError, match="in the middle of an instruction"):
        disassemble_program(text[:40])
    with pytest.raises(ValueError, match="leaves out words, and no instruction before it"):
        disassemble_program(text[64:])
    with pytest.raises(ValueError, match="no instruction has opcode 7"):
        disassemble_program(b"\x07" + text[1:])
