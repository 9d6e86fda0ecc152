"""What a diagnosis says: of every layer its errors, clipped values and histograms."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from quant.grid_histogram import GridHistogram
from quant.number_format import Format

__all__ = ["Diagnosis", "DiagnosisError", "LayerDiagnosis", "Noise", "OutputEffect", "WeightDiagnosis"]


class DiagnosisError(ValueError):
    """Networks and images that cannot be diagnosed; the message says why and what to do."""


@dataclass(frozen=True)
class Noise:
    """An error beside the signal that it disturbs.

    Attributes
    ----------
    db : float
        Signal-to-noise ratio in decibels, ``10 log10(sum of squared signal / sum of squared error)``;
        infinite if there is no error.
    relative : float
        Root mean square of the error, divided by that of the signal; infinite if there is no signal.
    """

    db: float
    relative: float

    @staticmethod
    def of(signal: float, noise: float) -> Noise:
        """From the sums of squares."""
        if noise == 0.0:
            return Noise(math.inf, 0.0)
        if signal == 0.0:
            return Noise(-math.inf, math.inf)
        return Noise(10 * math.log10(signal / noise), math.sqrt(noise / signal))


@dataclass(frozen=True)
class OutputEffect:
    """The network's output with one layer in fixed point and all others in float.

    Attributes
    ----------
    noise : Noise
        Of the output.
    changed : float
        Share of the images whose largest output is another one than in float.
    divergence : float or None
        Kullback-Leibler divergence of the output's softmax from the float network's, in nats, mean of the
        images: the log loss that is added if float answers are right.  None if the output is no vector.
    """

    noise: Noise
    changed: float
    divergence: float | None = None


@dataclass(frozen=True)
class WeightDiagnosis:
    """The weights of one convolution.

    Attributes
    ----------
    bits : int
    fl : (int, int)
        Smallest and largest fractional length of the output channels.
    low, high : float
        Range of the float weights.
    histogram : GridHistogram
        Of the float weights, in steps of each channel's own format.
    clipped : float
        Share of the float weights outside their format.
    noise : Noise
        Fixed-point weights against float weights.
    """

    bits: int
    fl: tuple[int, int]
    low: float
    high: float
    histogram: GridHistogram
    clipped: float
    noise: Noise

    @property
    def format(self) -> Format:
        """Format of the weights; of the first, if channels differ in their fractional length."""
        return Format(self.bits, True, self.fl[0])


@dataclass(frozen=True)
class LayerDiagnosis:
    """One layer and the feature map that it computes; the first one is the network's input.

    Attributes
    ----------
    name, kind, tensor : str
        Node, kind of node, feature map.
    low, high : float
        Range of the float feature map.
    bits, signed, fl
        Format of the feature map.
    histogram : GridHistogram
        Of the float feature map, in steps of the format.
    clipped, clipped_fixed : float
        Share of the values that round to an integer outside the format: of the float network, and of the
        fixed-point network before its result is rounded.
    whole : Noise
        The fixed-point network's feature map against the float network's.
    injected : Noise
        This layer alone in fixed point, on the float network's inputs, against float.
    inherited : Noise
        This layer in float, on the fixed-point network's inputs, against float.
    fall : float or None
        Decibels that ``whole`` loses against the worst of the layer's inputs; None for the network's
        input and where all inputs are exact.
    weights : WeightDiagnosis or None
    output : OutputEffect or None
        This layer alone in fixed point; None if it was not measured.
    """

    name: str
    kind: str
    tensor: str
    low: float
    high: float
    bits: int
    signed: bool
    fl: int
    histogram: GridHistogram
    clipped: float
    clipped_fixed: float
    whole: Noise
    injected: Noise
    inherited: Noise
    fall: float | None = None
    weights: WeightDiagnosis | None = None
    output: OutputEffect | None = None

    @property
    def format(self) -> Format:
        """Format of the feature map."""
        return Format(self.bits, self.signed, self.fl)


@dataclass(frozen=True)
class Diagnosis:
    """All layers in execution order, on ``images`` images.

    Attributes
    ----------
    changed : float
        Share of the images whose largest output differs between the two networks.
    divergence : float or None
        As in `OutputEffect`, of the fixed-point network.
    """

    network: str
    images: int
    changed: float
    layers: tuple[LayerDiagnosis, ...]
    divergence: float | None = None

    def worst(self) -> LayerDiagnosis | None:
        """The layer that alone costs most at the network's output.

        By the divergence of the softmax, which weighs an error where the answer depends on it; by the error
        if the output is no vector.  Where effects on the output were not measured: the layer with the
        largest injected error.  None if no layer costs anything.
        """
        noisy = [layer for layer in self.layers if _cost(layer) > (0.0, 0.0)]
        return max(noisy, key=_cost, default=None)

    def steepest(self) -> LayerDiagnosis | None:
        """The first layer at which the fixed-point network's signal-to-noise ratio falls most."""
        falling = [layer for layer in self.layers if layer.fall is not None and layer.fall > 0.0]
        return max(falling, key=lambda layer: layer.fall or 0.0, default=None)

    @property
    def output(self) -> Noise:
        """The fixed-point network's output against float."""
        return self.layers[-1].whole

    def to_json(self) -> dict[str, object]:
        """The diagnosis as a JSON object; ratios may be infinite."""
        return asdict(self)


def _cost(layer: LayerDiagnosis) -> tuple[float, float]:
    if layer.output is None:
        return 0.0, layer.injected.relative
    return layer.output.divergence or 0.0, layer.output.noise.relative
