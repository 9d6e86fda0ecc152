"""Feature maps of a whole calibration set between two layers: in memory up to a limit, then on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

__all__ = ["MapStore"]


class MapStore:
    """Batches of tensors by key.

    Parameters
    ----------
    memory_limit : int
        Bytes that are held in memory; batches beyond it go to temporary files.
    """

    def __init__(self, memory_limit: int = 2 << 30):
        self.memory_limit = memory_limit
        self._used = 0
        self._batches: dict[str, list[torch.Tensor | Path]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def __enter__(self) -> MapStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._batches.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def append(self, key: str, batch: torch.Tensor) -> None:
        """Add the next batch of a tensor."""
        self._batches.setdefault(key, []).append(self._keep(batch))

    def replace(self, key: str, index: int, batch: torch.Tensor) -> None:
        """Put another batch in the place of one."""
        self._forget(self._batches[key][index])
        self._batches[key][index] = self._keep(batch)

    def batches(self, key: str) -> Iterator[torch.Tensor]:
        """The batches of a tensor, in order."""
        for entry in self._batches[key]:
            yield torch.from_numpy(np.load(entry)) if isinstance(entry, Path) else entry

    def holds(self, key: str) -> bool:
        """Whether a tensor is there."""
        return key in self._batches

    def drop(self, key: str) -> None:
        """Forget a tensor."""
        for entry in self._batches.pop(key):
            self._forget(entry)

    def _keep(self, batch: torch.Tensor) -> torch.Tensor | Path:
        size = batch.numel() * batch.element_size()
        if self._used + size <= self.memory_limit:
            self._used += size
            return batch
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pointshift-")
        self._files += 1
        path = Path(self._folder.name) / f"{self._files}.npy"
        np.save(path, batch.numpy())
        return path

    def _forget(self, entry: torch.Tensor | Path) -> None:
        if isinstance(entry, Path):
            entry.unlink()
        else:
            self._used -= entry.numel() * entry.element_size()
