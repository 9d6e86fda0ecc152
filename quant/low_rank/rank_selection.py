"""The ranks of all layers within a cost: the product of their energies is to be as large as it can be.

TPAMI 2016, section 3.4: E is the product over the layers of the sum of the eigenvalues that are kept, and
the cost is limited.  Eigenvalues are dropped greedily, each time where (dE / E) / dC is least.

A machine's cost falls in steps, when another group of filters is no longer needed, and a layer of full rank
costs less as it is than as two.  So several eigenvalues are dropped at once where that is best for what it
saves; with a cost that is in proportion to the rank this is the paper's rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.compression.error import CompressionError

__all__ = ["RankChoices", "rank_for_energy", "select_ranks"]


@dataclass(frozen=True, eq=False)
class RankChoices:
    """What a layer can be.

    Attributes
    ----------
    energy : float64 array (full + 1,)
        Share of the layer's energy at each rank, from 0 at rank 0 to 1.
    costs : float64 array (full + 1,)
        Cost at each rank; infinite at rank 0.
    whole : float
        Cost of the layer as it is, of energy 1.
    """

    energy: NDArray[np.float64]
    costs: NDArray[np.float64]
    whole: float

    @classmethod
    def of(cls, spectrum: NDArray[np.float64], costs: NDArray[np.float64], whole: float) -> RankChoices:
        """From eigenvalues, the largest first, of which as many count as there are ranks."""
        sums = np.concatenate([[0.0], np.cumsum(np.maximum(spectrum, 0.0))])[: len(costs)]
        return cls(sums / sums[-1] if sums[-1] > 0 else np.ones(len(sums)), costs, whole)

    def cheaper(self) -> NDArray[np.int64]:
        """The ranks that cost less than the layer as it is, and less than all higher ones."""
        found, least = [], self.whole
        for rank in range(len(self.costs) - 1, 0, -1):
            if self.costs[rank] < least:
                found.append(rank)
                least = self.costs[rank]
        return np.array(found[::-1], np.int64)


def rank_for_energy(energy: NDArray[np.float64], share: float) -> int:
    """The least rank that holds this share of the energy, at least 1."""
    return max(1, int(np.searchsorted(energy, share * (1 - 1e-12))))


def select_ranks(
    layers: Mapping[str, RankChoices], limit: float, fixed: float = 0.0
) -> dict[str, int | None]:
    """A rank for each layer, or None for a layer that stays as it is.

    Parameters
    ----------
    layers : mapping
    limit : float
        Of the cost of these layers and of others together.
    fixed : float
        Cost of the others.

    Raises
    ------
    CompressionError
        If the least ranks cost more than the limit.
    """
    options = {name: _Options(choices) for name, choices in layers.items()}
    least = fixed + sum(each.costs[-1] for each in options.values())
    if least > limit:
        whole = fixed + sum(each.costs[0] for each in options.values())
        raise CompressionError(
            f"a speedup of {whole / limit:.4g} cannot be reached: with the least ranks it is "
            f"{whole / least:.4g}; ask for less, or let more layers be approximated"
        )
    limit = max(limit - fixed, sum(each.costs[-1] for each in options.values()))  # against rounding
    place = dict.fromkeys(options, 0)
    while sum(options[name].costs[place[name]] for name in options) > limit:
        moves = {name: each.best_drop(place[name]) for name, each in options.items()}
        _, name = min((price, name) for name, (price, _) in moves.items())
        place[name] = moves[name][1]
    _fill(options, place, limit)
    return {name: options[name].ranks[place[name]] for name in options}


class _Options:
    """What a layer can be, the dearest first: each costs less than the one before, and holds less."""

    def __init__(self, choices: RankChoices) -> None:
        ranks = choices.cheaper()[::-1]
        self.ranks: list[int | None] = [None, *map(int, ranks)]
        self.costs = np.array([choices.whole, *choices.costs[ranks]])
        self.log_energy = np.log(np.maximum([1.0, *choices.energy[ranks]], 1e-300))

    def best_drop(self, place: int) -> tuple[float, int]:
        """The least log energy lost for each unit of cost saved by a drop, and where it leads to."""
        if place == len(self.ranks) - 1:
            return np.inf, place
        lost = self.log_energy[place] - self.log_energy[place + 1 :]
        price = lost / (self.costs[place] - self.costs[place + 1 :])
        best = int(np.argmin(price))
        return float(price[best]), place + 1 + best


def _fill(options: Mapping[str, _Options], place: dict[str, int], limit: float) -> None:
    """Spend what the last drop left over, most energy first; then exchange between two layers."""
    while True:
        left = limit - sum(options[name].costs[place[name]] for name in options)
        best: tuple[float, dict[str, int]] = (1e-12, {})
        for name, each in options.items():
            for up in range(place[name]):
                more = each.costs[up] - each.costs[place[name]]
                gain = each.log_energy[up] - each.log_energy[place[name]]
                if gain <= best[0]:
                    break  # what is further down holds less
                if more <= left:
                    best = (gain, {name: up})
                    break
                swap = _least_loss(options, place, name, more - left)
                if swap is not None and gain - swap[0] > best[0]:
                    best = (gain - swap[0], {name: up, **swap[1]})
        if not best[1]:
            return
        place.update(best[1])


def _least_loss(
    options: Mapping[str, _Options], place: Mapping[str, int], but: str, needed: float
) -> tuple[float, dict[str, int]] | None:
    """The drop of one other layer that saves as much as is needed and loses least."""
    found = None
    for name, each in options.items():
        if name == but:
            continue
        saved = each.costs[place[name]] - each.costs
        enough = int(np.searchsorted(saved, needed))
        if enough < len(saved):
            loss = float(each.log_energy[place[name]] - each.log_energy[enough])
            if found is None or loss < found[0]:
                found = (loss, {name: enough})
    return found
