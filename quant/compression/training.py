"""Training of a network's parameters, epoch by epoch, the same from run to run and after an interruption."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from quant.compression.error import CompressionError
from quant.compression.labelled_data import LabelledData
from quant.compression.trainable import TrainableNetwork
from quant.graph import Shape

__all__ = ["TrainingSettings", "check_shift", "scaled_dropout", "shifted", "train", "train_masked"]

#: A mean loss of an epoch of so many times that of guessing is taken for divergence.
_DIVERGED = 3.0


@dataclass(frozen=True)
class TrainingSettings:
    """How a stage is trained: Adam with a cosine schedule down to 0.

    Attributes
    ----------
    epochs, batch : int
    learning_rate : float
        At the beginning of each stage.
    l1, l2 : float
        The loss has l1 * sum |w| + l2 / 2 * sum w^2 of all weights added.
    dropout : float
        Rate of the dense network at the input of fully connected layers behind another one.
    seed : int
    shift : int
        Each time an image is trained on, `shifted` moves it by at most so many pixels; its label stays.
    """

    epochs: int = 8
    batch: int = 64
    learning_rate: float = 1e-3
    l1: float = 0.0
    l2: float = 1e-4
    dropout: float = 0.0
    seed: int = 1
    shift: int = 0


def check_shift(shift: int, shape: Shape) -> None:
    """Refuse a shift that does not fit a network's input.

    Parameters
    ----------
    shift : int
        As in `TrainingSettings`.
    shape : tuple
        (C, H, W).

    Raises
    ------
    CompressionError
        If it is negative, if the input is no image, or if nothing of an image could be left.
    """
    _, rows, columns = shape
    if shift < 0:
        raise CompressionError(f"a shift must be a number of pixels from 0 on, not {shift}")
    if shift and rows == columns == 1:
        raise CompressionError(f"the network's input {shape} is no image, so it cannot be shifted")
    if shift and shift >= min(rows, columns):
        raise CompressionError(
            f"images of {rows}x{columns} pixels cannot be shifted by {shift}; "
            f"shift them by at most {min(rows, columns) - 1}"
        )


def shifted(images: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Images (N, C, H, W), each moved by whole pixels of its own, at most so many down or up, right or left.

    Empty places repeat the border, so that neither a background is asked for, which is another number
    after each preparation, nor does a photograph get a frame.

    Parameters
    ----------
    generator : torch.Generator
        The processor's; it draws each number of pixels from -most to most, all alike.
    """
    count, _, rows, columns = images.shape
    moves = torch.randint(-most, most + 1, (2, count, 1), generator=generator)
    row = (torch.arange(rows) - moves[0]).clamp(0, rows - 1)[:, None, :, None]
    column = (torch.arange(columns) - moves[1]).clamp(0, columns - 1)[:, None, None, :]
    channel = torch.arange(images.shape[1])[:, None, None]
    return images[torch.arange(count)[:, None, None, None], channel, row, column]


def scaled_dropout(network: TrainableNetwork, rate: float) -> dict[str, float]:
    """The rate for each fully connected layer behind another one: D_r = D_o sqrt(C_ir / C_io).

    C_io and C_ir are the layer's connections before and after pruning (Han et al. 2015, section 3.2).
    """
    if not rate:
        return {}
    kept = network.kept()
    return {
        name: rate * math.sqrt(kept[name] / network.weights[name].numel())
        for name in network.hidden_vectors()
    }


def train(
    network: TrainableNetwork,
    data: LabelledData,
    settings: TrainingSettings,
    *,
    parameters: Sequence[torch.Tensor],
    stage: int = 0,
    before_step: Callable[[], object] = lambda: None,
    after_step: Callable[[], object] = lambda: None,
    resumed: Mapping[str, Any] | None = None,
    after_epoch: Callable[[Mapping[str, Any]], object] = lambda state: None,
    progress: Callable[[int], object] = lambda images: None,
) -> None:
    """Train one stage.

    Parameters
    ----------
    parameters : sequence of tensors
        Those that the optimizer changes.
    stage : int
        Stages of one training differ in the order of the images.
    before_step, after_step : callable
        Called when gradients are known, and when parameters have changed.
    resumed : mapping or None
        What ``after_epoch`` was given last, to go on from there; parameters must have been loaded.
    after_epoch : callable
        Called with the state of the optimizer and the number of epochs done.
    progress : callable
        Called with how many more images were seen.

    Raises
    ------
    CompressionError
        If the input cannot be shifted so far; if the loss is not a finite number or grows far beyond that
        of guessing.
    """
    check_shift(settings.shift, network.graph.shapes[network.graph.input])
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
    first = 0
    if resumed is not None:
        optimizer.load_state_dict(resumed["optimizer"])
        first = resumed["epoch"]
    dropout = scaled_dropout(network, settings.dropout)
    steps = math.ceil(len(data) / settings.batch)
    guessing = math.log(max(2, math.prod(network.graph.shapes[network.graph.output])))
    for epoch in range(first, settings.epochs):
        number = (settings.seed * 1009 + stage) * 1009 + epoch
        drawn = torch.Generator().manual_seed(number)  # the processor's: the same with any device
        order = torch.randperm(len(data), generator=drawn)
        generator = torch.Generator(network.device).manual_seed(number)
        total = 0.0
        for step, chosen in enumerate(order.split(settings.batch)):
            done = (epoch * steps + step) / (settings.epochs * steps)
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 + math.cos(math.pi * done)) / 2
            inputs = data.inputs[chosen]
            if settings.shift:
                inputs = shifted(inputs, settings.shift, drawn)
            scores = network.scores(inputs.to(network.device), dropout, generator)
            loss = functional.cross_entropy(scores, data.labels[chosen].to(network.device))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise CompressionError(
                    f"the loss is {value} in epoch {epoch + 1}; train with a smaller "
                    f"learning rate than {settings.learning_rate:g}"
                )
            total += value * len(chosen)
            for parameter in network.parameters():
                parameter.grad = None
            (loss + _penalty(network, settings)).backward()
            before_step()
            optimizer.step()
            after_step()
            progress(len(chosen))
        if total / len(data) > _DIVERGED * guessing:
            raise CompressionError(
                f"training diverges: the loss is {total / len(data):.3g} in epoch {epoch + 1}, "
                f"that of guessing {guessing:.3g}; train with a smaller learning rate than "
                f"{settings.learning_rate:g}"
            )
        after_epoch({"optimizer": optimizer.state_dict(), "epoch": epoch + 1})


def _penalty(network: TrainableNetwork, settings: TrainingSettings) -> torch.Tensor:
    total = torch.zeros((), device=network.device)
    for weight in network.weights.values():
        if settings.l1:
            total = total + settings.l1 * weight.abs().sum()
        if settings.l2:
            total = total + settings.l2 / 2 * weight.square().sum()
    return total


def train_masked(
    network: TrainableNetwork, data: LabelledData, settings: TrainingSettings, **more: Any
) -> None:
    """Train all parameters, pruned weights staying exactly zero; ``more`` and errors as in `train`."""

    def mask_gradients() -> None:
        for name, weight in network.weights.items():
            if weight.grad is not None:
                weight.grad *= network.masks[name]

    network.apply_masks()
    train(
        network,
        data,
        settings,
        parameters=network.parameters(),
        before_step=mask_gradients,
        after_step=network.apply_masks,
        **more,
    )
