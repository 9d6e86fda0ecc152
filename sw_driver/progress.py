"""A progress bar for transfers, if tqdm is there and somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sw_driver.accelerator import Progress

__all__ = ["transfer_bar"]


@contextmanager
def transfer_bar(
    what: str, total: int, *, quiet: bool = False, unit: str = "B"
) -> Iterator[Progress | None]:
    """What to give as ``progress``; None without tqdm, a terminal, or anything to show."""
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    if tqdm is None or quiet or not sys.stderr.isatty():
        yield None
        return
    with tqdm(total=total, desc=what, unit=unit, unit_scale=True, leave=False, file=sys.stderr) as bar:
        yield bar.update
