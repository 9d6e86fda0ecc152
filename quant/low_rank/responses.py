"""Responses of layers, before their activation, at a few places of each image's feature maps."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from quant.float_run import float_steps, run_node
from quant.graph import Graph
from quant.low_rank.rewrite import Chain

__all__ = ["Responses"]

_BATCH = 64


class Responses:
    """Samples responses of a network, and of what becomes of it, at the same places.

    Parameters
    ----------
    inputs : float32 tensor (N, C, H, W)
        Prepared images; they need no labels.
    positions : int
        Places of a feature map that are looked at for each image; all of them if it has no more.
    seed : int
        Of the places, which differ between layers and images.
    """

    def __init__(self, inputs: torch.Tensor, positions: int = 10, seed: int = 1) -> None:
        self.inputs, self.positions, self.seed = inputs, positions, seed

    def _places(self, name: str, size: int) -> NDArray[np.int64]:
        """Places (N, positions) of a layer's rows x columns = ``size``."""
        images = len(self.inputs)
        if self.positions >= size:
            return np.broadcast_to(np.arange(size), (images, size))
        random = np.random.default_rng((self.seed, zlib.crc32(name.encode())))
        return random.integers(0, size, (images, self.positions))

    def sample(
        self,
        graph: Graph,
        chains: Mapping[str, Chain],
        progress: Callable[[int], object] = lambda images: None,
    ) -> dict[str, NDArray[np.float32]]:
        """Responses (samples, filters) of layers by name.

        Parameters
        ----------
        graph : Graph
            Is run as far as the chains need it.
        chains : mapping
            What computes each layer: itself, or its parts.  Their first input is a tensor of the graph.
        progress : callable
            Called with how many more images have been run.
        """
        places = {}
        for name, chain in chains.items():
            _, rows, columns = graph.shapes[chain.nodes[-1].output]
            places[name] = torch.from_numpy(np.array(self._places(name, rows * columns)))
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in chains}
        for start in range(0, len(self.inputs), _BATCH):
            batch = self.inputs[start : start + _BATCH]
            missing = set(chains)
            for tensor, values in float_steps(graph, batch):
                for name in [each for each in missing if chains[each].nodes[0].inputs[0] == tensor]:
                    missing.discard(name)
                    result = values
                    with torch.no_grad():
                        for node in chains[name].nodes:
                            result = run_node(node, [result])
                    chosen = places[name][start : start + len(batch), None]
                    taken = result.flatten(2).gather(2, chosen.expand(-1, result.shape[1], -1))
                    found[name].append(taken.transpose(1, 2).reshape(-1, result.shape[1]).numpy())
                if not missing:
                    break
            progress(len(batch))
        return {name: np.concatenate(parts) for name, parts in found.items()}
