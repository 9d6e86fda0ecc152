"""Plain truncated SVD of a layer's weights: no data, and no regard for what responses look like.

The weights W (d, inputs) of a fully connected layer, or of a convolution with a row for each filter, are
U S V^T; the largest d' singular values stay (Qiu et al. 2016, section 3.2).
"""

from __future__ import annotations

import numpy as np

from quant.graph import Convolution
from quant.low_rank.projection import Matrix, Projection

__all__ = ["weight_matrix", "weight_projection", "weight_spectrum"]

#: Singular values below this share of the largest are rounding.
_NOTHING = 1e-7


def weight_matrix(node: Convolution) -> Matrix:
    """The weights (d, inputs x rows x columns), a row for each filter."""
    return node.weight.reshape(len(node.weight), -1).astype(np.float64)


def weight_spectrum(node: Convolution) -> Matrix:
    """Squared singular values of the weights, the largest first."""
    return np.square(np.linalg.svd(weight_matrix(node), compute_uv=False), dtype=np.float64)


def weight_projection(node: Convolution, rank: int) -> Projection:
    """The projection to which the truncated SVD amounts: M = U_d' U_d'^T, and the bias stays as it is.

    Each of the two layers gets the square root of the singular values, so that both are of one size.
    """
    filters, sizes, _ = np.linalg.svd(weight_matrix(node), full_matrices=False)
    rank = max(1, min(rank, int(np.count_nonzero(sizes > _NOTHING * sizes[0]))))
    filters, roots = filters[:, :rank], np.sqrt(np.maximum(sizes[:rank], np.finfo(np.float32).tiny))
    bias = node.bias.astype(np.float64)
    return Projection(filters * roots, (filters / roots).T, bias - filters @ (filters.T @ bias))
