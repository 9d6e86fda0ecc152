"""Error-aware rounding: weights are rounded so that a layer's result, not each weight, comes out right.

Rounding every weight to its nearest neighbour treats each error alone.  Here one output channel's
integers q are chosen together: they minimise the squared error of the channel's result on the
calibration images,

    | W x - q x~ |^2  =  q H q^T - 2 q G w^T + const,   H = cov(x~, x~),  G = cov(x~, x),

where x are the columns of the layer's input in the float network and x~ those in the fixed-point
network, so that errors made by the layers before are compensated as well.  Means do not count: the
bias takes them (`quant.bias_correction`).

The minimum over a bounded integer grid is approached in two steps: the real minimiser is rounded one
weight after the other, each error being handed to the weights that are still free (Hubara et al.
2021; Frantar et al. 2023, section 3; with x and x~ apart as in Lybrand and Saab 2021), and then single
weights are changed as long as that lowers the error (coordinate descent).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from quant.graph import Convolution
from quant.number_format import Format

__all__ = ["ErrorAwareRounding"]

#: White noise that is added to the inputs, as a share of their mean variance: what the images do not
#: determine stays near the float weight.  Of 0.01, 0.03, 0.1, 0.3 and 1, this left the least error at 4 bits
#: on calibration images that had been held out.
_DAMPING = 0.1
#: Weights of one output channel that are rounded together; longer ones are cut (fully connected layers).
_LONGEST = 4608
#: Input columns that are looked at for each weight of a channel, and at least: pixels beside each other
#: say much the same.
_COLUMNS_PER_WEIGHT, _LEAST_COLUMNS = 48, 1 << 15
#: Numbers in the unfolded input that are in memory at a time.
_UNFOLDED = 1 << 23
#: Square of the mean over the variance above which float32 sums of squares say little about the latter.
_LARGE_MEAN = 1e3
#: Above this, sums of squares could overflow in float32.
_LARGEST_IN_FLOAT32 = 1e12
#: Columns between two updates of everything that is not rounded yet.
_BLOCK = 64
_SWEEPS = 6

#: A layer's input in the float and in the fixed-point network, batch by batch, each time it is called.
InputPairs = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]


class ErrorAwareRounding:
    """Rounds the weights of one convolution on the inputs that it sees.

    Parameters
    ----------
    node : Convolution
    pairs : callable
        Returns pairs of batches (N, C, H, W): the input in the float and the fixed-point network.
    images : int
        How many images these are together.
    """

    def __init__(self, node: Convolution, pairs: InputPairs, images: int):
        self.node = node
        weight = torch.from_numpy(np.array(node.weight, np.float64))
        #: (groups, output channels of a group, weights of a channel)
        self.weight = weight.reshape(node.groups, len(weight) // node.groups, -1)
        length = self.weight.shape[2]
        parts = -(-length // _LONGEST)
        edges = [length * part // parts for part in range(parts + 1)]
        self.parts = [
            _Part(self.weight[:, :, start:end], *_covariances(node, pairs(), images, start, end))
            for start, end in itertools.pairwise(edges)
        ]

    def round(self, lengths: NDArray[np.int64], bits: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Integers of ``bits`` bits for several choices of fractional lengths at once.

        Parameters
        ----------
        lengths : int array (choices, out)

        Returns
        -------
        values : int array (choices, out, in / groups, rows, columns)
        errors : float array (choices, out)
            Mean squared error of each output channel's result, up to a constant of the channel.
        """
        groups, outputs, _length = self.weight.shape
        choices = len(lengths)
        scale = np.ldexp(1.0, -lengths).reshape(choices, groups, outputs).transpose(1, 0, 2)
        unit = torch.from_numpy(np.ascontiguousarray(scale)).reshape(groups, choices * outputs)
        found = [part.round(unit, Format(bits, True, 0)) for part in self.parts]
        values = torch.cat([values for values, _ in found], dim=2)
        errors = torch.stack([errors for _, errors in found]).sum(0)

        def by_choice(array: torch.Tensor) -> torch.Tensor:
            return array.reshape(groups, choices, outputs, *array.shape[2:]).transpose(0, 1)

        shape = (choices, groups * outputs, *self.node.weight.shape[1:])
        return (
            by_choice(values).reshape(shape).to(torch.int64).numpy(),
            by_choice(errors).reshape(choices, groups * outputs).numpy(),
        )


