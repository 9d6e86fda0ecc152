"""Which nodes at the end of a model the host computes."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto

__all__ = ["HOST_OPERATORS", "host_tail"]

HOST_OPERATORS = ("Softmax", "LogSoftmax", "ArgMax")

_NEUTRAL = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Dropout")


def host_tail(nodes: Sequence[NodeProto], output: str) -> tuple[str, list[NodeProto]]:
    """The tensor where the graph ends, and the nodes behind it that the host computes.

    The chain of nodes that leads to the output is followed backwards as long as each tensor is read
    once; it belongs to the host from its first Softmax, LogSoftmax or ArgMax on.
    """
    producers = {name: node for node in nodes for name in node.output}
    readers: dict[str, int] = {}
    for node in nodes:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    end, tail, chain, tensor = output, [], [], output
    while tensor in producers and (producers[tensor].op_type in _NEUTRAL + HOST_OPERATORS):
        node = producers[tensor]
        chain.insert(0, node)
        tensor = node.input[0]
        if node.op_type in HOST_OPERATORS:
            end, tail = tensor, list(chain)
        if readers[tensor] > 1:
            break
    return end, tail
