"""``python -m quant decompress``: the network that a file of compressed weights stands for."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hw.whole_file import check_distinct, check_writable, write_whole
from quant.inspect import input_shape

if TYPE_CHECKING:
    from quant.graph import Graph

__all__ = ["add_parser", "encoded_release", "run", "with_stored_weights"]

_EXAMPLES = """\
examples:
  python -m quant decompress net.weights
  python -m quant decompress net.weights --model pruned.onnx -o again.onnx
  python -m quant decompress squeezenet.net --published --model squeezenet.onnx --encode squeezenet.weights
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``decompress`` subcommand."""
    parser = subparsers.add_parser(
        "decompress",
        help="read a file of compressed weights",
        description="Check a file that compress wrote, print what each layer takes in it, and write the "
        "network with its weights as float ONNX. With --published, the file has the format in which the "
        "authors of Deep Compression published SqueezeNet, and is encoded as compress does.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE.weights", help="compressed file")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="MODEL.onnx",
        help="the model that was compressed: its layers, with other weights",
    )
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=input_shape,
        help="the input's shape, where the model leaves it open",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="MODEL.onnx", help="file to write")
    parser.add_argument(
        "--published",
        action="store_true",
        help="the file is of the Deep Compression release; --model gives its shapes",
    )
    parser.add_argument(
        "--encode", type=Path, metavar="FILE.weights", help="write what was published in our encoding"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table and write the network."""
    from quant.compression.error import CompressionError
    from quant.compression.report import compression_report, compression_table
    from quant.float_onnx import write_float_model
    from quant.onnx_import import import_model

    if arguments.published and arguments.model is None:
        raise CompressionError("--published needs --model: such a file has no shapes")
    if arguments.encode is not None and not arguments.published:
        raise CompressionError("--encode is for what was --published; other files are encoded already")
    if not arguments.published and (arguments.model is None) != (arguments.output is None):
        raise CompressionError("a network is written from both: give --model and -o, or neither to only read")
    check_distinct(arguments.file, arguments.model, arguments.output, arguments.encode)
    check_writable(arguments.output)
    check_writable(arguments.encode)
    content, graph = arguments.file.read_bytes(), None
    if arguments.model is not None:
        graph = import_model(arguments.model, input_shape=arguments.input_shape)
    if arguments.published and graph is not None:
        size = len(content)
        content = encoded_release(graph, content, str(arguments.file))
        print(f"{arguments.file}: published in {size:,} bytes, encoded in {len(content):,}")
    print(compression_table(compression_report(content, str(arguments.file))))
    if arguments.encode is not None:
        write_whole(arguments.encode, content)
        print(f"wrote {arguments.encode}")
    if graph is not None and arguments.output is not None:
        write_float_model(with_stored_weights(graph, content, str(arguments.file)), arguments.output)
        print(f"wrote {arguments.output}")
    return 0


def encoded_release(graph: Graph, content: bytes, where: str = "the file") -> bytes:
    """A file of the Deep Compression release in our encoding, without loss.

    Parameters
    ----------
    graph : Graph
        Its layers, in their order, have the file's shapes.
    where : str
        Stands for the file in messages.

    Raises
    ------
    EncodingError
        If the file is not of these layers.
    """
    from quant.compression.layer_numbers import layers_of
    from quant.encoding import StoredLayer, encode_layer, read_published_file, weight_file_bytes

    shapes = {name: node.weight.shape for name, node in layers_of(graph).items()}
    found = read_published_file(content, shapes, where)
    return weight_file_bytes(
        StoredLayer(name, encode_layer(weights), bias) for name, (weights, bias) in found.items()
    )


def with_stored_weights(graph: Graph, content: bytes, where: str = "the file") -> Graph:
    """The graph with the weights and biases of a compressed file.

    Parameters
    ----------
    where : str
        Stands for the file in messages.

    Raises
    ------
    EncodingError
        If the file is truncated or damaged.
    CompressionError
        If its layers are not those of the graph.
    """
    from quant.compression.error import CompressionError
    from quant.compression.layer_numbers import layers_of
    from quant.encoding import decode_layer, read_weight_file

    stored = {layer.name: layer for layer in read_weight_file(content, where)}
    own = layers_of(graph)
    for name, node in own.items():
        layer = stored.get(name)
        if layer is None or layer.weights.shape != node.weight.shape or layer.bias.shape != node.bias.shape:
            found = "no such layer" if layer is None else f"weights {list(layer.weights.shape)}"
            raise CompressionError(
                f"{where}: it has {found} for {name} {list(node.weight.shape)}; give the model "
                "that was compressed"
            )
    if len(stored) != len(own):
        raise CompressionError(
            f"{where}: it has {len(stored)} layers, {graph.name} {len(own)}; give the model that "
            "was compressed"
        )
    nodes = [
        replace(node, weight=decode_layer(stored[node.name].weights), bias=stored[node.name].bias)
        if node.name in own
        else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=nodes, _producers={})
