"""Whether a program's tokens really order every pair of accesses that conflict.

Units run at the same time, so that an instruction may rely on one of another unit only if a chain of
tokens (and each unit's own order) puts that one before it.  Every unit carries a vector clock: for
each unit, the newest instruction known to be complete.  A token carries the clock of its sender.

COMPUTE instructions overlap: when one starts, the one before the one before it is complete, the one right
before it only if a token says so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

import numpy as np
from numpy.typing import NDArray

from hw.isa import MAXIMUM_TOKENS, Instruction, Opcode, Unit

__all__ = ["HazardCheck", "HazardError"]

_UNITS = {Opcode.LOAD: Unit.LOAD, Opcode.COMPUTE: Unit.COMPUTE, Opcode.STORE: Unit.STORE}


class HazardError(ValueError):
    """Tokens do not order two accesses, or a token is missing; the message names both instructions."""


class _Accesses:
    """The newest reader and writer of each word, for each unit: instruction numbers, −1 for none."""

    def __init__(self, words: int) -> None:
        self.readers = {unit: np.full(words, -1, np.int32) for unit in Unit}
        self.writers = {unit: np.full(words, -1, np.int32) for unit in Unit}


class HazardCheck:
    """Follows a program in its own order; raises `HazardError` at the first access that is not ordered.

    Parameters
    ----------
    scratchpad_words, memory_words : int
        Sizes of the two memories, in scratchpad words.
    """

    def __init__(self, scratchpad_words: int, memory_words: int) -> None:
        self._scratchpad = _Accesses(scratchpad_words)
        self._memory = _Accesses(memory_words)
        self._constant = np.zeros(memory_words, np.bool_)
        self._clock = {unit: dict.fromkeys(Unit, -1) for unit in Unit}
        pairs = [(sender, receiver) for sender in Unit for receiver in Unit]
        self._tokens: dict[tuple[Unit, Unit], deque[dict[Unit, int]]] = {pair: deque() for pair in pairs}
        self._waits: dict[tuple[Unit, Unit], list[int]] = {pair: [] for pair in pairs}
        self._signals = dict.fromkeys(pairs, 0)
        self._unit: Unit | None = None
        self._number = -1
        self._computes = [-1, -1]  # the last two COMPUTE instructions

    def start(self, number: int, instruction: Instruction) -> None:
        """An instruction begins: takes its tokens."""
        self._number = number
        self._unit = unit = _UNITS.get(instruction.opcode)
        if unit is None:
            if instruction.wait or instruction.signal:
                raise HazardError("waits or signals, which this unit cannot")
            return
        clock = self._clock[unit]
        if unit is Unit.COMPUTE:
            clock[unit] = max(clock[unit], self._computes[0])
            self._computes = [self._computes[1], number]
        for sender in Unit:
            if not instruction.wait >> sender & 1:
                continue
            tokens = self._tokens[(sender, unit)]
            if not tokens:
                raise HazardError(f"waits for a token of {sender.name} that no earlier instruction gives")
            self._waits[(sender, unit)].append(number)
            for other, newest in tokens.popleft().items():
                clock[other] = max(clock[other], newest)

    def finish(self, number: int, instruction: Instruction) -> None:
        """An instruction ends: gives its tokens."""
        unit = self._unit
        if unit is None:
            return
        complete = {**self._clock[unit], unit: number}
        if unit is not Unit.COMPUTE:
            self._clock[unit] = dict(complete)  # which goes on; what the tokens say does not
        for receiver in Unit:
            if not instruction.signal >> receiver & 1:
                continue
            pair = (unit, receiver)
            self._tokens[pair].append(complete)
            self._signals[pair] += 1
            # the receiver is sure to have taken no more than these tokens by now
            taken = bisect_right(self._waits[pair], complete[receiver])
            if self._signals[pair] - taken > MAXIMUM_TOKENS:
                raise HazardError(
                    f"more than {MAXIMUM_TOKENS} tokens can wait between {unit.name} and {receiver.name}"
                )

    def scratch(self, words: NDArray[np.int64], *, writing: bool, late: bool = False) -> None:
        """The current instruction reads or writes these scratchpad words.

        ``late``: reads a residual, which happens when its unit's instruction before has been completed.
        """
        self._access(self._scratchpad, "scratchpad", words, writing, late)

    def memory(self, words: NDArray[np.int64], *, writing: bool) -> None:
        """The current instruction reads or writes these words of external memory."""
        if writing and self._constant[words].any():
            raise HazardError("writes where weights are read from")
        self._access(self._memory, "memory", words, writing)

    def unordered_read(self, words: NDArray[np.int64]) -> None:
        """Words that a unit without tokens reads: nobody may write them during the program."""
        for unit in Unit:
            if (self._memory.writers[unit][words] >= 0).any():
                raise HazardError("reads weights that the program itself writes")
        self._constant[words] = True

    def leftover(self) -> str:
        """Tokens that nobody has taken, for people; empty if there are none."""
        return ", ".join(
            f"{len(tokens)} from {sender.name} to {receiver.name}"
            for (sender, receiver), tokens in self._tokens.items()
            if tokens
        )

    def _access(
        self, accesses: _Accesses, what: str, words: NDArray[np.int64], writing: bool, late: bool = False
    ) -> None:
        unit = self._unit
        assert unit is not None, "only load, compute and store access memories"
        if not words.size:
            return
        for other in Unit:
            if other is unit and (unit is not Unit.COMPUTE or writing or late):
                continue
            complete = self._clock[unit][other]
            for verb, newest in (
                ("wrote", accesses.writers[other]),
                *((("read", accesses.readers[other]),) * writing),
            ):
                numbers = newest[words]
                if numbers.max() > complete:
                    worst = int(numbers.argmax())
                    raise HazardError(
                        f"{'writes' if writing else 'reads'} {what} word {int(words.flat[worst])}, which "
                        f"instruction {int(numbers.flat[worst])} ({other.name}) {verb}, "
                        "without a token between them"
                    )
        (accesses.writers if writing else accesses.readers)[unit][words] = self._number
