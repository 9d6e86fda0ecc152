"""Widths in bits: one for all layers, or exceptions by name (``8,fc=4,stage3*=6``), or a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from quant.graph import Convolution, Graph
from quant.number_format import check_width

__all__ = ["OUTPUT_BITS", "WidthError", "Widths", "is_fully_connected", "read_widths"]

#: Least width of the network's output, unless it is named: no multiplier reads it, and with few bits
#: its largest values tie.
OUTPUT_BITS = 8

_KINDS = ("fc", "conv", "depthwise", "input", "output")


class WidthError(ValueError):
    """Widths cannot be read or fit no layer; the message says which part and what to write."""


def is_fully_connected(node: Convolution, graph: Graph) -> bool:
    """Whether a convolution's kernel covers its whole input, so that each weight is used once."""
    return graph.shapes[node.output][1:] == (1, 1) and tuple(
        node.weight.shape[2:]
    ) == tuple(graph.shapes[node.inputs[0]][1:])


@dataclass(frozen=True)
class Widths:
    """A width for all, and exceptions; of those that fit a name, the last one counts.

    An exception is a pattern (``*`` and ``?``) on a layer's or a feature map's name, or one of the kinds
    ``fc``, ``conv``, ``depthwise``, ``input``, ``output``.

    Raises
    ------
    FormatError
        If a width is not 2 to 16 bits.
    """

    default: int = 8
    exceptions: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        check_width(self.default, "words")
        for pattern, bits in self.exceptions:
            check_width(bits, f"words of {pattern}")

    @classmethod
    def parse(cls, text: str, what: str = "words") -> Widths:
        """Widths written as ``8`` or ``8,fc=4,conv1=6``; without a first number, the default is 8.

        Messages speak of ``what``.

        Raises
        ------
        WidthError, FormatError
        """
        default, exceptions = 8, []
        for position, part in enumerate(text.split(",")):
            # names may contain = themselves
            pattern, equals, bits = part.strip().rpartition("=")
            number = bits.removeprefix("-")
            if not number.isdecimal() or (equals and not pattern) or (not equals and position):
                raise WidthError(
                    f"{part.strip()!r} is no width of {what}; write 8, or 8,fc=4 for exceptions by name"
                )
            check_width(int(bits), f"{what} of {pattern}" if equals else what)
            if equals:
                exceptions.append((pattern, int(bits)))
            else:
                default = int(bits)
        return cls(default, tuple(exceptions))

    def weights_of(self, graph: Graph) -> dict[str, int]:
        """Width of each convolution's weights, by node name.

        Raises
        ------
        WidthError
            If an exception fits no layer with weights.
        """
        kinds = {}
        for node in graph.nodes:
            if isinstance(node, Convolution):
                kind = {"fc"} if is_fully_connected(node, graph) else {"conv"}
                if 1 < node.groups == len(node.weight):
                    kind.add("depthwise")
                kinds[node.name] = kind
        names = {node.name: {node.name, node.output} for node in graph.nodes if node.name in kinds}
        return self._resolve(names, kinds, "layer with weights")

    def maps_of(self, graph: Graph) -> dict[str, int]:
        """Width of each feature map, by tensor; a pattern may name the tensor or the node that computes it.

        The output has at least `OUTPUT_BITS` unless an exception names it.

        Raises
        ------
        WidthError
            If an exception fits no feature map.
        """
        producers = {tensor: graph.producer(tensor) for tensor in graph.shapes}
        names = {tensor: {tensor} | ({node.name} if node else set()) for tensor, node in producers.items()}
        kinds: dict[str, set[str]] = {tensor: set() for tensor in graph.shapes}
        kinds[graph.input].add("input")
        kinds[graph.output].add("output")
        found = self._resolve(names, kinds, "feature map")
        own, kind = names[graph.output], kinds[graph.output]
        if not any(_fits(pattern, own, kind) for pattern, _ in self.exceptions):
            found[graph.output] = max(found[graph.output], OUTPUT_BITS)
        return found

    def _resolve(
        self, names: Mapping[str, Iterable[str]], kinds: Mapping[str, set[str]], what: str
    ) -> dict[str, int]:
        found = dict.fromkeys(names, self.default)
        for pattern, bits in self.exceptions:
            fitting = [key for key in names if _fits(pattern, names[key], kinds[key])]
            if not fitting:
                shown = ", ".join(list(names)[:12]) + (", …" if len(names) > 12 else "")
                raise WidthError(f"{pattern}={bits} fits no {what}; there are {shown}")
            found.update(dict.fromkeys(fitting, bits))
        return found

    def __str__(self) -> str:
        return ",".join([str(self.default), *(f"{pattern}={bits}" for pattern, bits in self.exceptions)])


def _fits(pattern: str, names: Iterable[str], kinds: set[str]) -> bool:
    if pattern in _KINDS:
        return pattern in kinds
    return any(fnmatchcase(name, pattern) for name in names)


def read_widths(path: Path) -> tuple[Widths, Widths]:
    """Widths of weights and of feature maps from a TOML file.

    The file has the tables ``[weights]`` and ``[activations]``; in each, ``default`` and exceptions by
    pattern, ``"layer2*" = 4``.

    Raises
    ------
    WidthError, FormatError
    """
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WidthError(f"{path}: not a readable TOML file ({error})") from None
    unknown = set(content) - {"weights", "activations"}
    if unknown:
        raise WidthError(
            f"{path}: it has {', '.join(sorted(unknown))}; the tables are [weights] and [activations]"
        )
    found = []
    for table in ("weights", "activations"):
        entries = content.get(table, {})
        if not isinstance(entries, dict):
            raise WidthError(f"{path}: {table} must be a table: [{table}]")
        for name, bits in entries.items():
            if type(bits) is not int:
                raise WidthError(f"{path}: [{table}] {name} must be a width in bits, not {bits!r}")
            check_width(bits, f"{path}: [{table}] words of {name}")
        exceptions = tuple((name, bits) for name, bits in entries.items() if name != "default")
        found.append(Widths(entries.get("default", 8), exceptions))
    return found[0], found[1]
