"""Windows of convolutions and pools: attributes in, rows and columns out."""

from __future__ import annotations

from dataclasses import dataclass

from quant.graph import Pads, Pair
from quant.passes.builder import OnnxNode
from quant.refusal import RefusedError

__all__ = ["Geometry", "geometry_of", "output_size"]


@dataclass(frozen=True)
class Geometry:
    """Kernel, stride, dilation and pads of a window, and how many fit: all (rows, columns).

    ``own_pads`` are those of the operator, without what ceil mode adds at the bottom and right.
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    own_pads: Pads
    pads: Pads
    output: Pair


def output_size(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Windows that fit on a padded row."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def _pair(values: object, what: str) -> Pair:
    if not isinstance(values, list) or len(values) != 2 or any(int(value) < 1 for value in values):
        raise RefusedError(f"its {what} is {values}", "two positive numbers (rows, columns) are supported")
    return int(values[0]), int(values[1])


def geometry_of(node: OnnxNode, size: Pair, kernel: Pair) -> Geometry:
    """The window of a Conv, MaxPool or AveragePool on rows and columns of ``size``.

    Ceil mode is resolved as onnxruntime does: a last window is added where it starts on the image
    or on the padding before it.

    Raises
    ------
    RefusedError
        If an attribute is not for two dimensions, pads are negative, or no window fits.
    """
    attributes = node.attributes
    stride = _pair(attributes.get("strides", [1, 1]), "stride")
    dilation = _pair(attributes.get("dilations", [1, 1]), "dilation")
    automatic = attributes.get("auto_pad", "NOTSET")
    ceil = bool(attributes.get("ceil_mode", 0))
    own = [0, 0, 0, 0] if automatic == "VALID" else list(attributes.get("pads", [0, 0, 0, 0]))
    if len(own) != 4 or min(own) < 0:
        raise RefusedError(f"its pads are {own}", "four pads that are not negative are supported")
    if automatic not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise RefusedError(f"its auto_pad is {automatic}", "export the model with explicit pads")
    pads, output = list(own), [0, 0]
    for axis in range(2):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            count = -(-size[axis] // stride[axis])
            total = (count - 1) * stride[axis] + reach - size[axis]
            if total < -1:
                raise RefusedError(f"its auto_pad {automatic} leaves out pixels on both sides of the image, "
                                   "where runtimes differ", "export the model with explicit pads")
            total = max(0, total)
            before = total // 2 if automatic == "SAME_UPPER" else total - total // 2
            own[axis], own[axis + 2] = before, total - before
            pads[axis], pads[axis + 2] = before, total - before
        before, after = own[axis], own[axis + 2]
        room = size[axis] + before + after - reach
        if room < 0:
            raise RefusedError(f"its window of {reach} is larger than its padded input of "
                               f"{size[axis] + before + after}", "give the model a larger input")
        output[axis] = room // stride[axis] + 1
        if ceil and automatic in ("NOTSET", "", "VALID"):
            count = -(-room // stride[axis]) + 1
            if (count - 1) * stride[axis] >= size[axis] + before:
                count -= 1
            if count != output[axis]:
                pads[axis + 2] = max(0, (count - 1) * stride[axis] + reach - size[axis] - before)
                output[axis] = count
    return Geometry(kernel, stride, dilation, (own[0], own[1], own[2], own[3]),
                    (pads[0], pads[1], pads[2], pads[3]), (output[0], output[1]))
