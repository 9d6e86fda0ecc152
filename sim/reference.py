"""The meaning of a fixed-point model: a plain integer interpreter.

Everything else that runs a network (onnxruntime on the QDQ file, the program simulator, the RTL, a
board) is compared with the integers that this module computes.  Feature maps are int64 arrays
(N, C, H, W) in units of 2^-fl of their tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from quant.fixed_model import FixedModel, accumulator_bound
from quant.graph import Add, AveragePool, Concat, Convolution, MaxPool, Node, Pads, Pair, Select
from quant.number_format import requantize, round_half_even_divide

__all__ = ["Integers", "ReferenceRunError", "prepare_input", "run", "run_node", "steps"]

Integers = NDArray[np.int64]


class ReferenceRunError(ValueError):
    """The reference cannot run a model or an input; the message says which tensor and why."""


def run(
    model: FixedModel, inputs: NDArray[np.integer], keep: Collection[str] | None = None
) -> dict[str, Integers]:
    """Every tensor of the model (or those named in ``keep``) for integer inputs (N, C, H, W).

    Raises
    ------
    ReferenceRunError
        If the inputs have another shape or do not fit the input's format.
    """
    return {name: values for name, values in steps(model, inputs) if keep is None or name in keep}


def prepare_input(model: FixedModel, images: NDArray[np.floating]) -> Integers:
    """The integers of a prepared float batch (N, C, H, W): what the first QuantizeLinear does."""
    return model.formats[model.graph.input].quantize(images)


def steps(model: FixedModel, inputs: NDArray[np.integer]) -> Iterator[tuple[str, Integers]]:
    """Names and values of the tensors in execution order; forgets those no longer needed."""
    graph, form = model.graph, model.formats[model.graph.input]
    if inputs.ndim != 4 or inputs.shape[1:] != graph.shapes[graph.input]:
        raise ReferenceRunError(
            f"{graph.input} has the shape (N, C, H, W) = (N, {graph.shapes[graph.input]}), not {inputs.shape}"
        )
    if inputs.size and not form.low <= inputs.min() <= inputs.max() <= form.high:
        raise ReferenceRunError(f"{graph.input} must be {form.low} to {form.high}")
    last_reader = {tensor: node for node in graph.nodes for tensor in node.inputs}
    values = {graph.input: inputs.astype(np.int64)}
    yield graph.input, values[graph.input]
    for node in graph.nodes:
        values[node.output] = run_node(model, node, [values[tensor] for tensor in node.inputs])
        yield node.output, values[node.output]
        for tensor in {*node.inputs, node.output}:
            if last_reader.get(tensor, node) is node:
                del values[tensor]


def run_node(model: FixedModel, node: Node, operands: list[Integers]) -> Integers:
    """One node's result: exact sum or choice, rounded half to even once, clipped."""
    out = model.formats[node.output]
    low, high = model.bounds(node)
    lengths = [model.formats[tensor].fl for tensor in node.inputs]
    match node:
        case Convolution():
            weights = model.weights[node.name]
            return requantize(
                _convolve(model, node, operands[0]), lengths[0] + weights.fl[:, None, None], out, low, high
            )
        case MaxPool():
            return requantize(_maximum(node, operands[0]), lengths[0], out, low, high)
        case AveragePool():
            return _average(node, operands[0], out.fl - lengths[0], low, high)
        case Add():
            finer = max(lengths)
            if finer - min(lengths) > 31:
                raise ReferenceRunError(
                    f"{node.name}: the operands' fractional lengths {lengths} are more than 31 apart"
                )
            return requantize(
                sum((x << (finer - fl) for x, fl in zip(operands, lengths)), np.int64(0)),
                finer,
                out,
                low,
                high,
            )
        case Concat():
            return np.concatenate(
                [requantize(x, fl, out, low, high) for x, fl in zip(operands, lengths)], axis=1
            )
        case Select():
            channels, rows, columns = (
                slice(start, start + (size - 1) * step + 1, step)
                for start, step, size in zip(node.start, node.step, node.size)
            )
            taken = np.pad(
                operands[0][:, channels, rows, columns], ((0, 0), node.pad_channels, (0, 0), (0, 0))
            )
            return requantize(taken, lengths[0], out, low, high)
    raise ReferenceRunError(f"{node.name}: unknown node {type(node).__name__}")


def _taps(
    x: Integers,
    kernel: Pair,
    stride: Pair,
    pads: Pads,
    dilation: Pair,
    fill: int,
) -> Iterator[tuple[int, int, Integers]]:
    """For each position (ky, kx) of the window: that element of every window, (N, C, rows, columns)."""
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    spans = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 1)]
    rows, columns = (x.shape[2 + axis] - spans[axis] for axis in (0, 1))
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y0, x0 = ky * dilation[0], kx * dilation[1]
            yield ky, kx, x[:, :, y0 : y0 + rows : stride[0], x0 : x0 + columns : stride[1]]


def _convolve(model: FixedModel, node: Convolution, x: Integers) -> Integers:
    """Bias plus products, exactly, in units of 2^-(fl_in + fl_w).

    The products are summed by matrix multiplication in floating point, which is exact here: the
    type is chosen so that no partial sum can pass its significand.
    """
    weights, bound = model.weights[node.name], accumulator_bound(model, node)
    if bound >= 1 << 31:
        raise ReferenceRunError(
            f"{node.name}: sums can reach {bound}, past the 32-bit accumulator; "
            "use fewer bits for its weights or its input"
        )
    number = np.float32 if bound < 1 << 24 else np.float64
    groups, (outputs, group_inputs, *kernel) = node.groups, weights.values.shape
    matrix = weights.values.astype(number).reshape(groups, outputs // groups, group_inputs, *kernel)
    sums: torch.Tensor | None = None
    shape: tuple[int, ...] = ()
    for ky, kx, tap in _taps(
        x.astype(number), (kernel[0], kernel[1]), node.stride, node.pads, node.dilation, 0
    ):
        shape = (len(x), outputs, *tap.shape[2:])
        right = torch.from_numpy(np.ascontiguousarray(tap).reshape(len(x), groups, group_inputs, -1))
        left = torch.from_numpy(np.ascontiguousarray(matrix[..., ky, kx]))
        product = left * right if group_inputs == 1 else torch.matmul(left, right)
        sums = product if sums is None else sums.add_(product)
    assert sums is not None
    return sums.numpy().reshape(shape).astype(np.int64) + weights.bias[:, None, None]


def _maximum(node: MaxPool, x: Integers) -> Integers:
    """Largest element of each window; padding never wins."""
    lowest = np.iinfo(np.int32).min
    return np.maximum.reduce(
        [tap for *_, tap in _taps(x, node.kernel, node.stride, node.pads, node.dilation, lowest)]
    )


def _average(node: AveragePool, x: Integers, shift: int, low: int, high: int) -> Integers:
    """``sum * 2^shift / count`` of each window, rounded half to even from the exact quotient."""

    def sums(values: Integers) -> Integers:
        taps = (tap for *_, tap in _taps(values, node.kernel, node.stride, node.pads, (1, 1), 0))
        return sum(taps, np.int64(0))  # pyright: ignore[reportReturnType]

    if abs(shift) > 31:
        raise ReferenceRunError(
            f"{node.name}: the fractional lengths of input and output are more than 31 apart"
        )
    count = np.int64(node.kernel[0] * node.kernel[1])
    if not node.count_include_pad:
        count = sums(np.ones((1, 1, *x.shape[2:]), np.int64))
    quotient = round_half_even_divide(sums(x) << max(shift, 0), count << max(-shift, 0))
    return np.clip(quotient, low, high)
