"""``python -m compiler fit MODEL --board BOARD``: choose the machine for a network on a part."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from compiler.candidates import Candidate, Target
from compiler.fit import Choice, FitError, Result, choose_machine, frames_per_second, read_model
from hw.machine import Machine
from hw.whole_file import check_writable, write_whole

__all__ = ["fit_main"]

_EXAMPLES = """\
examples:
  python -m compiler fit fixed.onnx --board ecp5
  python -m compiler fit fixed.onnx --board ulx3s-25f --clock 60 --json fit.json
  python -m compiler fit fixed.onnx --board ecp5 -o machine.json
  python -m compiler fixed.onnx --machine machine.json -o net.prog
"""

#: Above this share of the part's LUTs, the router may fail or be slow.
_TIGHT = 0.85


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compiler fit",
        description="Compare machines for a network on a board: cycles from a model of the program's run,\n"
        "area from a model fitted to measured designs. No synthesis tool is needed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", type=Path, help="fixed-point model, as `python -m quant calibrate` writes it"
    )
    parser.add_argument(
        "--board", required=True, metavar="NAME", help="a board of `python -m boards list`, ecp5 say"
    )
    parser.add_argument("--clock", type=float, metavar="MHZ", help="system clock (default: the board's)")
    parser.add_argument(
        "--bus-width", type=int, choices=(32, 64, 128), metavar="N", help="only this bus: 32, 64 or 128 bits"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.json", help="write the best machine, for --machine"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all candidates as JSON")
    parser.add_argument("--jobs", type=int, default=-1, metavar="N", help="workers (default: all processors)")
    parser.add_argument(
        "--backend",
        default="loky",
        metavar="NAME",
        help="of joblib: loky (default), threading, multiprocessing, sequential, or dask or ray if installed",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="show all machines that are no better than one above them, not only the best of each array",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    return parser


def board_target(name: str, clock_mhz: float | None) -> Target:
    """What a machine for this board has to keep to.

    Raises
    ------
    BoardError
        If there is no such board.
    FitError
        If there is no area model for its part.
    """
    from boards.area import AREA_FAMILY, board_area
    from boards.registry import find_board
    from sim.memory_settings import board_settings

    board = find_board(name)
    if not board.part.name.startswith(AREA_FAMILY):
        raise FitError(
            f"{board.name}: there is an area model for ECP5 parts only, not for {board.part.name}; compile "
            "for the board's own machine: python -m boards list --json"
        )
    clock = board.clock_mhz if clock_mhz is None else clock_mhz
    if not 1 <= clock <= 500:
        raise FitError(f"--clock must be 1 to 500 MHz, not {clock:g}")
    return Target(
        name=board.name,
        part=board.part.name,
        resources=board.part.resources,
        area=partial(board_area, kind=board.external.kind),
        memory=board_settings(board.external.kind, board.external.data_bits, clock),
        memory_bytes=board.external.size,
        clock_mhz=clock,
    )


def fit_main(arguments: Sequence[str]) -> int:
    """Run ``fit`` with these arguments; the exit code is 0."""
    options = _parser().parse_args(arguments)
    try:
        from compiler.parallel import evaluate_side_by_side
    except ImportError as error:
        raise FitError(f"{error.name} is not installed: pip install pointshift[quant]") from None
    if options.jobs < 1 and options.jobs != -1:
        raise FitError(f"--jobs must be at least 1, not {options.jobs}")
    check_writable(options.output)
    check_writable(options.json)
    target = board_target(options.board, options.clock)
    model = read_model(options.model)
    widths = (32, 64, 128) if options.bus_width is None else (options.bus_width,)
    with tqdm(
        desc=f"fit {model.graph.name}",
        unit="machine",
        delay=2,
        leave=False,
        disable=True if options.quiet else None,
        total=0,
    ) as bar:

        def evaluator(candidates: Sequence[Candidate]) -> list[Result]:
            bar.total += len(candidates)
            bar.refresh()
            return evaluate_side_by_side(
                options.model, target, candidates, backend=options.backend, jobs=options.jobs, bar=bar
            )

        choice = choose_machine(model, target, evaluator, bus_widths=widths)
    if options.output is not None:
        write_whole(options.output, json.dumps(choice.order[0].machine.to_json(), indent=1) + "\n")
    if options.json is not None:
        report = _report(model.graph.name, target, choice)
        write_whole(options.json, json.dumps(report, indent=1) + "\n")
    if not options.quiet:
        print("\n".join(_lines(target, choice, everything=options.all)))
        if options.output is not None:
            print(f"the best machine: {options.output}; python -m compiler {options.model} --machine "
                  f"{options.output}")
    return 0


def _report(network: str, target: Target, choice: Choice) -> dict[str, Any]:
    return {
        "network": network,
        "board": target.name,
        "part": target.part,
        "clock_mhz": target.clock_mhz,
        "resources": {name: target.resources[name] for name in ("luts", "ffs", "dsps", "block_rams")},
        "candidates": [result.to_json(target.clock_mhz) for result in choice.order],
        "slower_at_least": [result.to_json(target.clock_mhz) for result in choice.slower],
        "do_not_fit": [result.to_json(target.clock_mhz) for result in choice.refused],
    }


def _name(machine: Machine) -> list[str]:
    return [
        f"{machine.input_lanes}x{machine.output_lanes}",
        str(machine.bus_width),
        f"{machine.scratchpad_words * machine.word_bytes / 1024:g} KB",
        str(machine.accumulator_depth),
        str(machine.weight_fifo_words),
        f"{machine.kept_weight_bytes / 1024:g} KB" if machine.kept_weight_words else "",
    ]


def _interesting(order: Sequence[Result]) -> list[Result]:
    """Without those that are not better in anything than one before; the best of each array stays."""

    def figures(result: Result) -> tuple[int, ...]:
        return (result.cycles, *(result.needs[name] for name in ("luts", "dsps", "block_rams")))

    kept: list[Result] = []
    for result in order:
        beaten = any(
            all(theirs <= mine for theirs, mine in zip(figures(other), figures(result), strict=True))
            for other in kept
        )
        array = (result.machine.input_lanes, result.machine.output_lanes)
        if not beaten or array not in [(one.machine.input_lanes, one.machine.output_lanes) for one in kept]:
            kept.append(result)
    return kept


def _lines(target: Target, choice: Choice, *, everything: bool = False) -> list[str]:
    """The table: what fits first, then what cannot be better, then what does not fit, and why."""
    head = [
        *("lanes", "bus", "scratchpad", "accumulators", "FIFO", "kept", "cycles", "images/s"),
        *("LUTs", "DSPs", "RAMs", "bottleneck"),
    ]
    resources = ("luts", "dsps", "block_rams")
    available = [f"of {target.resources[name]:,}" for name in resources]
    have = [*[""] * 7, f"{target.clock_mhz:g} MHz", *available, ""]

    def row(result: Result, least: bool) -> list[str]:
        why = f"{result.bottleneck} {100 * (result.shares or {}).get(result.bottleneck, 0):.0f} %"
        return [
            *_name(result.machine),
            f"{'> ' if least else ''}{result.cycles:,}",
            f"{'< ' if least else ''}{frames_per_second(result, target.clock_mhz):,.2f}",
            *(f"{result.needs[name]:,}" for name in resources),
            "slower, whatever its buffers" if least else why,
        ]

    rows = [row(result, False) for result in (choice.order if everything else _interesting(choice.order))]
    rows += [row(result, True) for result in choice.slower]
    widths = [max(len(row[column]) for row in [head, have, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        aligned = [cell.rjust(width) for cell, width in zip(cells[:-1], widths, strict=False)]
        return "  ".join([*aligned, cells[-1]]).rstrip()

    lines = [f"{target.name}, {target.part}", line(head), line(have), *map(line, rows)]
    if any(result.machine.kept_weight_words for result in choice.order):
        lines += ["", "where weights are kept on the chip, cycles are those of every image but the first"]
    if choice.refused:
        lines += ["", "do not fit:"]
        lines += [f"  {', '.join(_name(result.machine)[:3])}: {result.problem}" for result in choice.refused]
    share = choice.order[0].needs["luts"] / target.resources["luts"]
    if share > _TIGHT:
        lines += ["", f"the first takes {100 * share:.0f} % of the LUTs, and the estimate may be 15 % wrong"]
    return lines
