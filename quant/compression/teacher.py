"""Images labelled by a network, for another one to be trained on (Hinton et al. 2015, section 2)."""

from __future__ import annotations

import torch
from torch.nn import functional

from quant.compression.error import CompressionError
from quant.compression.labelled_data import LabelledData
from quant.compression.trainable import TrainableNetwork

__all__ = ["taught"]

_BATCH = 250


def taught(data: LabelledData, teacher: TrainableNetwork, temperature: float) -> LabelledData:
    """The same images with the teacher's probabilities at a temperature as labels.

    A network that is trained on them approaches the teacher's scores over the temperature, up to a constant
    for each image.  Images that are shifted while it is trained keep the answers for them as they are here.

    Parameters
    ----------
    temperature : float
        Positive; the larger, the more alike are the probabilities of all classes.

    Returns
    -------
    LabelledData
        With labels float32 (N, classes), to train on.

    Raises
    ------
    CompressionError
        If the temperature is not positive.
    """
    if not temperature > 0:
        raise CompressionError(f"the temperature must be positive, not {temperature:g}")
    with torch.no_grad():
        batches = [
            functional.softmax(teacher.scores(inputs.to(teacher.device)) / temperature, 1).cpu()
            for inputs in data.inputs.split(_BATCH)
        ]
    return LabelledData(data.inputs, torch.cat(batches))
