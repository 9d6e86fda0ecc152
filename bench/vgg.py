"""VGG-16 and VGG-16-SVD (Simonyan and Zisserman 2015; Qiu et al. 2016) with random weights of 8 bits.

VGG-16-SVD is Qiu's network: its first fully connected layer is two, 25088x500 and 500x4096.  What
weights are worth does not matter to cycles; formats are chosen so that results fill their 8 bits and
every layer is worth comparing.
"""

from __future__ import annotations

import math

import numpy as np

from quant.fixed_model import FixedModel, FixedWeights
from quant.graph import Activation, Convolution, Graph, MaxPool, Node, Shape
from quant.number_format import Format

__all__ = ["CONVOLUTIONS", "vgg16"]

#: Output channels of the convolutions of each group; a pooling layer follows each group.
CONVOLUTIONS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

_RELU = Activation(0.0)
#: Weights are -127 … 127, all equally likely: their root mean square.
_WEIGHT_SIZE = 73


def vgg16(*, svd: bool = False, size: int = 224, divide: int = 1, seed: int = 0) -> FixedModel:
    """The network for inputs of 3 x ``size`` x ``size``, signed 8 bits.

    Parameters
    ----------
    svd : bool
        Qiu's, with a first fully connected layer of rank 500.
    size, divide : int
        Smaller images, a multiple of 32, and a fraction of all channels: for tests.
    seed : int
        Of the weights.
    """
    random = np.random.default_rng(seed)
    shapes: dict[str, Shape] = {"image": (3, size, size)}
    formats = {"image": Format(8, True, 0)}
    weights: dict[str, FixedWeights] = {}
    nodes: list[Node] = []

    def add(node: Node, shape: Shape, form: Format) -> None:
        nodes.append(node)
        shapes[node.output], formats[node.output] = shape, form

    def convolution(name: str, outputs: int, kernel: int, pad: int, activation: Activation) -> None:
        source = nodes[-1].output if nodes else "image"
        channels, rows, columns = shapes[source]
        values = random.integers(-127, 128, (outputs, channels, kernel, kernel))
        fl = round(math.log2(_WEIGHT_SIZE * math.sqrt(channels * kernel * kernel)))
        bias = random.integers(-(32 << fl), 32 << fl, outputs)
        weights[name] = FixedWeights(values, 8, np.full(outputs, fl), bias)
        node = Convolution(
            name=name,
            inputs=(source,),
            output=f"{name}_out",
            activation=activation,
            weight=np.zeros(0, np.float32),  # the integers are the weights
            bias=np.zeros(0, np.float32),
            pads=(pad,) * 4,
        )
        shape = (outputs, rows + 2 * pad - kernel + 1, columns + 2 * pad - kernel + 1)
        add(node, shape, Format(8, activation.low < 0, 0))

    for group, widths in enumerate(CONVOLUTIONS, 1):
        for number, width in enumerate(widths, 1):
            convolution(f"conv{group}_{number}", width // divide, 3, 1, _RELU)
        source = nodes[-1].output
        channels, rows, columns = shapes[source]
        pool = MaxPool(
            name=f"pool{group}", inputs=(source,), output=f"pool{group}_out", kernel=(2, 2), stride=(2, 2)
        )
        add(pool, (channels, rows // 2, columns // 2), formats[source])
    first = shapes[nodes[-1].output][1]
    if svd:
        convolution("fc6_1", 500 // divide, first, 0, Activation())
        convolution("fc6_2", 4096 // divide, 1, 0, _RELU)
    else:
        convolution("fc6", 4096 // divide, first, 0, _RELU)
    convolution("fc7", 4096 // divide, 1, 0, _RELU)
    convolution("fc8", 1000 // divide, 1, 0, Activation())
    name = "vgg16_svd" if svd else "vgg16"
    graph = Graph(name, nodes, shapes, "image", nodes[-1].output, (1000 // divide,))
    return FixedModel(graph, formats, weights)
