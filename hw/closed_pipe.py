"""A command line whose output nobody reads any more (``| head``) ends without a word."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

__all__ = ["quiet_when_closed"]

P = ParamSpec("P")


def quiet_when_closed(command: Callable[P, int]) -> Callable[P, int]:
    """The command, with exit code 1 where it raises BrokenPipeError, or its last output is not taken."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> int:
        try:
            code = command(*arguments, **options)
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            # what is left is written when Python ends, and must not fail once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1

    return run
