"""What an estimate of a program's cycles says: of each layer, and of the whole run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["REASONS", "Estimate", "LayerEstimate"]

#: What a layer's cycles are spent on, as in the benchmark: the array took a word, or why it did not.
REASONS: tuple[str, ...] = ("array", "weights in", "maps in", "maps out", "maps in and out", "gaps")


@dataclass
class LayerEstimate:
    """Cycles in which one layer's words were read or waited for, and what the array did in them.

    Attributes
    ----------
    cycles, array_busy : float
        All of them, and those in which the array took a word.
    idle_weights, idle_load, idle_store, idle_both : float
        The array took none, because weights were missing, or because it waited for a load, a store, or
        one of both; what remains of ``cycles`` are gaps: the pipeline fills or drains.
    """

    cycles: float = 0.0
    array_busy: float = 0.0
    idle_weights: float = 0.0
    idle_load: float = 0.0
    idle_store: float = 0.0
    idle_both: float = 0.0

    def reasons(self) -> dict[str, float]:
        """Cycles for each of `REASONS`."""
        idle = (self.idle_weights, self.idle_load, self.idle_store, self.idle_both)
        gaps = max(self.cycles - self.array_busy - sum(idle), 0.0)
        return dict(zip(REASONS, (self.array_busy, *idle, gaps), strict=True))

    def limit(self) -> str:
        """The reason with the most cycles."""
        reasons = self.reasons()
        return max(reasons, key=lambda reason: reasons[reason])


@dataclass(frozen=True)
class Estimate:
    """A program's run.

    Attributes
    ----------
    cycles : int
        From start to done.
    layers : dict
        `LayerEstimate` by layer number; their cycles add up to ``cycles``.
    spans : list of (float, float)
        When each instruction began (it had its tokens) and ended (it gave its own), in cycles of the run.
    """

    cycles: int
    layers: dict[int, LayerEstimate]
    spans: list[tuple[float, float]]

    def total(self) -> LayerEstimate:
        """All layers together."""
        total = LayerEstimate()
        for layer in self.layers.values():
            for name, value in vars(layer).items():
                setattr(total, name, getattr(total, name) + value)
        return total
