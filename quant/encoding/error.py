"""What every encoding raises for values that cannot be encoded and for damaged streams."""

from __future__ import annotations

__all__ = ["EncodingError"]


class EncodingError(ValueError):
    """Values cannot be encoded, or a stream is truncated or damaged; the message says where and why."""
