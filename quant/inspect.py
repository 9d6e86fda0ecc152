"""``python -m quant inspect``: where each node of a model runs, or why it is refused."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.whole_file import check_writable, write_whole
from quant.text_table import aligned

if TYPE_CHECKING:
    from quant.graph import Node, Shape
    from quant.onnx_import import Import

__all__ = ["add_parser", "input_shape", "report_of", "run", "table_of"]

_EXAMPLES = """\
examples:
  python -m quant inspect model.onnx
  python -m quant inspect model.onnx --input-shape 3,224,224
  python -m quant inspect model.onnx --json report.json
"""


def input_shape(text: str) -> tuple[int, int, int]:
    """The (C, H, W) in ``"3,224,224"``; for argparse.

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is not three positive numbers.
    """
    try:
        channels, rows, columns = (int(part) for part in text.split(","))
    except ValueError:
        channels = rows = columns = 0
    if min(channels, rows, columns) < 1:
        raise argparse.ArgumentTypeError(f"must be C,H,W (3,224,224 say), not {text!r}")
    return channels, rows, columns


def add_parser(subparsers: Any) -> None:
    """Add the subcommand ``inspect``."""
    parser = subparsers.add_parser(
        "inspect", help="list each node of a model with where it runs, or why it is refused",
        description="List each node of an ONNX model with where it runs (array, FC engine, post-processing,\n"
                    "host, folded) or why it is refused, with output shapes, parameters and\n"
                    "multiply-accumulates. The exit code is 1 if a node is refused.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", type=Path, help="ONNX file, float or fixed point")
    parser.add_argument("--input-shape", metavar="C,H,W", type=input_shape,
                        help="the input's shape, where the model leaves it open")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the table to this file")
    parser.set_defaults(run=run)


def _macs(node: Node, shapes: dict[str, Shape]) -> int:
    from quant.graph import Convolution
    if not isinstance(node, Convolution):
        return 0
    return math.prod(shapes[node.output]) * math.prod(node.weight.shape[1:])


def _parameters(node: Node) -> int:
    from quant.graph import Convolution
    return node.weight.size + node.bias.size if isinstance(node, Convolution) else 0


def report_of(result: Import) -> dict[str, Any]:
    """The result of an import as a JSON object: ``nodes`` and ``totals``."""
    nodes = []
    for record in result.records:
        made = [node for node in result.nodes if result.origin[node.name] == record.name]
        nodes.append({
            "name": record.name, "operator": record.operator, "place": record.place,
            "shape": None if record.shape is None else list(record.shape),
            "parameters": sum(_parameters(node) for node in made),
            "macs": sum(_macs(node, result.shapes) for node in made),
            "reason": record.refusal.reason if record.refusal else None,
            "advice": record.refusal.advice if record.refusal else None,
        })
    places: dict[str, int] = {}
    for node in nodes:
        places[node["place"]] = places.get(node["place"], 0) + 1
    return {
        "model": result.name, "input_shape": list(result.input_shape), "input_layout": result.input_layout,
        "output_shape": list(result.graph.output_shape) if result.graph else None,
        "host_operations": list(result.graph.host_operations) if result.graph else None,
        "nodes": nodes,
        "totals": {"nodes": len(nodes), "layers": len(result.nodes), "places": places,
                   "parameters": sum(node["parameters"] for node in nodes),
                   "macs": sum(node["macs"] for node in nodes),
                   "refused": places.get("refused", 0)},
    }


def _shortened(text: str, width: int = 48) -> str:
    return text if len(text) <= width else "…" + text[1 - width:]


def table_of(report: dict[str, Any]) -> str:
    """The report as a table for people, with the refusals below it."""
    rows = [("node", "operator", "output", "runs on", "parameters", "MACs")]
    rows += [(_shortened(node["name"]), node["operator"],
              "?" if node["shape"] is None else "x".join(map(str, node["shape"])) or "number", node["place"],
              f"{node['parameters']:,}" if node["parameters"] else "",
              f"{node['macs']:,}" if node["macs"] else "") for node in report["nodes"]]
    ruled = [rows[0], tuple("-" * max(map(len, column)) for column in zip(*rows)), *rows[1:]]
    lines = aligned(ruled, left=4)
    totals = report["totals"]
    shape = "x".join(map(str, report["input_shape"]))
    places = sorted(totals["places"].items())
    lines += ["", f"{report['model']}: input {shape} (C x H x W, {report['input_layout']} in the model), "
                  f"{totals['nodes']} nodes, {totals['layers']} layers, {totals['parameters']:,} parameters, "
                  f"{totals['macs']:,} MACs",
              "runs on: " + ", ".join(f"{place} {count}" for place, count in places)]
    refused = [node for node in report["nodes"] if node["reason"]]
    if refused:
        lines += ["", "refused:"]
        lines += [f"  {node['name']} ({node['operator']}): {node['reason']}; {node['advice']}"
                  for node in refused]
    if "unknown" in totals["places"]:
        lines.append("Nodes marked unknown depend on a refused one; they are checked once that is gone.")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Print the table; 0 if every node is supported, 1 if one is refused.

    Raises
    ------
    quant.refusal.ModelError
        If the model as a whole cannot be imported.
    """
    from quant.onnx_import import import_verbosely
    check_writable(arguments.json)
    report = report_of(import_verbosely(arguments.model, input_shape=arguments.input_shape, formats=True))
    print(table_of(report))
    if arguments.json is not None:
        write_whole(arguments.json, json.dumps(report, indent=1) + "\n")
    refused = report["totals"]["refused"]
    if refused:
        print(f"error: {arguments.model}: {refused} of {report['totals']['nodes']} nodes are refused",
              file=sys.stderr)
    return 1 if refused else 0
