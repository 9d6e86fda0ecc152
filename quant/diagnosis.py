"""Where a fixed-point network departs from its float network: measured layer by layer, on images.

Both networks run side by side, one batch at a time; of the images only sums and histograms are kept.
`docs/diagnosis.md` explains the terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from quant.data import Batches
from quant.fixed_model import FixedModel
from quant.float_run import float_steps
from quant.graph import Graph
from quant.layer_diagnosis import Diagnosis, DiagnosisError
from quant.network_match import check_same_network
from quant.side_by_side import SideBySide

__all__ = ["Diagnosis", "DiagnosisError", "diagnose"]


def diagnose(
    graph: Graph,
    model: FixedModel,
    batches: Batches,
    *,
    output_effects: bool = False,
    progress: Callable[[int], object] = lambda images: None,
) -> Diagnosis:
    """Run a float network and its fixed-point model side by side and measure every layer.

    Parameters
    ----------
    batches : callable
        Gives the prepared images, float (N, C, H, W), each time that it is called: twice.  Feature maps
        of one batch are in memory at a time (`quant.data.images_per_batch`).
    output_effects : bool
        Whether each layer is also measured at the network's output, which runs about half of the network
        again for every layer.
    progress : callable
        Called after each batch with the number of its images; every image passes twice.

    Raises
    ------
    DiagnosisError
        If the fixed-point model was not calibrated from the float network, there are no images, they
        have another shape, or the float network overflows on them.
    """
    check_same_network(graph, model)
    ranges: dict[str, tuple[float, float]] = {}
    for batch in _checked(graph, batches()):
        for tensor, values in float_steps(graph, batch):
            low, high = (float(bound) for bound in values.aminmax())
            if not (math.isfinite(low) and math.isfinite(high)):
                node = graph.producer(tensor)
                raise DiagnosisError(
                    f"{node.name if node else tensor}: its float results are not finite on these images; "
                    "look at the model's weights and at how the images are prepared"
                )
            old = ranges.get(tensor, (low, high))
            ranges[tensor] = min(old[0], low), max(old[1], high)
        progress(len(batch))
    measured = SideBySide(graph, model, ranges, output_effects)
    for batch in _checked(graph, batches()):
        measured.add(batch)
        progress(len(batch))
    return measured.diagnosis()


def _checked(graph: Graph, batches: Iterable[NDArray[np.float32]]) -> Iterator[torch.Tensor]:
    shape = graph.shapes[graph.input]
    some = False
    for batch in batches:
        if batch.ndim != 4 or batch.shape[1:] != shape:
            raise DiagnosisError(
                f"the images have the shape {batch.shape[1:]}, but the input {graph.input} is "
                f"(C, H, W) = {shape}"
            )
        if len(batch):
            some = True
            yield torch.from_numpy(np.ascontiguousarray(batch, np.float32))
    if not some:
        raise DiagnosisError("there are no images to compare on; give at least one, better 100 or more")
