"""Candidates evaluated side by side, by whichever backend joblib has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from compiler.candidates import Candidate, Target
from compiler.fit import Result, evaluate

__all__ = ["BackendError", "evaluate_side_by_side"]

#: Backends that give results as they come; the others give them at the end.
_ONE_BY_ONE = ("loky", "threading", "sequential")


class BackendError(ValueError):
    """There is no such backend, or what it needs is not installed."""


def _prepare(backend: str) -> Any:
    """What a backend outside joblib wants done first; the result must be kept while it is used."""
    try:
        if backend == "dask":
            from distributed import Client  # pyright: ignore[reportMissingImports]

            return Client(processes=False, dashboard_address=None)
        if backend == "ray":
            from ray.util.joblib import register_ray  # pyright: ignore[reportMissingImports]

            register_ray()
    except ImportError as error:
        package = {"dask": "distributed", "ray": "ray"}[backend]
        raise BackendError(f"backend {backend}: {error}; pip install {package}") from None
    return None


def evaluate_side_by_side(
    model: Path, target: Target, candidates: Sequence[Candidate], *, backend: str, jobs: int, bar: tqdm
) -> list[Result]:
    """`compiler.fit.evaluate` for each candidate, in their order.

    Parameters
    ----------
    model : Path
        Fixed-point model; each worker reads it once.
    backend : str
        ``"loky"``, ``"threading"``, ``"multiprocessing"``, ``"sequential"``, ``"dask"``, ``"ray"`` or what
        has been registered with joblib.
    jobs : int
        Workers; -1: one for each processor.
    bar : tqdm
        Advanced by each result.

    Raises
    ------
    BackendError
        If there is no such backend.
    """
    client = _prepare(backend)
    try:
        configured = parallel_config(backend=backend, n_jobs=jobs)
    except (ValueError, RuntimeError, ImportError) as error:
        raise BackendError(f"backend {backend}: {str(error).splitlines()[0]}") from None
    results = []
    with client or nullcontext(), configured:
        workers = Parallel(return_as="generator" if backend in _ONE_BY_ONE else "list")
        for result in workers(delayed(evaluate)(model, candidate, target) for candidate in candidates):
            results.append(result)
            bar.update()
    return results
