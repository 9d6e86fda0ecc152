"""Ranks that are given: ``conv2=12,fc=0.95``, numbers from 1 on, or shares of the energy below 1."""

from __future__ import annotations

import math
from collections.abc import Mapping

from numpy.typing import NDArray

from quant.compression.error import CompressionError
from quant.compression.layer_numbers import LayerNumbers
from quant.graph import Graph
from quant.low_rank.rank_selection import rank_for_energy

__all__ = ["given_ranks"]


def given_ranks(
    text: str, graph: Graph, energies: Mapping[str, NDArray], what: str = "rank", without: str = ""
) -> dict[str, int]:
    """The rank of each layer that the text names, a pattern or a kind names, or all of them.

    A layer that only a pattern or a kind fits has no entry if its full rank is lower.

    Parameters
    ----------
    energies : mapping
        For the layers that can have a rank, the share of the energy (full rank + 1,) at each.
    what : str
        Stands for the number in messages.
    without : str
        Why a layer has no energies; then one that is named is refused.

    Raises
    ------
    CompressionError
        If a number is no rank, above a named layer's full rank, or fits no layer.
    """
    numbers = LayerNumbers.parse(text, what, 0, math.inf, math.inf)
    named, found = numbers.named(graph), {}
    for name, value in numbers.of(graph).items():
        if without and name in named and name not in energies:
            raise CompressionError(f"{name}: it cannot have a {what}, because {without}")
        if math.isinf(value) or name not in energies:
            continue
        full = len(energies[name]) - 1
        if value < 1:
            found[name] = rank_for_energy(energies[name], value)
        elif value != int(value):
            raise CompressionError(
                f"{name}: a {what} must be a whole number, or a share of the energy below 1, not {value:g}"
            )
        elif value <= full:
            found[name] = int(value)
        elif name in named:
            raise CompressionError(f"{name}: a {what} of {value:g} is above its full rank of {full}")
    return found
