"""The state of an unfinished training beside its output, so that an interrupted one goes on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hw.whole_file import write_whole

__all__ = ["Checkpoint", "fingerprint"]


def fingerprint(**parts: object) -> str:
    """A digest of everything that a training depends on: files (paths, by content) and settings."""
    digest = hashlib.sha256()
    for name, part in sorted(parts.items()):
        if isinstance(part, Path) and part.is_file():
            digest.update(name.encode() + hashlib.sha256(part.read_bytes()).digest())
        else:
            digest.update(json.dumps([name, part], default=str).encode())
    return digest.hexdigest()


class Checkpoint:
    """A file of tensors and numbers, written beside its place and then renamed.

    Parameters
    ----------
    path : Path or None
        None: nothing is kept.
    identity : str
        The `fingerprint` of the training; a file of another one is not taken up.

    Attributes
    ----------
    notes : dict
        Plain values that belong to the training as a whole: saved with each state, and loaded with it.
    """

    def __init__(self, path: Path | None, identity: str = ""):
        self.path, self.identity = path, identity
        self.notes: dict[str, Any] = {}

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace what is there."""
        if self.path is None:
            return
        content = io.BytesIO()
        torch.save({"identity": self.identity, "state": dict(state), "notes": self.notes}, content)
        write_whole(self.path, content.getvalue())

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None without a file, or with a damaged one or another training's."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            found = torch.load(io.BytesIO(self.path.read_bytes()), weights_only=True)
            if found["identity"] != self.identity:
                return None
            self.notes = found["notes"]
            return found["state"]
        except Exception:  # torch's reader raises many kinds of its own for a damaged file
            return None

    def remove(self) -> None:
        """Delete the file: the training is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
