"""What pruning and weight sharing raise for things that their user can put right."""

from __future__ import annotations

__all__ = ["CompressionError"]


class CompressionError(ValueError):
    """A network cannot be pruned, trained or compressed as asked; the message says why and what to do."""