class _Part:
    """The quadratic form of some of the weights of each channel, and its approximate integer minimum."""

    def __init__(self, weight: torch.Tensor, fixed: torch.Tensor, cross: torch.Tensor):
        self.weight = weight
        length = weight.shape[2]
        diagonal = fixed.diagonal(dim1=1, dim2=2)
        # inputs that never change determine nothing: any damping will do
        damping = (_DAMPING * diagonal.mean(dim=1)).clamp_min(1e-30)
        identity = torch.eye(length, dtype=torch.float64)
        self.hessian = fixed + damping[:, None, None] * identity
        factor, failed = torch.linalg.cholesky_ex(self.hessian)
        if failed.any():
            # inputs that hardly change beside their mean leave only the rounding errors of the sums, which
            # are no covariance: noise above all of them leaves the weights where they are
            largest = fixed.abs().sum(dim=2).amax(dim=1)
            damping = torch.where(failed > 0, 2 * largest + damping, damping)
            self.hessian = fixed + damping[:, None, None] * identity
            factor = torch.linalg.cholesky(self.hessian)
        self.linear = weight @ cross.transpose(1, 2) + damping[:, None, None] * weight
        self.target = torch.cholesky_solve(self.linear.transpose(1, 2), factor).transpose(1, 2)
        # weights with the most influence are rounded first, while all others can still make up for them
        self.order = diagonal.argsort(dim=1, descending=True, stable=True)
        ordered = self.hessian.gather(1, self.order[:, :, None].expand_as(self.hessian))
        ordered = ordered.gather(2, self.order[:, None, :].expand_as(self.hessian))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
        self.compensation = torch.linalg.cholesky((inverse + inverse.transpose(1, 2)) / 2, upper=True)

    def round(self, unit: torch.Tensor, form: Format) -> tuple[torch.Tensor, torch.Tensor]:
        """Integers (groups, rows, weights) and errors (groups, rows) for units (groups, rows)."""
        repeats = unit.shape[1] // self.target.shape[1]
        order = self.order[:, None, :].expand(-1, unit.shape[1], -1)
        ordered = _round_in_order(
            self.target.repeat(1, repeats, 1).gather(2, order), unit, self.compensation, form
        )
        values = torch.empty_like(ordered).scatter_(2, order, ordered)
        linear = self.linear.repeat(1, repeats, 1)
        values, errors = _descend(values, unit, linear, self.hessian, form)
        # neither step promises it, but a channel is never left worse than with the nearest integers
        real = self.weight.repeat(1, repeats, 1) / unit[:, :, None]
        nearest = real.round_().clamp_(form.low, form.high)
        real = nearest * unit[:, :, None]
        plain = ((real @ self.hessian - 2 * linear) * real).sum(dim=2)
        better = plain < errors
        return torch.where(better[:, :, None], nearest, values), torch.where(better, plain, errors)


def _round_in_order(
    real: torch.Tensor, unit: torch.Tensor, compensation: torch.Tensor, form: Format
) -> torch.Tensor:
    """Round column after column; the columns behind make up for each error as far as they can.

    ``real`` (groups, rows, weights) is used up; ``compensation`` is the upper Cholesky factor of the
    inverse of the quadratic form.
    """
    values = torch.empty_like(real)
    length = real.shape[2]
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        block, errors = real[:, :, start:end], torch.empty_like(real[:, :, start:end])
        factor = compensation[:, start:end, start:end]
        for column in range(end - start):
            wanted = block[:, :, column]
            rounded = (wanted / unit).round_().clamp_(form.low, form.high)
            error = (wanted - rounded * unit) / factor[:, column, column, None]
            block[:, :, column:] -= error[:, :, None] * factor[:, None, column, column:]
            values[:, :, start + column], errors[:, :, column] = rounded, error
        if end < length:
            real[:, :, end:] -= errors @ compensation[:, start:end, end:]
    return values


