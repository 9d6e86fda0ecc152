"""The accuracy bars and what each step of the search gives: ``python -m bench.accuracy``.

Calibrates every network at 8/8, 4/8 (weights / feature maps), automatic widths of 5 bits a weight, and
4/4, with all steps, with each step left out, and with none, and prints top-1 and agreement with the
float network on the evaluation images, which no calibration sees.  ``--json`` writes the rows;
`bench/accuracy.json` holds those of this version, and a test compares with it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from bench.accuracy_data import AccuracyNetwork, BenchDataError, add_network_arguments, networks_of
from bench.accuracy_score import Answers, Score, fixed_answers, float_answers, score
from quant.budget import Budget, weight_bytes
from quant.calibrate import calibrate
from quant.calibrate_command import write_json
from quant.graph import Graph
from quant.mixed_widths import find_widths
from quant.search import STEPS, Search
from quant.text_table import aligned

__all__ = ["BARS", "SETTINGS", "Row", "main", "measure"]

#: Name, width of weights (None: 5 bits a weight on average, found automatically), width of feature maps.
SETTINGS: tuple[tuple[str, int | None, int], ...] = (("8/8", 8, 8), ("4/8", 4, 8), ("5 bits/8", None, 8),
                                                     ("4/4", 4, 4))

#: Largest drop of top-1 in points and least agreement in percent, where there is a bar.
BARS: Mapping[str, Mapping[str, tuple[float | None, float | None]]] = {
    "resnet20": {"8/8": (0.3, 97.7), "4/8": (0.3, 93), "5 bits/8": (0.3, 95), "4/4": (6, None)},
    "resnet8": {"8/8": (0.5, 93.5), "4/8": (3, None), "5 bits/8": (1.5, None)},
    "squeezenet": {"8/8": (1.0, 90), "4/8": (6, None), "5 bits/8": (3, None)},
    "vww": {"8/8": (None, 97), "4/8": (None, 90), "5 bits/8": (None, 94)},
    "lenet5": {"8/8": (0.2, None), "4/8": (0.3, None), "5 bits/8": (0.3, None), "4/4": (1.5, None)},
}


@dataclass(frozen=True)
class Row:
    """One calibration.

    Attributes
    ----------
    network, setting, search : str
    weight_bytes : int
        Of all weights at their widths.
    float_top1, top1 : float or None
        Percent; None without labels.
    agreement : float
        Percent of images with the float network's answer.
    met : bool or None
        Whether it meets the bar; None where there is none.
    """

    network: str
    setting: str
    search: str
    weight_bytes: int
    float_top1: float | None
    top1: float | None
    agreement: float
    met: bool | None


def measure(
    network: AccuracyNetwork,
    graph: Graph,
    setting: tuple[str, int | None, int],
    search: Search,
    real: Answers,
) -> Row:
    """Calibrate one network and score it; ``real`` (N,) are the float network's answers."""
    name, weight_bits, map_bits = setting
    batches = list(network.batches(network.calibration, graph.input_layout))
    bits = (
        find_widths(graph, lambda: batches, Budget("bits", 5), map_bits, search=search).chosen.bits
        if weight_bits is None
        else weight_bits
    )
    model, _ = calibrate(graph, batches, bits, map_bits, network.preparation, search=search)
    found, own = score(fixed_answers(network, model), real, network), score(real, real, network)
    layers = model.weights.items()
    counts = {layer: weights.values.size for layer, weights in layers}
    size = weight_bytes(counts, {layer: weights.bits for layer, weights in layers})
    return Row(
        network.name,
        name,
        str(search),
        size,
        _percent(own.top1),
        _percent(found.top1),
        round(100 * found.agreement, 2),
        _met(network.name, name, own, found) if search == Search() else None,
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _met(network: str, setting: str, own: Score, found: Score) -> bool | None:
    if setting not in BARS.get(network, {}):
        return None
    drop, agreement = BARS[network][setting]
    met = agreement is None or 100 * found.agreement >= agreement - 1e-9
    if drop is not None and own.top1 is not None and found.top1 is not None:
        met = met and 100 * (own.top1 - found.top1) <= drop + 1e-9
    return met


def _bar_words(network: str, setting: str) -> list[str]:
    drop, agreement = BARS.get(network, {}).get(setting, (None, None))
    words = [] if drop is None else [f"drop <= {drop:g}"]
    return words if agreement is None else [*words, f"agrees >= {agreement:g}"]


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    lines = [("network", "setting", "search", "weight bytes", "float", "top-1", "agrees", "bar")]
    for row in rows:
        verdict = {None: "", True: "met", False: "MISSED"}[row.met]
        verdict = " ".join([*_bar_words(row.network, row.setting), verdict]) if verdict else ""
        tops = ["" if top is None else f"{top:.2f}" for top in (row.float_top1, row.top1)]
        cells = (row.network, row.setting, row.search, f"{row.weight_bytes:,}", *tops)
        lines.append((*cells, f"{row.agreement:.2f}", verdict))
    return "\n".join(aligned(lines, left=3))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code is 1 if a bar is missed or something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy",
        description="Accuracy of calibrated networks at several widths, beside the bars.",
        epilog="examples:\n  python -m bench.accuracy --only lenet5 --steps\n"
        "  python -m bench.accuracy --json bench/accuracy.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network_arguments(parser)
    parser.add_argument("--steps", action="store_true", help="also with each step left out, and with none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON, too")
    parsed = parser.parse_args(arguments)
    searches = [Search()]
    if parsed.steps:
        searches += [Search.without(step) for step in STEPS] + [Search.paper(), Search.paper("absolute")]
    rows = []
    try:
        chosen = networks_of(parsed)
        with tqdm(total=len(chosen) * len(SETTINGS) * len(searches), leave=False, unit="run") as bar:
            for network in chosen:
                graph = network.graph()
                real = float_answers(network, graph)
                for setting in SETTINGS:
                    for search in searches:
                        bar.set_description(f"{network.name} {setting[0]}")
                        rows.append(measure(network, graph, setting, search, real))
                        bar.update()
    except BenchDataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(rows))
    if parsed.json is not None:
        write_json([asdict(row) for row in rows], parsed.json)
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
