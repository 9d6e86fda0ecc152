"""What each layer takes in a file of compressed weights, in the columns of Han et al. 2016, tables 2 to 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from quant.compression.trainable import TrainableNetwork
from quant.encoding import EncodingError, IndexWidths, StoredLayer, decode_layer, encode_layer
from quant.encoding.weight_file import read_weight_file, record_bytes, weight_file_bytes
from quant.text_table import aligned

__all__ = ["CompressionReport", "LayerCompression", "compression_report", "compression_table", "encoded_file"]


@dataclass(frozen=True)
class LayerCompression:
    """One layer, or all of them.

    Attributes
    ----------
    weights, kept, entries : int
        All weights, those that are not zero, and entries of the stream, fillers included.
    values : int
        Entries of the codebook.
    weight_bits, index_bits : float
        Bits of an entry's codebook index and of its gap as plain fields, on average over entries.
    weight_bits_coded, index_bits_coded : float
        The same as they are in the stream, after Huffman coding.
    plain_bytes : float
        Bytes with plain fields: pruning and weight sharing without Huffman codes.
    bytes : int
        Bytes in the file: name, shape, biases, codebook, code lengths and stream.
    dense_bytes : int
        Of all weights and biases as float32.
    """

    name: str
    weights: int
    kept: int
    entries: int
    values: int
    weight_bits: float
    weight_bits_coded: float
    index_bits: float
    index_bits_coded: float
    plain_bytes: float
    bytes: int
    dense_bytes: int

    @property
    def ratio(self) -> float:
        """How many times smaller than float32."""
        return self.dense_bytes / self.bytes


@dataclass(frozen=True)
class CompressionReport:
    """All layers in the file's order, and their total with the file's header and checksum."""

    layers: tuple[LayerCompression, ...]
    total: LayerCompression

    def to_json(self) -> dict[str, object]:
        """The report as a JSON object."""
        return {**asdict(self), "ratio": self.total.ratio}


def encoded_file(network: TrainableNetwork, index_bits: dict[str, IndexWidths | None]) -> bytes:
    """The file of a network whose weights take few values, proved to give them back bit for bit.

    Parameters
    ----------
    index_bits : dict
        By layer, as in `quant.encoding.encode_layer`.

    Raises
    ------
    EncodingError
        If a layer has too many distinct weights.
    """
    layers = []
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.weights.items()}
    for name, weight in weights.items():
        try:
            encoded = encode_layer(weight, index_bits[name])
        except EncodingError as error:
            raise EncodingError(f"{name}: {error}") from None
        layers.append(StoredLayer(name, encoded, network.biases[name].detach().cpu().numpy()))
    content = weight_file_bytes(layers)
    for layer in read_weight_file(content):
        if not np.array_equal(decode_layer(layer.weights), weights[layer.name]):
            raise AssertionError(f"{layer.name}: the file does not give its weights back")
    return content


def compression_report(content: bytes, where: str = "the file") -> CompressionReport:
    """The report on a file; errors as `quant.encoding.read_weight_file` and `decode_layer`."""
    layers = tuple(_layer(layer) for layer in read_weight_file(content, where))
    entries = max(1, sum(layer.entries for layer in layers))

    def mean(name: str) -> float:
        return sum(getattr(layer, name) * layer.entries for layer in layers) / entries

    around = len(content) - sum(layer.bytes for layer in layers)
    total = LayerCompression(
        "total",
        sum(layer.weights for layer in layers),
        sum(layer.kept for layer in layers),
        sum(layer.entries for layer in layers),
        sum(layer.values for layer in layers),
        mean("weight_bits"),
        mean("weight_bits_coded"),
        mean("index_bits"),
        mean("index_bits_coded"),
        around + sum(layer.plain_bytes for layer in layers),
        len(content),
        sum(layer.dense_bytes for layer in layers),
    )
    return CompressionReport(layers, total)


def _layer(stored: StoredLayer) -> LayerCompression:
    layer = stored.weights
    weights = decode_layer(layer)
    gaps, values = layer.columns()
    entries = max(1, layer.entries)
    value_bits = layer.value_code.bits(np.bincount(values, minlength=1))
    gap_bits = 0 if layer.gap_code is None else layer.gap_code.bits(np.bincount(gaps, minlength=1))
    size = len(record_bytes(stored))
    plain = size - len(layer.payload) + layer.entries * (layer.value_bits + layer.gap_bits) / 8
    plain -= sum(
        (len(code.widths) + 1) // 2
        for code in (layer.gap_code, layer.value_code)
        if code is not None and code.huffman
    )
    return LayerCompression(
        stored.name,
        weights.size,
        int(np.count_nonzero(weights)),
        layer.entries,
        len(layer.codebook),
        layer.value_bits,
        value_bits / entries,
        layer.gap_bits,
        gap_bits / entries,
        plain,
        size,
        4 * (weights.size + len(stored.bias)),
    )


_HEADS = (
    "layer",
    "weights",
    "kept %",
    "fillers",
    "w bits",
    "Huffman",
    "i bits",
    "Huffman",
    "bytes",
    "size %",
    "Huffman",
    "ratio",
)


def compression_table(report: CompressionReport) -> str:
    """The report for people; ``w``: weights, ``i``: relative indices, ``size``: of float32."""
    rows = [_HEADS, *(_row(layer) for layer in (*report.layers, report.total))]
    lines = aligned(rows, left=1)
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _row(layer: LayerCompression) -> Sequence[str]:
    fillers = max(0, layer.entries - layer.kept) if layer.index_bits else 0
    return (
        layer.name,
        f"{layer.weights:,}",
        f"{100 * layer.kept / max(1, layer.weights):.1f}",
        f"{fillers:,}",
        f"{layer.weight_bits:.1f}",
        f"{layer.weight_bits_coded:.1f}",
        f"{layer.index_bits:.1f}",
        f"{layer.index_bits_coded:.1f}",
        f"{layer.bytes:,}",
        f"{100 * layer.plain_bytes / layer.dense_bytes:.2f}",
        f"{100 * layer.bytes / layer.dense_bytes:.2f}",
        f"{layer.ratio:.1f}x",
    )
