"""The supported operators: one table for the importer's tests, `inspect` and `docs/operators.md`.

``python -m quant.operators`` prints the page.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OPERATORS", "Operator", "operators_page"]


@dataclass(frozen=True)
class Operator:
    """One ONNX operator.

    Attributes
    ----------
    name : str
        Its name in ONNX.
    place : str
        Where it runs: ``array``, ``FC engine``, ``post-processing``, ``host`` or ``folded``
        (into another layer, or into the addresses at which data are read).
    becomes : str
        What it is in the graph.
    limits : str
        What is refused.
    """

    name: str
    place: str
    becomes: str
    limits: str = ""


_CONSTANT = "one operand must be a constant: a number, or one value for each channel"
_FREE = "no limit of its own; the layer behind it must find rows, columns and channels in a regular order"

OPERATORS: tuple[Operator, ...] = (
    Operator("Conv", "array", "Convolution: any kernel, stride, pads, auto_pad, dilation and groups",
             "two-dimensional; constant weights"),
    Operator("Gemm", "FC engine", "Convolution over the whole map", "constant B and C; one bias per output"),
    Operator("MatMul", "FC engine", "Convolution over the whole map; with several rows, a 1x1 Convolution "
             "whose pixels they are", "one operand must be a constant matrix"),
    Operator("Relu", "post-processing", "activation of the node before it"),
    Operator("Clip", "post-processing", "activation of the node before it (ReLU6)", "constant bounds"),
    Operator("Min", "post-processing", "upper bound of an activation", "of a feature map and a number"),
    Operator("Max", "post-processing", "lower bound of an activation", "of a feature map and a number"),
    Operator("MaxPool", "array", "MaxPool: pads, auto_pad, ceil mode, dilation",
             "two-dimensional; no indices; each window touches the image"),
    Operator("AveragePool", "array", "AveragePool: pads, auto_pad, ceil mode, count_include_pad",
             "two-dimensional; no dilation; count_include_pad only where ceil mode adds no window"),
    Operator("GlobalAveragePool", "array", "AveragePool over the whole map"),
    Operator("GlobalMaxPool", "array", "MaxPool over the whole map"),
    Operator("ReduceMean", "array", "AveragePool", "over rows, columns or both"),
    Operator("ReduceMax", "array", "MaxPool", "over rows, columns or both"),
    Operator("Add", "post-processing", "Add; with a constant, part of the convolution beside it",
             "two feature maps of the same shape, or a constant: a number, or one value for each channel"),
    Operator("Sum", "post-processing", "one Add for each two feature maps", "as Add"),
    Operator("Sub", "folded", "part of the convolution beside it, or a depthwise 1x1 Convolution", _CONSTANT),
    Operator("Mul", "folded", "part of the convolution beside it, or a depthwise 1x1 Convolution", _CONSTANT),
    Operator("Div", "folded", "part of the convolution beside it, or a depthwise 1x1 Convolution",
             "the divisor must be a constant: a number, or one value for each channel"),
    Operator("Neg", "folded", "part of the convolution beside it, or a depthwise 1x1 Convolution"),
    Operator("BatchNormalization", "folded", "part of the convolution beside it, or a depthwise 1x1 "
             "Convolution", "evaluation mode"),
    Operator("Concat", "array", "Concat; with zeros, padding",
             "along the channels, or flattened maps of equal rows and columns"),
    Operator("Pad", "folded", "pads of the layer behind it; channels: Select",
             "zeros; minus infinity in front of MaxPool"),
    Operator("Slice", "array", "Select", "positive steps, along channels, rows and columns"),
    Operator("Split", "array", "Select", "along channels, rows and columns"),
    Operator("Gather", "array", "Select, or a 1x1 Convolution that reorders channels",
             "constant indices, evenly spaced unless they are whole channels"),
    Operator("Reshape", "folded", "nothing", _FREE),
    Operator("Flatten", "folded", "nothing", _FREE),
    Operator("Squeeze", "folded", "nothing"),
    Operator("Unsqueeze", "folded", "nothing"),
    Operator("Transpose", "folded", "nothing; channel shuffles become a 1x1 Convolution", _FREE),
    Operator("Expand", "folded", "nothing", "only where it repeats nothing"),
    Operator("Tile", "folded", "nothing", "only where it repeats nothing"),
    Operator("DepthToSpace", "folded", "nothing", _FREE),
    Operator("SpaceToDepth", "folded", "nothing", _FREE),
    Operator("Identity", "folded", "nothing"),
    Operator("Dropout", "folded", "nothing"),
    Operator("Cast", "folded", "nothing", "to floating-point types"),
    Operator("CastLike", "folded", "nothing", "to floating-point types"),
    Operator("Shape", "folded", "a constant"),
    Operator("Size", "folded", "a constant"),
    Operator("If", "folded", "the branch that is taken", "constant condition"),
    Operator("Softmax", "host", "a host operation", "only at the end of the network"),
    Operator("LogSoftmax", "host", "a host operation", "only at the end of the network"),
    Operator("ArgMax", "host", "a host operation", "only at the end of the network"),
)


def operators_page() -> str:
    """The page `docs/operators.md`."""
    lines = [
        "# Supported operators",
        "",
        "Printed by `python -m quant.operators` from the table in `quant/operators.py`.",
        "",
        "ONNX opset 11 to the newest. Any operator is supported where all its inputs are constants: it is",
        "computed while importing. `python -m quant inspect MODEL` says for each node of a model where it",
        "runs, or why it is refused.",
        "",
        "Where it runs: *array* is the convolution array, *FC engine* the same multipliers fed one weight at",
        "a time from the bus, *post-processing* the units behind the accumulators, *host* the computer that",
        "drives the accelerator; *folded* nodes cost nothing of their own.",
        "",
        "| operator | runs on | becomes | limits |",
        "| --- | --- | --- | --- |",
        *(f"| {entry.name} | {entry.place} | {entry.becomes} | {entry.limits} |" for entry in OPERATORS),
        "",
        "A network has one input and one output. Tensors are feature maps of one image: a batch dimension",
        "is set to 1. QuantizeLinear and DequantizeLinear are read by `quant.qdq` as formats.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(operators_page(), end="")
