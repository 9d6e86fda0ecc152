"""``python -m quant compress``: shared weights, relative indices, Huffman codes (`docs/compression.md`)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.whole_file import check_distinct, check_writable, write_whole
from quant.inspect import input_shape
from quant.training_arguments import (
    add_training_arguments,
    training_checkpoint,
    training_images,
    training_settings,
)

if TYPE_CHECKING:
    from quant.encoding import IndexWidths
    from quant.graph import Graph

__all__ = ["add_parser", "run"]

_DEFAULT_BITS = "conv=8,fc=5"
_SUFFIX = ".weights"
_STARTS = ("linear", "density", "random")

_EXAMPLES = """\
examples:
  python -m quant compress pruned.onnx --data train.npz --divide 255 -o shared.onnx
  python -m quant compress pruned.onnx --data train.npz --divide 255 --test test.npz \\
      --weight-bits conv=6,fc=4 --index-bits conv=8,fc=5 -o shared.onnx --weights net.weights
  python -m quant compress net.onnx --data train.npz --epochs 0 --start density -o shared.onnx
  python -m quant decompress net.weights --model pruned.onnx -o again.onnx
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``compress`` subcommand."""
    parser = subparsers.add_parser(
        "compress",
        help="share and encode the weights of a pruned network",
        description="Let the weights of each layer take few values (k-means, then training of the centroids) "
        "and write them with relative indices and Huffman codes to a file. The network with these "
        "weights is written as float ONNX, too. Weights that are zero stay zero.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="float ONNX model, as prune writes it")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="SHARED.onnx", help="file to write"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help=f"compressed file to write (default: the output with the suffix {_SUFFIX})",
    )
    parser.add_argument(
        "--weight-bits",
        default=_DEFAULT_BITS,
        metavar="BITS",
        help="bits of an index into a layer's values, 1 to 8: 5, or 5,conv=8,fc3=6 for exceptions by "
        f"name or kind (default: {_DEFAULT_BITS})",
    )
    parser.add_argument(
        "--index-bits",
        default="auto",
        metavar="BITS",
        help="bits of a relative index, 1 to 8: 5, or conv=8,fc=5 (default: auto, the fewest bytes)",
    )
    parser.add_argument(
        "--start",
        choices=_STARTS,
        default="linear",
        help="where k-means begins: equal steps of value, equal steps of the distribution, "
        "random weights (default: linear)",
    )
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=input_shape,
        help="the input's shape, where the model leaves it open",
    )
    add_training_arguments(parser, epochs=4, rate=2e-4, stage="to train the shared values")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Share, train, encode, print the table, write the files."""
    from tqdm import tqdm

    from quant.calibrate_command import write_json
    from quant.compression.report import compression_report, compression_table, encoded_file
    from quant.compression.sharing import SharedWeights, clusters_of
    from quant.compression.trainable import TrainableNetwork, best_device
    from quant.float_onnx import write_float_model
    from quant.onnx_import import import_model

    weights = arguments.weights or arguments.output.with_suffix(_SUFFIX)
    check_distinct(arguments.model, arguments.output, weights, arguments.json)
    for path in (arguments.output, weights, arguments.json):
        check_writable(path)
    graph = import_model(arguments.model, input_shape=arguments.input_shape)
    bits = _bits(arguments.weight_bits, "width of weights", graph)
    index_bits: dict[str, IndexWidths | None] = dict.fromkeys(bits, None)
    if arguments.index_bits != "auto":
        widths = _bits(arguments.index_bits, "width of relative indices", graph)
        index_bits = {name: (width,) for name, width in widths.items()}
    images, settings = training_images(arguments, graph), training_settings(arguments)
    device = best_device()
    print(
        f"{graph.name}: {len(images.training):,} images to train on, "
        f"{len(images.validation):,} to check with; "
        f"{device.type}, seed {settings.seed}"
    )
    network = TrainableNetwork(graph, device)
    result: dict[str, Any] = {"network": graph.name, "seed": settings.seed}
    measured = {"validation": images.validation, **({} if images.test is None else {"test": images.test})}
    accuracy = {name: [network.accuracy(data)] for name, data in measured.items()}
    shared = SharedWeights(network, clusters_of(network, bits), arguments.start, settings.seed)
    for name, data in measured.items():
        accuracy[name].append(network.accuracy(data))
    for name in sorted(set(network.weights) - set(shared.centroids)):
        print(f"note: all weights of {name} are zero")
    checkpoint = training_checkpoint(arguments, "weights", "index_bits", "test")
    total = settings.epochs * len(images.training)
    with tqdm(
        total=total, desc="shared weights", unit="image", leave=False, disable=arguments.quiet or None
    ) as bar:
        shared.fine_tune(images.training, settings, checkpoint=checkpoint, progress=bar.update)
    for name, data in measured.items():
        accuracy[name].append(network.accuracy(data))
    content = encoded_file(network, index_bits)
    report = compression_report(content)
    print(compression_table(report))
    for name, (before, without, after) in accuracy.items():
        print(
            f"top-1 on {len(measured[name]):,} {name} images: {100 * before:.2f} % before, "
            f"{100 * without:.2f} % shared, {100 * after:.2f} % trained"
        )
        result[f"{name}_accuracy"] = {"before": before, "shared": without, "trained": after}
    write_whole(weights, content)
    print(f"wrote {weights}")
    write_float_model(network.to_graph(), arguments.output)
    print(f"wrote {arguments.output}")
    if arguments.json is not None:
        write_json({**result, "file": report.to_json()}, arguments.json)
    checkpoint.remove()
    return 0


def _bits(text: str, what: str, graph: Graph) -> dict[str, int]:
    from quant.compression.error import CompressionError
    from quant.compression.layer_numbers import LayerNumbers

    numbers = LayerNumbers.parse(text, what, 0, 8, 8).of(graph)
    for name, bits in numbers.items():
        if bits != int(bits):
            raise CompressionError(f"{name}: a {what} must be a whole number of bits, not {bits:g}")
    return {name: int(bits) for name, bits in numbers.items()}
