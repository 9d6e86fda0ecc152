"""How far a network's answers are from the float network's, without labels."""

from __future__ import annotations

import torch

from quant.graph import Graph

__all__ = ["changed_answers", "expected_loss", "is_classifier", "softmax_divergence"]


def is_classifier(graph: Graph) -> bool:
    """Whether the output is a vector of scores: several channels of one pixel."""
    channels, rows, columns = graph.shapes[graph.output]
    return channels > 1 and (rows, columns) == (1, 1)


def softmax_divergence(real: torch.Tensor, fixed: torch.Tensor) -> float:
    """Kullback-Leibler divergence of the softmax of ``fixed`` from that of ``real``, in nats.

    Added up over all images; scores are (N, classes, 1, 1).  It weighs an error where the answer
    depends on it: among the largest scores, and more if they are close.
    """
    wanted = torch.log_softmax(real.flatten(1).double(), dim=1)
    found = torch.log_softmax(fixed.flatten(1).double(), dim=1)
    return max(0.0, float((wanted.exp() * (wanted - found)).sum()))


def changed_answers(real: torch.Tensor, fixed: torch.Tensor) -> int:
    """Images whose largest score is another one; of equal scores, the first is the largest."""
    return int((_answers(real) != _answers(fixed)).sum())


def expected_loss(real: torch.Tensor, fixed: torch.Tensor) -> float:
    """Right answers that are expected to be lost, over all images.

    The float network's softmax is taken for the probability of each class: an image whose answer changes
    from a class of probability 0.5 to one of 0.4 loses 0.1.
    """
    probability = torch.softmax(real.flatten(1).double(), dim=1)
    kept, got = (probability.gather(1, _answers(scores)[:, None]) for scores in (real, fixed))
    return float((kept - got).sum())


def _answers(scores: torch.Tensor) -> torch.Tensor:
    # numpy's argmax takes the first of equal ones, torch's any
    return torch.from_numpy(scores.flatten(1).numpy().argmax(1))
