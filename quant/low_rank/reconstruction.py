"""Low-rank maps that reproduce sampled responses: symmetric, asymmetric, and with the activation.

y are a layer's responses (before its activation) in the original network, y^ those of the same filters
behind layers that have been approximated already, each a row of a matrix (n, d).

============  =========================================  =============================
symmetric     sum |y - M y - b|^2                        PCA of the responses
asymmetric    sum |y - M y^ - b|^2                       reduced-rank regression
non-linear    sum |r(y) - r(M y^ + b)|^2                 alternating, with a penalty
============  =========================================  =============================

TPAMI 2016, sections 3.1 to 3.3.  The paper solves reduced-rank regression by a generalized SVD; here y^ is
whitened first, and what is left is an ordinary one.
"""

from __future__ import annotations

import numpy as np

from quant.graph import Activation
from quant.low_rank.projection import Matrix, Projection

__all__ = ["ITERATIONS", "ReducedRankRegression", "auxiliary", "non_linear", "residual", "response_spectrum"]

#: Alternations of the non-linear solver, and the penalty of the first and of the last one.
ITERATIONS = 30
_PENALTIES = 0.01, 1.0
#: Variances below this share of the largest are rounding.
_NOTHING = 1e-12


def response_spectrum(responses: Matrix) -> Matrix:
    """Eigenvalues (d,) of the covariance of responses (n, d), the largest first."""
    centred = responses - responses.mean(0)
    return np.maximum(np.linalg.eigvalsh(centred.T @ centred / len(centred))[::-1], 0.0)


class ReducedRankRegression:
    """Least squares of targets by ``given`` responses (n, d) through a map of low rank.

    The decomposition of ``given`` is done once for any number of targets and ranks.  With the target
    ``given`` itself it is PCA.
    """

    def __init__(self, given: Matrix) -> None:
        self._mean = given.mean(0)
        self._centred = given - self._mean
        variances, directions = np.linalg.eigh(self._centred.T @ self._centred / len(given))
        real = variances > max(_NOTHING * variances[-1], np.finfo(np.float64).tiny)
        self._whitening = directions[:, real] / np.sqrt(variances[real])

    def fit(self, target: Matrix, rank: int) -> Projection:
        """The best map of at most this rank for a target (n, d).

        It has a lower one if the given responses do not span as many dimensions.
        """
        mean = target.mean(0)
        covariance = self._centred.T @ (target - mean) / len(target)
        left, sizes, right = np.linalg.svd(self._whitening.T @ covariance, full_matrices=False)
        if not len(sizes):  # all responses are the same: the bias says it all
            return Projection(np.zeros((len(mean), 1)), np.zeros((1, len(self._mean))), mean)
        rank = max(1, min(rank, len(sizes)))
        # half of each size to either layer: neither weights nor the responses between get very unequal
        roots = np.sqrt(sizes[:rank])
        expand = right[:rank].T * roots
        reduce = (self._whitening @ (left[:, :rank] * roots)).T
        return Projection(expand, reduce, mean - expand @ (reduce @ self._mean))


def auxiliary(target: Matrix, fitted: Matrix, penalty: float, activation: Activation) -> Matrix:
    """The z that minimises (r(y) - r(z))^2 + penalty (z - f)^2, element by element.

    r clips to the activation's bounds.  z is the best of three candidates: below the lower bound, between
    them, and above the upper one; in each range the function is a parabola (TPAMI 2016, section 3.2.2).

    Parameters
    ----------
    target : array
        y.
    fitted : array
        f = M y^ + b.
    """
    low, high = activation.low, activation.high
    wanted = target.clip(low, high)
    candidates = [((penalty * fitted + wanted) / (penalty + 1)).clip(low, high)]
    if np.isfinite(low):
        candidates.append(np.minimum(fitted, low))
    if np.isfinite(high):
        candidates.append(np.maximum(fitted, high))
    best, least = candidates[0], np.full(fitted.shape, np.inf)
    for candidate in candidates:
        cost = (wanted - candidate.clip(low, high)) ** 2 + penalty * (candidate - fitted) ** 2
        best, least = np.where(cost < least, candidate, best), np.minimum(cost, least)
    return best


def residual(target: Matrix, fitted: Matrix, activation: Activation) -> float:
    """sum |r(y) - r(f)|^2 over the sum of |r(y)|^2."""
    wanted = target.clip(activation.low, activation.high)
    got = fitted.clip(activation.low, activation.high)
    return float(((wanted - got) ** 2).sum() / max((wanted**2).sum(), np.finfo(np.float64).tiny))


def non_linear(
    target: Matrix, given: Matrix, rank: int, activation: Activation, iterations: int = ITERATIONS
) -> Projection:
    """The map that reproduces responses after their activation.

    From the linear solution on, alternately z in closed form and M, b by reduced-rank regression of z, with
    a penalty that grows from 0.01 to 1.  The best map on the way is returned, so that it is never worse
    than the linear one.
    """
    regression = ReducedRankRegression(given)
    best = found = regression.fit(target, rank)
    if activation == Activation():
        return best
    fitted = found.apply(given)
    least = residual(target, fitted, activation)
    for penalty in np.geomspace(*_PENALTIES, iterations):
        found = regression.fit(auxiliary(target, fitted, float(penalty), activation), rank)
        fitted = found.apply(given)
        error = residual(target, fitted, activation)
        if error < least:
            best, least = found, error
    return best
