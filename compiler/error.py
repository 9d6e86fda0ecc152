"""The error that everything in `compiler` raises for a model that cannot become a program."""

from __future__ import annotations

__all__ = ["CompileError"]


class CompileError(ValueError):
    """A model cannot be compiled for a machine; the message names the layer, the limit and a way out."""

    @classmethod
    def from_problems(cls, problems: list[str]) -> CompileError:
        """One error that lists several problems."""
        if len(problems) == 1:
            return cls(problems[0])
        return cls(f"{len(problems)} problems: " + "; ".join(problems))
