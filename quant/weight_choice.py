"""A convolution's integers: fractional lengths, rounding and biases, as the steps of the search say.

Weights that share few values (`quant.compression`) still do afterwards, so that a machine with a weight
decoder reads them as indices into a codebook: they are rounded to the nearest at one fractional length,
whatever the search would do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quant.bias_correction import corrected_biases
from quant.fixed_model import FixedWeights
from quant.graph import Convolution
from quant.rounding import ErrorAwareRounding, InputPairs
from quant.search import Search
from quant.weight_formats import candidate_lengths, choose_weight_lengths, fixed_weights, pick_lengths

__all__ = ["SHARED_VALUES", "WeightChoice", "is_ternary", "shares_values"]

#: So many values of a layer's weights, zero among them, fit into an index of four bits.
SHARED_VALUES = 16
#: Layers with fewer weights for each of their values take few because they have few.
_LEAST_SHARING = 4


def is_ternary(weight: NDArray[np.floating]) -> bool:
    """Whether the weights are -a, 0 and b, with a and b above 0, and all three occur."""
    lowest, largest = weight.min(initial=0.0), weight.max(initial=0.0)
    zero = weight == 0
    inside = zero | (weight == lowest) | (weight == largest)
    return bool(lowest < 0 < largest and zero.any() and inside.all())


def shares_values(weight: NDArray[np.floating]) -> bool:
    """Whether the weights are ternary, or share at most `SHARED_VALUES` values."""
    if is_ternary(weight):
        return True
    values = len(np.unique(weight))
    return values <= SHARED_VALUES and weight.size >= _LEAST_SHARING * values


class WeightChoice:
    """Finds the weights and biases of one convolution for any width.

    Parameters
    ----------
    node : Convolution
    search : Search
    input_fl : int
        Fractional length of the layer's input.
    input_range : (int, int)
        Smallest and largest integer of the input.
    pairs : callable
        Gives the layer's input in the float and in the fixed-point network (`quant.rounding`).
    images : int
        How many images these are.
    """

    def __init__(
        self,
        node: Convolution,
        search: Search,
        input_fl: int,
        input_range: tuple[int, int],
        pairs: InputPairs,
        images: int,
    ):
        self.node, self.search, self.pairs = node, search, pairs
        self.input_fl, self.input_range = input_fl, input_range
        shared = shares_values(node.weight)
        self.channels = search.channels and not shared
        rounding = search.rounding and not shared
        self.rounding = ErrorAwareRounding(node, pairs, images) if rounding else None

    def weights(self, bits: int) -> FixedWeights:
        """The integers of ``bits`` bits; fractional bits are given up where sums could pass 32 bits."""
        found = self._rounded(bits)
        if not self.search.biases:
            return found
        return corrected_biases(self.node, found, self.pairs(), self.input_fl, self.input_range)

    def _rounded(self, bits: int) -> FixedWeights:
        node, search, rounding = self.node, self.search, self.rounding
        if rounding is None:
            lengths = choose_weight_lengths(node.weight, bits, search.formats, self.channels)
            return fixed_weights(node, bits, lengths, self.input_fl, self.input_range)
        choices = candidate_lengths(node.weight, bits, search.formats, self.channels)
        values, errors = rounding.round(choices, bits)
        picked = pick_lengths(choices, errors, self.channels)
        channels = np.arange(len(picked))
        lengths, chosen = choices[picked, channels], values[picked, channels]

        def rounded(wanted: NDArray[np.int64]) -> NDArray[np.int64]:
            return chosen if np.array_equal(wanted, lengths) else rounding.round(wanted[None], bits)[0][0]

        return fixed_weights(node, bits, lengths, self.input_fl, self.input_range, rounded)