def _descend(
    values: torch.Tensor, unit: torch.Tensor, linear: torch.Tensor, hessian: torch.Tensor, form: Format
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change single integers (groups, rows, weights) while that lowers the error."""
    length = values.shape[2]
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    slope = linear - (values * unit[:, :, None]) @ hessian  # minus half the gradient
    for _ in range(_SWEEPS):
        changed = False
        for start in range(0, length, _BLOCK):
            end = min(start + _BLOCK, length)
            steps = torch.zeros_like(values[:, :, start:end])
            local, block = slope[:, :, start:end].clone(), hessian[:, start:end, start:end]
            for column in range(end - start):
                before = values[:, :, start + column]
                best = before + local[:, :, column] / (diagonal[:, start + column, None] * unit)
                step = (best.round_().clamp_(form.low, form.high) - before) * unit
                local -= step[:, :, None] * block[:, None, column]
                steps[:, :, column] = step
            if steps.any():
                changed = True
                values[:, :, start:end] += steps / unit[:, :, None]
                slope -= steps @ hessian[:, start:end]
        if not changed:
            break
    real = values * unit[:, :, None]
    return values, -((slope + linear) * real).sum(dim=2)


def _covariances(
    node: Convolution, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], images: int, start: int, end: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """H and G (groups, weights, weights) of the weights ``start`` to ``end`` of every channel."""
    length = end - start
    products = torch.zeros(2, node.groups, length, length, dtype=torch.float64)
    sums = torch.zeros(2, node.groups, length, dtype=torch.float64)
    count, levels = 0, None
    for real, fixed in _columns(node, pairs, images, start, end):
        if not torch.isfinite(fixed).all():
            continue
        if max(float(real.abs().max()), float(fixed.abs().max())) > _LARGEST_IN_FLOAT32:
            real, fixed = real.double(), fixed.double()
        if levels is None:
            levels = _levels(real), _levels(fixed)
        real, fixed = real - levels[0], fixed - levels[1]
        products[0] += (fixed @ fixed.transpose(1, 2)).double()
        products[1] += (fixed @ real.transpose(1, 2)).double()
        sums[0] += fixed.sum(dim=2, dtype=torch.float64)
        sums[1] += real.sum(dim=2, dtype=torch.float64)
        count += real.shape[2]
    means = sums / max(count, 1)
    products = products / max(count, 1) - means[0][:, :, None] * means[:, :, None, :]
    return (products[0] + products[0].transpose(1, 2)) / 2, products[1]


def _levels(columns: torch.Tensor) -> torch.Tensor:
    """What to take off each input, (groups, weights, 1): its mean if it hardly changes beside it, else 0.

    Covariances stay the same, but the difference of two large sums would leave none of such an input's.
    """
    variance, mean = torch.var_mean(columns.double(), dim=2, keepdim=True, correction=0)
    return torch.where(mean.square() > _LARGE_MEAN * variance, mean, 0.0).to(columns.dtype)


def _columns(
    node: Convolution, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], images: int, start: int, end: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Columns (groups, weights, pixels) of the unfolded inputs, a few images at a time.

    Of layers with many pixels only some are taken, at other places in every image.
    """
    seen = 0
    wanted = max(_LEAST_COLUMNS, _COLUMNS_PER_WEIGHT * (end - start))
    for batch in pairs:
        whole = node.weight[0].size * node.groups * batch[0].shape[2] * batch[0].shape[3]
        chunk = max(1, _UNFOLDED // max(whole, 1))
        for real, fixed in zip(batch[0].split(chunk), batch[1].split(chunk)):
            both = []
            for values in (real, fixed):
                columns = _unfold(node, values)[:, :, start:end]
                step = max(1, columns.shape[3] * images // wanted)
                picked = columns[:, :, :, seen % step :: step] if step > 1 else columns
                both.append(picked.permute(1, 2, 0, 3).reshape(node.groups, end - start, -1))
            seen += 1
            yield both[0], both[1]


def _unfold(node: Convolution, values: torch.Tensor) -> torch.Tensor:
    """(N, groups, weights of a channel, output pixels)."""
    top, left, bottom, right = node.pads
    padded = functional.pad(values, (left, right, top, bottom))
    kernel = (node.weight.shape[2], node.weight.shape[3])
    columns = functional.unfold(padded, kernel, dilation=node.dilation, stride=node.stride)
    return columns.reshape(len(values), node.groups, -1, columns.shape[2])
