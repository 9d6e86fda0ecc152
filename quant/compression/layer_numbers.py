"""A number for each layer with weights, written as ``0.1,conv=0.5,fc3=0.25``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase

from quant.compression.error import CompressionError
from quant.graph import Convolution, Graph
from quant.widths import is_fully_connected

__all__ = ["LayerNumbers", "kind_of", "layers_of"]

#: Kinds of layers with weights.
KINDS = ("conv", "fc")


def layers_of(graph: Graph) -> dict[str, Convolution]:
    """The layers with weights by name, in execution order.

    Raises
    ------
    CompressionError
        If there is none.
    """
    found = {node.name: node for node in graph.nodes if isinstance(node, Convolution)}
    if not found:
        raise CompressionError(f"{graph.name}: it has no layer with weights")
    return found


def kind_of(node: Convolution, graph: Graph) -> str:
    """``"fc"`` or ``"conv"``."""
    return "fc" if is_fully_connected(node, graph) else "conv"


@dataclass(frozen=True)
class LayerNumbers:
    """A number for all layers, and exceptions; of those that fit a layer, the last one counts.

    An exception is a pattern (``*`` and ``?``) on the layer's name, or one of the kinds ``conv`` and ``fc``.
    """

    default: float
    exceptions: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, text: str, what: str, low: float, high: float, default: float) -> LayerNumbers:
        """Numbers above ``low`` up to ``high``; layers that no part names have ``default``.

        Parameters
        ----------
        what : str
            Stands for the number in messages: ``"share kept"``.

        Raises
        ------
        CompressionError
        """
        exceptions = []
        for position, part in enumerate(text.split(",")):
            pattern, equals, number = part.strip().rpartition("=")
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            if math.isnan(value) or (equals and not pattern) or (not equals and position):
                raise CompressionError(
                    f"{part.strip()!r} is no {what}; write 0.1, or 0.1,conv=0.5 for exceptions "
                    "by name or kind"
                )
            if not low < value <= high:
                limits = f"above {low:g}" + ("" if math.isinf(high) else f" and at most {high:g}")
                raise CompressionError(f"a {what} must be {limits}, not {number}")
            if equals:
                exceptions.append((pattern, value))
            else:
                default = value
        return cls(default, tuple(exceptions))

    def of(self, graph: Graph) -> dict[str, float]:
        """The number of each layer with weights, by name.

        Raises
        ------
        CompressionError
            If an exception fits no layer; a network need not have layers of both kinds.
        """
        layers = layers_of(graph)
        found = dict.fromkeys(layers, self.default)
        for pattern, value in self.exceptions:
            fitting = fitting_layers(pattern, graph)
            if not fitting and pattern not in KINDS:
                shown = ", ".join(list(layers)[:12]) + (", …" if len(layers) > 12 else "")
                raise CompressionError(f"{pattern}={value:g} fits no layer with weights; there are {shown}")
            found.update(dict.fromkeys(fitting, value))
        return found

    def named(self, graph: Graph) -> set[str]:
        """The layers that an exception names other than by its kind or a pattern."""
        return {pattern for pattern, _ in self.exceptions} & set(layers_of(graph))


def fitting_layers(pattern: str, graph: Graph) -> list[str]:
    """The layers that a pattern or a kind fits."""
    layers = layers_of(graph)
    if pattern in KINDS:
        return [name for name, node in layers.items() if kind_of(node, graph) == pattern]
    return [name for name in layers if fnmatchcase(name, pattern)]
