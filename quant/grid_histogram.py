"""Histograms whose bins are whole steps of a number format, so that a bin is inside it or outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from quant.number_format import Format

__all__ = ["MOST_BINS", "GridHistogram", "HistogramCounter", "outside"]

#: Bins of a histogram at most.
MOST_BINS = 64


@dataclass(frozen=True)
class GridHistogram:
    """Counts of values by the integer that they round to, without clipping.

    Bin k holds the values that round to the integers ``start + k * width`` to
    ``start + (k + 1) * width - 1`` of a format: its edges lie half a step below these.

    Attributes
    ----------
    start : int
        Smallest integer of the first bin, in steps of the format.
    width : int
        Integers in a bin: a power of two.
    counts : tuple of int
    """

    start: int
    width: int
    counts: tuple[int, ...]

    def edges(self, scale: float = 1.0) -> list[float]:
        """The ``len(counts) + 1`` edges of the bins; in steps, or in real values for a step of ``scale``."""
        return [(self.start + k * self.width - 0.5) * scale for k in range(len(self.counts) + 1)]


class HistogramCounter:
    """Counts values into the bins of one format, batch by batch.

    Parameters
    ----------
    form : Format
    low, high : float
        Range of the values to come, in steps of the format; the bins cover it and the format's own range.
        Values outside are counted in the first and the last bin.
    """

    def __init__(self, form: Format, low: float, high: float) -> None:
        first, last = min(form.low, round(low)), max(form.high, round(high))
        self._form = form
        self._width = 1
        while last // self._width - first // self._width >= MOST_BINS:
            self._width *= 2
        self._first = first // self._width
        self._counts = np.zeros(last // self._width - self._first + 1, np.int64)
        self._clipped = self._total = 0

    def add(self, steps: torch.Tensor) -> None:
        """Count values given in steps of the format; they are overwritten."""
        units = steps.round_()
        self._clipped += outside(units, self._form)
        self._total += units.numel()
        # powers of two divide exactly, and an infinite quotient is clamped
        bins = units.div_(float(self._width)).floor_().sub_(self._first).clamp_(0, len(self._counts) - 1)
        self._counts += torch.bincount(bins.flatten().to(torch.int64), minlength=len(self._counts)).numpy()

    def histogram(self) -> GridHistogram:
        """What was counted."""
        counts: NDArray[np.int64] = self._counts
        return GridHistogram(self._first * self._width, self._width, tuple(counts.tolist()))

    @property
    def clipped(self) -> float:
        """Share of the values that round to an integer outside the format."""
        return self._clipped / self._total if self._total else 0.0


def outside(units: torch.Tensor, form: Format) -> int:
    """How many integers, in steps of a format, lie outside its range."""
    return int(((units < form.low) | (units > form.high)).sum())
