"""WEIGHTS that would read the same again become one that is given again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.dependencies import Scheduled
from hw.isa import Opcode
from hw.machine import Machine

__all__ = ["most_repeated_bytes", "repeat_weights"]

_MOST_REPEATS = 65535
_FIELDS = ("memory_address", "blocks", "words")


def most_repeated_bytes(machine: Machine) -> int:
    """Most bytes that are kept in the weight FIFO to be given again: so many that what follows can still be
    read ahead."""
    return 0 if machine.in_order else machine.weight_fifo_words * machine.bus_bytes // 4


def repeat_weights(program: Sequence[Scheduled], machine: Machine) -> list[Scheduled]:
    """The program with WEIGHTS that read what the WEIGHTS before them have read joined to these.

    Parameters
    ----------
    program : sequence of Scheduled
        In execution order; unchanged.
    machine : Machine
    """
    found: list[Scheduled] = []
    last = -1  # the newest WEIGHTS in `found`
    for scheduled in program:
        instruction = scheduled.instruction
        if instruction.opcode is Opcode.WEIGHTS:
            size = machine.parameter_bytes + instruction["words"] * machine.weight_word_bytes
            size *= instruction["blocks"]
            if last >= 0 and size <= most_repeated_bytes(machine):
                before = found[last].instruction
                same = all(before[name] == instruction[name] for name in _FIELDS)
                if same and before.layer == instruction.layer and before["repeats"] < _MOST_REPEATS:
                    words = size // machine.weight_word_bytes
                    fields = {**before.fields, "repeats": before["repeats"] + 1, "repeated_words": words}
                    found[last] = replace(found[last], instruction=replace(before, fields=fields))
                    continue
            last = len(found)
        found.append(scheduled)
    return found
