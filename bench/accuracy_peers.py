"""``python -m bench.accuracy_peers``: accuracy of fixed-point networks beside other quantizers.

All calibrate on the same images and are scored on the same others.  onnxruntime's best setting is picked
by its results on the evaluation images, which only favours the peer; nothing of ours is chosen on them.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bench.accuracy_data import AccuracyNetwork, BenchDataError, add_network_arguments, networks_of
from bench.accuracy_score import Answers, Score, fixed_answers, float_answers, score
from bench.brevitas_peer import RECIPES, brevitas_is_there, measure
from bench.onnxruntime_peer import best, sweep
from hw.whole_file import check_writable
from quant.calibrate import calibrate
from quant.calibrate_command import write_json
from quant.graph import Graph

__all__ = ["main", "measure_ours"]

#: The network that widths below 8 bits are compared on.
_NARROW = "resnet20"
_WIDTHS = ((8, 8), (4, 8), (4, 4))

Row = dict[str, object]


def measure_ours(
    network: AccuracyNetwork, graph: Graph, weight_bits: int, activation_bits: int, float_network: Answers
) -> Row:
    """`quant.calibrate.calibrate` with its default settings, as a row of the table.

    Parameters
    ----------
    graph : Graph
        What `AccuracyNetwork.graph` gave.
    float_network : int array (N,)
        The float network's answers.
    """
    batches = list(network.batches(network.calibration, graph.input_layout))
    began = time.perf_counter()
    model, _ = calibrate(graph, batches, weight_bits, activation_bits, network.preparation)
    seconds = time.perf_counter() - began
    found = score(fixed_answers(network, model), float_network, network)
    return _row("ours", "default", weight_bits, activation_bits, found, seconds)


def _row(
    tool: str, setting: str, weight_bits: int, activation_bits: int, found: Score, seconds: float
) -> Row:
    return {
        "tool": tool,
        "setting": setting,
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        **asdict(found),
        "seconds": seconds,
    }


def _onnxruntime_rows(
    network: AccuracyNetwork, graph: Graph, float_network: Answers
) -> tuple[list[Row], list[Row]]:
    """The best symmetric and the best asymmetric setting; and all of them."""
    results = list(sweep(network, float_network, graph.input_layout == "NHWC"))
    rows = [
        _row(
            f"onnxruntime, {'symmetric' if result.setting.symmetric else 'asymmetric'}",
            str(result.setting),
            8,
            8,
            result.score,
            result.seconds,
        )
        for result in results
    ]
    chosen = [rows[results.index(best(results, symmetric))] for symmetric in (True, False)]
    return chosen, rows


def _measure_network(network: AccuracyNetwork, brevitas: bool) -> Row:
    """Everything about one network, printed as it is found; returned for JSON."""
    graph = network.graph()
    float_network = float_answers(network, graph)
    found = score(float_network, float_network, network)
    print(
        f"\n{network.name}: {len(network.calibration)} images to calibrate, "
        f"{len(network.evaluation)} to evaluate; float top-1 {_percent(found.top1)}"
    )
    print(_line("tool", "setting", "bits", "top-1", "agrees", "seconds"))
    rows, swept = _onnxruntime_rows(network, graph, float_network)
    for row in rows:
        _print_row(row)
    for weight_bits, activation_bits in _WIDTHS if network.name == _NARROW else _WIDTHS[:1]:
        rows.append(measure_ours(network, graph, weight_bits, activation_bits, float_network))
        _print_row(rows[-1])
    if brevitas and network.name == _NARROW:
        for recipe in RECIPES:
            result = measure(network, graph, recipe, float_network)
            widths = (recipe.weight_bits, recipe.activation_bits)
            rows.append(_row("Brevitas", str(recipe), *widths, result.score, result.seconds))
            _print_row(rows[-1])
    return {
        "network": network.name,
        "calibration_images": len(network.calibration),
        "evaluation_images": len(network.evaluation),
        "float_top1": found.top1,
        "rows": rows,
        "onnxruntime_settings": swept,
    }


def _percent(share: object) -> str:
    return f"{100 * share:.2f}" if isinstance(share, float) else "-"


def _line(*cells: str) -> str:
    return f"{cells[0]:24} {cells[1]:52} {cells[2]:>5} {cells[3]:>7} {cells[4]:>7} {cells[5]:>8}"


def _print_row(row: Row) -> None:
    print(
        _line(
            str(row["tool"]),
            str(row["setting"]),
            f"{row['weight_bits']}/{row['activation_bits']}",
            _percent(row["top1"]),
            _percent(row["agreement"]),
            f"{row['seconds']:.1f}",
        ),
        flush=True,
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables and write the JSON; the exit code is 1 if images or networks are missing."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy_peers",
        description="Top-1 and agreement with the float network's top-1, per cent, of onnxruntime's static "
        "quantizer at its best symmetric and asymmetric setting (picked by these results), of this project "
        f"and, on {_NARROW}, of Brevitas. Bits are those of weights and feature maps.",
    )
    add_network_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    parser.add_argument(
        "--brevitas", action="store_true", help=f"measure Brevitas on {_NARROW}, too (takes ten minutes)"
    )
    parsed = parser.parse_args(arguments)
    check_writable(parsed.json)
    brevitas = parsed.brevitas and brevitas_is_there()
    if parsed.brevitas and not brevitas:
        print("note: Brevitas is not installed here, so its rows are missing; pip install brevitas==0.13.0")
    try:
        found = networks_of(parsed)
    except BenchDataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results = [_measure_network(network, brevitas) for network in found]
    if parsed.json is not None:
        write_json(results, parsed.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
