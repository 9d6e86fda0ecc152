"""Why a model cannot be imported: one exception that carries every reason at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ModelError", "Refusal", "RefusedError", "printable"]


def printable(text: str) -> str:
    """A name from a file, which may be damaged, without line breaks and control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


@dataclass(frozen=True)
class Refusal:
    """One node that cannot be imported.

    Attributes
    ----------
    node, operator : str
        The node's name and operator in the model.
    reason, advice : str
        What is wrong with it, and what its owner can do.
    """

    node: str
    operator: str
    reason: str
    advice: str

    def __str__(self) -> str:
        return printable(f"{self.node} ({self.operator}): {self.reason}; {self.advice}")


class RefusedError(ValueError):
    """Raised while one node is translated; the importer collects them into a `ModelError`."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reason = reason
        self.advice = advice


class ModelError(ValueError):
    """A model cannot be imported; the message says which one, why, and what to do.

    ``refusals`` holds every node that is refused; it is empty when the model as a whole is wrong.
    """

    def __init__(self, message: str, refusals: Sequence[Refusal] = ()) -> None:
        super().__init__(message)
        self.refusals = tuple(refusals)
