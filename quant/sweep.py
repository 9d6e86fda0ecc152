"""Static against dynamic precision at several widths: the experiment of Qiu et al. 2016, Table 3.

For every setting of widths the network is quantized in three ways, and each result answers the same
evaluation images:

* ``static``: one fractional length for all weights and one for all feature maps (`quant.static_precision`);
* ``paper``: one for each layer, as in section 4.2 of the paper, rounded to the nearest (`Search.paper`);
* ``dynamic``: the same with all the steps of `quant.search.Search`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from quant.calibrate import calibrate
from quant.data import ImageSet, images_per_batch, prepare
from quant.fixed_model import FixedModel, Preparation
from quant.fixed_output import ExactOutput
from quant.float_run import run_float
from quant.graph import Convolution, Graph
from quant.search import Search
from quant.static_precision import find_static_precision, sample_float
from quant.traffic import FLOAT_BITS, model_bytes, moved_bytes
from quant.widths import WidthError, Widths, is_fully_connected

__all__ = [
    "PAPER_SETTINGS",
    "SCHEMES",
    "Setting",
    "SettingError",
    "Sweep",
    "SweepRow",
    "default_settings",
    "parse_settings",
    "sweep",
    "top_share",
]

#: How a network is quantized, in the order of the rows.
SCHEMES = ("static", "paper", "dynamic")

#: Widths of the paper's Table 3, and narrower ones.
PAPER_SETTINGS = "16/16,16/8,8/8,8/8:fc=4,8/4,6/6,4/4"


class SettingError(ValueError):
    """Settings cannot be read or there is nothing to measure on; the message says what to write."""


@dataclass(frozen=True)
class Setting:
    """Widths of feature maps and of weights, written as ``8/8:fc=4``."""

    maps: Widths
    weights: Widths

    @classmethod
    def parse(cls, text: str) -> Setting:
        """``DATA/WEIGHTS``, as in the paper; each is what `Widths.parse` takes, with ``:`` for its comma.

        Raises
        ------
        SettingError, WidthError, FormatError
        """
        sides = text.strip().split("/")
        if len(sides) != 2 or not all(sides):
            raise SettingError(
                f"{text.strip()!r} is no setting; write widths of feature maps and of weights as 8/8, "
                "and exceptions by name as 8/8:fc=4"
            )
        maps, weights = (side.replace(":", ",") for side in sides)
        return cls(Widths.parse(maps, "feature maps"), Widths.parse(weights, "weights"))

    def __str__(self) -> str:
        return f"{self.maps}/{self.weights}".replace(",", ":")


def parse_settings(text: str) -> tuple[Setting, ...]:
    """Settings separated by commas, each once.

    Raises
    ------
    SettingError, WidthError, FormatError
    """
    return tuple(dict.fromkeys(Setting.parse(part) for part in text.split(",")))


def default_settings(graph: Graph) -> tuple[Setting, ...]:
    """`PAPER_SETTINGS`, without those for fully connected layers if the network has none."""
    some = any(isinstance(node, Convolution) and is_fully_connected(node, graph) for node in graph.nodes)
    return tuple(
        setting
        for setting in parse_settings(PAPER_SETTINGS)
        if some or not any(pattern == "fc" for pattern, _ in setting.weights.exceptions)
    )


@dataclass(frozen=True)
class SweepRow:
    """One quantized network, or the float one.

    Attributes
    ----------
    setting, scheme : str
        Such as ``8/8:fc=4``, and one of `SCHEMES`; both are ``float`` for the float network.
    top1, top5 : float or None
        Share of labels among the largest 1 and 5 outputs; None without labels.
    agreement : float
        Share of images whose largest output is the float network's.
    model_bytes, moved_bytes : int
        As `quant.traffic` counts them.
    map_fl, weight_fl : (int, int) or None
        Smallest and largest fractional length of feature maps and of weights.
    """

    setting: str
    scheme: str
    top1: float | None
    top5: float | None
    agreement: float
    model_bytes: int
    moved_bytes: int
    map_fl: tuple[int, int] | None = None
    weight_fl: tuple[int, int] | None = None


@dataclass(frozen=True)
class Sweep:
    """All rows, the float network's first.

    Attributes
    ----------
    network : str
    calibration_images, evaluation_images : int
    apart : bool
        Whether no image was both calibrated and evaluated on, as far as positions in one set tell.
    """

    network: str
    calibration_images: int
    evaluation_images: int
    apart: bool
    rows: tuple[SweepRow, ...]

    def settings(self) -> list[str]:
        """The settings of the fixed-point rows, each once, in order."""
        return list(dict.fromkeys(row.setting for row in self.rows[1:]))

    def row(self, setting: str, scheme: str) -> SweepRow:
        """One row.

        Raises
        ------
        KeyError
            If there is none.
        """
        for row in self.rows:
            if (row.setting, row.scheme) == (setting, scheme):
                return row
        raise KeyError(f"{setting} {scheme}")

    def to_json(self) -> dict[str, object]:
        """The sweep as a JSON object."""
        return asdict(self)


def sweep(
    graph: Graph,
    calibration: ImageSet,
    evaluation: ImageSet,
    settings: Sequence[Setting],
    preparation: Preparation | None = None,
    *,
    apart: bool = True,
    layout: str | None = None,
    progress: Callable[[str, int], object] = lambda what, images: None,
) -> Sweep:
    """Quantize a network at every setting by every scheme, and evaluate each.

    Parameters
    ----------
    calibration, evaluation : ImageSet
        ``apart`` says whether they have no image in common.
    preparation : Preparation or None
        How images become the input; by default they are the input.
    layout : str or None
        As in `quant.data.prepare`.
    progress : callable
        Called with what is being done, and how many more images were evaluated: `len(evaluation)` in all
        for every row.

    Raises
    ------
    SettingError
        If there are no images.
    WidthError
        If an exception fits no layer; before anything is run.
    DataError, CalibrationError
        If images do not fit the network, or the float network overflows on them.
    """
    widths = [_fitting(setting, graph) for setting in settings]
    if not len(calibration) or not len(evaluation):
        raise SettingError("there are no images to calibrate or evaluate on; give at least one of each")
    preparation = preparation or Preparation()
    shape, size = graph.shapes[graph.input], images_per_batch(graph)

    def batches(images: ImageSet, how: Preparation = preparation) -> Iterable[NDArray[np.float32]]:
        return prepare(images, how, shape, graph.input_layout, layout, size)

    def evaluated(
        what: str, how: Preparation, answer: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        found = []
        for batch in batches(evaluation, how):
            found.append(answer(batch))
            progress(what, len(batch))
        return np.concatenate(found)

    def float_answer(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return run_float(graph, torch.from_numpy(batch), {graph.output})[graph.output].flatten(1).numpy()

    progress("float", 0)
    labels = evaluation.labels
    real = evaluated("float", preparation, float_answer)
    of_weights = {node.name: FLOAT_BITS for node in graph.nodes}
    of_maps = dict.fromkeys(graph.shapes, FLOAT_BITS)
    rows = [
        SweepRow(
            "float",
            "float",
            top_share(real, labels, 1),
            top_share(real, labels, 5),
            1.0,
            model_bytes(graph, of_weights),
            moved_bytes(graph, of_weights, of_maps),
        )
    ]
    sample = sample_float(graph, batches(calibration), len(calibration))
    for setting, (of_weights, of_maps) in zip(settings, widths):
        for scheme in SCHEMES:
            what = f"{setting} {scheme}"
            progress(what, 0)
            if scheme == "static":
                model = find_static_precision(graph, sample, of_weights, of_maps, preparation).model
            else:
                search = Search.paper() if scheme == "paper" else Search()
                model, _ = calibrate(
                    graph, batches(calibration), of_weights, of_maps, preparation, search=search
                )
            found = evaluated(what, model.preparation, ExactOutput(model))
            rows.append(
                SweepRow(
                    str(setting),
                    scheme,
                    top_share(found, labels, 1),
                    top_share(found, labels, 5),
                    float(np.mean(found.argmax(1) == real.argmax(1))),
                    model_bytes(graph, of_weights),
                    moved_bytes(graph, of_weights, of_maps),
                    *_lengths(model),
                )
            )
    return Sweep(graph.name, len(calibration), len(evaluation), apart, tuple(rows))


def _fitting(setting: Setting, graph: Graph) -> tuple[dict[str, int], dict[str, int]]:
    """Widths of weights by node and of feature maps by tensor."""
    try:
        return setting.weights.weights_of(graph), setting.maps.maps_of(graph)
    except WidthError as error:
        raise WidthError(f"{setting}: {error}") from None


def _lengths(model: FixedModel) -> tuple[tuple[int, int], tuple[int, int] | None]:
    maps = [form.fl for form in model.formats.values()]
    weights = [int(fl) for found in model.weights.values() for fl in found.fl]
    return (min(maps), max(maps)), (min(weights), max(weights)) if weights else None


def top_share(
    outputs: NDArray[np.generic], labels: NDArray[np.int64] | None, count: int
) -> float | None:
    """Share of ``labels`` (N,) among the ``count`` largest ``outputs`` (N, classes); None without labels.

    Of equal outputs, the first counts as larger.
    """
    if labels is None:
        return None
    order = np.argsort(-outputs.astype(np.float64), axis=1, kind="stable")[:, :count]
    return float(np.mean((order == labels[:, None]).any(axis=1)))
