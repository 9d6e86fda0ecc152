"""Nodes that nothing needs are dropped."""

from __future__ import annotations

from quant.graph import Node, Shape

__all__ = ["remove_unused"]


def remove_unused(nodes: list[Node], shapes: dict[str, Shape], source: str,
                  output: str) -> tuple[list[Node], dict[str, Shape]]:
    """The nodes that the output depends on, in order, and the shapes of their tensors."""
    needed = {output}
    kept = []
    for node in reversed(nodes):
        if node.output in needed:
            kept.append(node)
            needed.update(node.inputs)
    kept.reverse()
    tensors = [source, *(node.output for node in kept)]
    return kept, {tensor: shapes[tensor] for tensor in tensors}
