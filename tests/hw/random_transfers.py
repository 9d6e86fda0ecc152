"""Random instructions for the units that move data, and what they ask for: for tests only."""

from __future__ import annotations

import random
from dataclasses import replace

from amaranth.hdl import Shape

from hw.fetch import QUEUED
from hw.isa import HEADER, NARROW_BYTES, Instruction, Opcode, layout_of
from hw.machine import Machine

__all__ = ["MEMORY_BYTES", "beats_of", "expected_words", "fields_of", "loaded_word", "places",
           "random_instruction", "random_load", "random_stores", "similar_instructions"]

#: Bytes of the memory in which the data of LOAD and STORE lie.
MEMORY_BYTES = 1 << 16


def random_load(rng: random.Random, machine: Machine, *, largest: int = 200) -> Instruction:
    """A LOAD, wide or narrow, whose words lie in memory and scratchpad; rows may overlap in memory, not in
    the scratchpad."""
    narrow = rng.random() < 0.5
    together = max(machine.bus_bytes // NARROW_BYTES, 1) if narrow else 1
    while True:
        planes, rows = rng.choice([(1, 1), (1, rng.randint(1, 12)), (rng.randint(1, 4), rng.randint(1, 5))])
        words = rng.choice([1, 1, 2, 3, rng.randint(1, 40), rng.randint(1, largest)])
        words = -(-words // together) * together
        row_step = words + rng.randint(0, 5)
        plane_step = row_step * rows + rng.randint(0, 9)
        span = plane_step * planes
        if span <= machine.scratchpad_words and planes * rows * words <= largest:
            break
    word = machine.bus_bytes if narrow else machine.word_bytes
    memory_row, memory_plane = rng.randint(0, 60) * word, rng.randint(0, 300) * word
    extent = (planes - 1) * memory_plane + (rows - 1) * memory_row + words * machine.word_bytes
    return Instruction(
        Opcode.LOAD,
        {
            "memory_address": rng.randrange(0, (MEMORY_BYTES - extent) // word) * word,
            "memory_plane_step": memory_plane,
            "memory_row_step": memory_row,
            "scratch_address": rng.randint(0, machine.scratchpad_words - span),
            "scratch_plane_step": plane_step,
            "scratch_row_step": row_step,
            "planes": planes,
            "rows": rows,
            "words": words,
            "narrow": int(narrow),
        },
        signal=rng.randrange(8),
        wait=rng.randrange(8),
    )


def random_stores(
    rng: random.Random, machine: Machine, count: int, *, largest: int = 150
) -> list[Instruction]:
    """STOREs that write different places."""
    codes: list[Instruction] = []
    word = machine.word_bytes
    free = rng.randrange(0, 40) * word
    while len(codes) < count:
        planes, rows = rng.choice([(1, 1), (1, rng.randint(1, 12)), (rng.randint(1, 4), rng.randint(1, 5))])
        words = rng.choice([1, 1, 2, 3, rng.randint(1, 40), rng.randint(1, largest)])
        memory_row = (words + rng.randint(0, 5)) * word
        memory_plane = memory_row * rows + rng.randint(0, 9) * word
        if planes * rows * words > largest or free + planes * memory_plane > MEMORY_BYTES:
            continue
        # words may be stored more than once, and steps may go backwards
        row_step, plane_step = rng.randint(0, 2 * words), rng.randint(0, 50)
        span = (rows - 1) * row_step + (planes - 1) * plane_step + words
        if span > machine.scratchpad_words:
            continue
        codes.append(
            Instruction(
                Opcode.STORE,
                {
                    "memory_address": free,
                    "memory_plane_step": memory_plane,
                    "memory_row_step": memory_row,
                    "scratch_address": rng.randint(0, machine.scratchpad_words - span),
                    "scratch_plane_step": plane_step,
                    "scratch_row_step": row_step,
                    "planes": planes,
                    "rows": rows,
                    "words": words,
                },
                signal=rng.randrange(8),
                wait=rng.randrange(8),
            )
        )
        free += planes * memory_plane + rng.randint(0, 20) * word
        if rng.random() < 0.3:
            free = min(-(-free // 4096) * 4096 - rng.randint(0, 3) * word, MEMORY_BYTES)
    return codes


def places(code: Instruction, word_bytes: int) -> list[tuple[int, int]]:
    """Memory and scratchpad addresses of the words of a LOAD or STORE, in order."""
    if code.opcode is Opcode.LOAD and code["narrow"]:
        word_bytes = NARROW_BYTES
    return [
        (
            (
                code["memory_address"]
                + plane * code["memory_plane_step"]
                + row * code["memory_row_step"]
                + word * word_bytes
            )
            % 2**32,
            (
                code["scratch_address"]
                + plane * code["scratch_plane_step"]
                + row * code["scratch_row_step"]
                + word
            )
            % 2**16,
        )
        for plane in range(code["planes"])
        for row in range(code["rows"])
        for word in range(code["words"])
    ]


def loaded_word(code: Instruction, memory: bytes | bytearray, at: int, word_bytes: int) -> int:
    """What a LOAD makes of the bytes at one of its `places`."""
    size = NARROW_BYTES if code["narrow"] else word_bytes
    return int.from_bytes(memory[at : at + size], "little")


def beats_of(code: Instruction, machine: Machine) -> int:
    """Beats that a LOAD reads."""
    words = code["planes"] * code["rows"] * code["words"]
    return words * (NARROW_BYTES if code["narrow"] else machine.word_bytes) // machine.bus_bytes


def expected_words(machine: Machine, memory: bytes, codes: list[Instruction]) -> list[tuple[int, int]]:
    """Data and mark of all that leaves the weight FIFO, a cycle's together."""
    words, step = [], machine.weight_word_bytes
    for code in codes:
        address = code["memory_address"]
        found = []
        for _ in range(code["blocks"]):
            for size, mark in ((machine.parameter_bytes, 1), (code["words"] * machine.weight_word_bytes, 0)):
                for at in range(address, address + size, step):
                    found.append((int.from_bytes(memory[at : at + step], "little"), mark))
                address += size
        words += found * (code["repeats"] + 1)
    return words


def random_instruction(rng: random.Random) -> Instruction:
    """Any fields at all."""
    opcode = rng.choice(list(QUEUED))
    fields = {}
    for name, member in layout_of(opcode).members.items():
        if name in HEADER or name.startswith("_"):
            continue
        shape = Shape.cast(member)
        low = -(1 << shape.width - 1) if shape.signed else 0
        fields[name] = rng.randint(0, 2) if name == "mode" else low + rng.getrandbits(shape.width)
    return Instruction(
        opcode, fields, wait=rng.randrange(8), signal=rng.randrange(8), layer=rng.randrange(1 << 16)
    )


def similar_instructions(rng: random.Random, count: int) -> list[Instruction]:
    """Any instructions, most of which differ in a few fields from the one with their opcode before."""
    found: list[Instruction] = []
    newest: dict[Opcode, Instruction] = {}
    for _ in range(count):
        code = random_instruction(rng)
        before = newest.get(code.opcode)
        if before is not None and rng.random() < 0.8:
            kept = {name: value for name, value in before.fields.items() if rng.random() < 0.9}
            code = replace(code, fields={**code.fields, **kept}, layer=rng.choice([code.layer, before.layer]))
        newest[code.opcode] = code
        found.append(code)
    return found


def fields_of(code: Instruction) -> dict[str, int]:
    """What the unit must see."""
    fields = dict(code.fields)
    if code.opcode is not Opcode.WEIGHTS:
        fields |= {"wait": code.wait, "signal": code.signal}
    if code.opcode is Opcode.COMPUTE:
        fields["layer"] = code.layer
    return fields
