"""Networks in the format in which the authors of Deep Compression published SqueezeNet.

Little-endian: a uint32 for each layer, how many weights of it are stored; then for each layer 256 float32 of
codebook, float32 biases, a uint8 index into the codebook for each stored weight, and gaps of 4 bits, two in a
byte, the first in the low half.  Positions are the sums of (gap + 1), minus 1, in the weights (out, in, rows,
columns) in C order.  Weights that are not stored take entry 0.  The file has neither shapes nor a checksum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quant.encoding.error import EncodingError
from quant.encoding.relative_index import positions_of

__all__ = ["read_published_file"]

_ENTRIES = 256


def read_published_file(
    content: bytes, shapes: Mapping[str, Sequence[int]], where: str = "the file"
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights and biases of each layer.

    Parameters
    ----------
    content : bytes
    shapes : mapping
        Shape of the weights of each layer, (out, in / groups, rows, columns), in the order of the file.
    where : str
        Stands for the file in messages.

    Raises
    ------
    EncodingError
        If the file is shorter or longer than these layers, or a weight lies outside of its layer.
    """
    place = 0

    def take(kind: str, count: int, what: str) -> NDArray:
        nonlocal place
        size = np.dtype(kind).itemsize * count
        if place + size > len(content):
            raise EncodingError(f"{where}: it ends in {what}; is it of another network?")
        found = np.frombuffer(content, kind, count, place)
        place += size
        return found

    stored = take("<u4", len(shapes), "the numbers of weights")
    layers = {}
    for (name, shape), count in zip(shapes.items(), stored.tolist(), strict=True):
        size = math.prod(shape)
        if count > size:
            raise EncodingError(f"{where}: {name} stores {count:,} weights and has {size:,}")
        codebook = take("<f4", _ENTRIES, f"the codebook of {name}")
        bias = take("<f4", shape[0], f"the biases of {name}")
        indices = take("u1", count, f"the weights of {name}")
        halves = take("u1", -(-count // 2), f"the gaps of {name}")
        gaps = np.stack([halves & 15, halves >> 4], axis=1).reshape(-1)[:count]
        positions = positions_of(gaps)
        if count and positions[-1] >= size:
            raise EncodingError(f"{where}: {name} stores weight {positions[-1]:,} of {size:,}")
        if not (np.isfinite(codebook).all() and np.isfinite(bias).all()):
            raise EncodingError(f"{where}: {name} has a value that is not finite")
        flat = np.full(size, codebook[0], np.float32)
        flat[positions] = codebook[indices]
        layers[name] = flat.reshape(tuple(shape)), bias.astype(np.float32)
    if place != len(content):
        raise EncodingError(f"{where}: {len(content) - place:,} bytes are left over behind its last layer")
    return layers
