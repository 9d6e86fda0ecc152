"""Biases that make up for the mean error which rounding leaves in a layer (Nagel et al. 2019, section 4.2).

Rounded weights and inputs shift each channel of a layer's result by a constant on average.  Biases
are stored to 2^-(fl_in + fl_w), so that subtracting this mean costs nothing on the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from quant.fixed_model import FixedWeights, channel_bounds
from quant.float_run import run_node
from quant.graph import Convolution
from quant.weight_formats import real_parameters

__all__ = ["corrected_biases"]


def corrected_biases(
    node: Convolution,
    weights: FixedWeights,
    inputs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    input_fl: int,
    input_range: tuple[int, int],
) -> FixedWeights:
    """The weights with biases that take the mean difference to the float network away.

    The mean is trusted as far as the images agree on it: with the variance v of its estimate, the
    share mean^2 / (mean^2 + v) of it is taken, so that one image alone corrects nothing.

    Parameters
    ----------
    inputs : pairs of batches (N, C, H, W)
        The layer's input in the float and in the fixed-point network.
    """
    weight, bias = real_parameters(weights, input_fl)
    parameters = torch.from_numpy(weight), torch.from_numpy(bias)
    differences = []  # (images, channels)
    for real, fixed in inputs:
        difference = run_node(node, [real]) - run_node(node, [fixed], parameters)
        differences.append(difference.mean(dim=(2, 3), dtype=torch.float64))
    found = torch.cat(differences).numpy()
    if len(found) < 2 or not np.isfinite(found).all():
        return weights
    mean, variance = found.mean(axis=0), found.var(axis=0, ddof=1) / len(found)
    trusted = mean * np.divide(mean**2, mean**2 + variance, out=np.zeros_like(mean), where=mean != 0.0)
    units = np.clip(np.rint(np.ldexp(trusted, weights.fl + input_fl)), -(2.0**31), 2.0**31).astype(np.int64)
    corrected = replace(weights, bias=weights.bias + units)
    fits = channel_bounds(corrected, input_range) < 1 << 31
    return replace(weights, bias=np.where(fits, corrected.bias, weights.bias))
