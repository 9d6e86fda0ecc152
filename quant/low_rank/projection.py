"""A low-rank map of a layer's responses: what every method of this package finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["METHODS", "Matrix", "Projection"]

Matrix = NDArray[np.float64]

#: Ways to find a projection: of the weights; of responses, symmetric, asymmetric, and with the activation.
METHODS = ("svd", "symmetric", "linear", "nonlinear")


@dataclass(frozen=True, eq=False)
class Projection:
    """Responses y (d,) become M y + b with M = P Q^T of rank d' (TPAMI 2016, section 3.1).

    The layer's own weights W become Q^T W, d' filters of the same kernel; P is a 1x1 layer behind them.

    Attributes
    ----------
    expand : float64 array (d, d')
        P.
    reduce : float64 array (d', d)
        Q^T.
    offset : float64 array (d,)
        b.
    """

    expand: Matrix
    reduce: Matrix
    offset: Matrix

    @property
    def rank(self) -> int:
        """d'."""
        return self.expand.shape[1]

    def apply(self, responses: Matrix) -> Matrix:
        """Approximated responses (n, d) of responses (n, d)."""
        return responses @ self.reduce.T @ self.expand.T + self.offset
