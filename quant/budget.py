"""Which layers get 8, 4 or 2 bits: the trade-off between bytes of weights and error at the output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "WIDTHS",
    "Budget",
    "BudgetError",
    "TradeOffPoint",
    "cheapest_within",
    "trade_off",
    "weight_bytes",
]

#: Widths that a layer's weights may get, widest first.
WIDTHS = (8, 4, 2)

_UNITS = {"": 1, "B": 1, "kB": 1000, "KB": 1000, "k": 1000, "KiB": 1024, "MB": 10**6, "MiB": 1 << 20}
_POINTS = ("point", "points", "pt")
_BITS = ("bit", "bits")


class BudgetError(ValueError):
    """A budget cannot be read or met; the message says how close one can get."""


@dataclass(frozen=True)
class Budget:
    """What the weights may cost: ``amount`` of ``kind``.

    Attributes
    ----------
    kind : str
        ``bytes`` of all weights, ``bits`` a weight on average, or ``points`` of accuracy that may be lost.
    """

    kind: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """``48kB``, ``1.5MB``, ``5bits``, ``0.5points``; a bare number counts bytes.

        Raises
        ------
        BudgetError
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z]*)\s*", text)
        unit = match[2] if match else None
        if match and unit in _POINTS:
            return cls("points", float(match[1]))
        if match and unit in _BITS:
            return cls("bits", float(match[1]))
        if match and unit in _UNITS:
            return cls("bytes", float(match[1]) * _UNITS[unit])
        raise BudgetError(
            f"{text!r} is no budget; write bytes of weights (48kB), bits a weight (5bits) or points of "
            "accuracy (0.5points)"
        )

    def bytes_of(self, weights: int) -> int:
        """The bytes that a network of so many weights may have."""
        return int(self.amount * weights / 8 if self.kind == "bits" else self.amount)


@dataclass(frozen=True)
class TradeOffPoint:
    """One choice of widths.

    Attributes
    ----------
    bits : dict
        Width of each layer's weights, by node name.
    weight_bytes : int
        Bytes of all weights; each layer is rounded up to whole bytes.
    cost : float
        Sum of what each layer costs alone at the network's output.
    """

    bits: Mapping[str, int]
    weight_bytes: int
    cost: float


def weight_bytes(weights: Mapping[str, int], bits: Mapping[str, int]) -> int:
    """Bytes of layers with so many weights each, at these widths."""
    return sum(-(-count * bits[name] // 8) for name, count in weights.items())


def trade_off(weights: Mapping[str, int], costs: Mapping[str, Mapping[int, float]]) -> list[TradeOffPoint]:
    """From the widest weights to the narrowest, always by the step that costs least a byte saved.

    Parameters
    ----------
    weights : mapping
        Number of weights of each layer.
    costs : mapping
        For each layer and each width, what it costs alone.
    """
    bits = {name: max(costs[name]) for name in weights}
    total = {name: costs[name][width] for name, width in bits.items()}
    points = [TradeOffPoint(dict(bits), weight_bytes(weights, bits), sum(total.values()))]
    while True:
        steps = [
            ((cost - costs[name][bits[name]]) / (weights[name] * (bits[name] - width)), -width, name)
            for name in weights
            for width, cost in costs[name].items()
            if width < bits[name]
        ]
        if not steps:
            return points
        _, narrowed, name = min(steps)
        width = -narrowed
        bits[name], total[name] = width, costs[name][width]
        points.append(TradeOffPoint(dict(bits), weight_bytes(weights, bits), sum(total.values())))


def cheapest_within(
    points: Sequence[TradeOffPoint],
    limit: int,
    weights: Mapping[str, int],
    costs: Mapping[str, Mapping[int, float]],
) -> TradeOffPoint:
    """The point that costs least in ``limit`` bytes; room that is left goes to layers that gain most.

    Raises
    ------
    BudgetError
        If even the narrowest weights take more.
    """
    fitting = [point for point in points if point.weight_bytes <= limit]
    if not fitting:
        least = points[-1]
        raise BudgetError(
            f"weights do not fit {limit} bytes: with {min(WIDTHS)} bits everywhere they take "
            f"{least.weight_bytes}; give a larger budget"
        )
    bits = dict(min(fitting, key=lambda point: point.cost).bits)
    while True:
        better = [
            (costs[name][bits[name]] - costs[name][width], name, width)
            for name in weights
            for width in costs[name]
            if width > bits[name] and weight_bytes(weights, {**bits, name: width}) <= limit
        ]
        gain, name, width = max(better, default=(0.0, "", 0), key=lambda step: (step[0], step[1]))
        if gain <= 0.0:
            break
        bits[name] = width
    cost = sum(costs[layer][width] for layer, width in bits.items())
    return TradeOffPoint(bits, weight_bytes(weights, bits), cost)
