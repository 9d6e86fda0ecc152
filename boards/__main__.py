"""``python -m boards``: build a board's bitstream, list the boards, check the area model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from boards.area_command import AreaError, add_area_options, area
from boards.board import DEFAULT_BAUD, machine_text
from boards.build import BitstreamError, build, machine_of
from boards.fit import FitError
from boards.litedram import ControllerError
from boards.pll import ClockError
from boards.registry import BoardError, all_boards, find_board
from boards.toolchain import ToolError
from hw.closed_pipe import quiet_when_closed
from hw.machine import MachineError
from hw.uart import BaudError

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    def with_examples(*lines: str) -> dict[str, Any]:
        return {"epilog": "examples:\n" + "".join(f"  python -m boards {line}\n" for line in lines),
                "formatter_class": argparse.RawDescriptionHelpFormatter}

    parser = argparse.ArgumentParser(prog="python -m boards", description="Bitstreams for boards.",
                                     **with_examples("list", "build ecp5"))
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the boards there are", **with_examples("list", "list --json"))
    listing.add_argument("--json", action="store_true", help="for programs: one array on standard output")
    add_area_options(
        commands.add_parser(
            "area",
            help="the area model beside measured designs; measure them again",
            **with_examples("area", "area --measure", "area --add build/ecp5/report.json"),
        )
    )
    command = commands.add_parser(
        "build",
        help="build a bitstream: build/BOARD/top.bit and report.json",
        **with_examples("build ecp5", "build ecp5 --clock 40 --output /tmp/slower",
                        """build ecp5 --machine '{"output_lanes": 8}' --seed 3"""),
    )
    command.add_argument("board", help="a name of `list`")
    command.add_argument("--json", action="store_true", help="with the board `list`: as `list --json`")
    command.add_argument(
        "--clock",
        type=float,
        metavar="MHZ",
        help="system clock (default: the board's)",
    )
    command.add_argument("--seed", type=int, default=1, help="where placement starts (default: %(default)s)")
    command.add_argument(
        "--tries",
        type=int,
        default=3,
        metavar="N",
        help="seeds to try until the clock is reached (default: %(default)s)",
    )
    command.add_argument(
        "--megabytes",
        type=int,
        metavar="N",
        help="size of the memory, where boards are sold with several (default: the smallest)",
    )
    command.add_argument("--baud", type=int, default=DEFAULT_BAUD, help="serial rate (default: %(default)s)")
    command.add_argument(
        "--multiplier",
        choices=("ecp5", "ice40", "portable"),
        help="DSP blocks instantiated, or left to inference (default: the board's)",
    )
    command.add_argument(
        "--machine",
        metavar="JSON",
        help='fields of the machine, or a file: \'{"input_lanes": 4, "output_lanes": 8}\'',
    )
    command.add_argument("--output", type=Path, default=None, metavar="FOLDER", help="instead of build/BOARD")
    command.add_argument("--force", action="store_true", help="build even if nothing has changed")
    command.add_argument("--quiet", action="store_true", help="say nothing but the result")
    return parser


_ERRORS = (
    AreaError,
    BitstreamError,
    BoardError,
    FitError,
    ControllerError,
    ClockError,
    ToolError,
    MachineError,
    BaudError,
)


@quiet_when_closed
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0 if all went well."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "area":
            area(options)
            return 0
        if options.command == "list" or options.board == "list":
            _list(options.json)
            return 0
        board = find_board(options.board)
        job = board.job(
            machine=machine_of(options.machine, board.machine),
            clock_mhz=options.clock,
            seed=options.seed,
            tries=options.tries,
            megabytes=options.megabytes,
            baud=options.baud,
            multiplier=options.multiplier,
        )
        folder = options.output or Path("build") / options.board
        report = build(
            job, folder, force=options.force, **({"say": lambda text: None} if options.quiet else {})
        )
    except _ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    print(
        f"{folder / board.part.flow.bitstream}: {report['clock_reached_mhz']:.2f} MHz reached, "
        f"{report['clock_wanted_mhz']:g} wanted; {report['luts']} LUTs, {report['ffs']} flip-flops, "
        f"{report['dsps']} DSPs, {report['block_rams']} block RAMs; {report['multipliers']} multipliers; "
        f"{report['seconds']:.0f} s"
    )
    if not options.quiet:
        print(json.dumps({key: report[key] for key in ("seed", "critical_path", "tools")}), file=sys.stderr)
    return 0


def _list(as_json: bool) -> None:
    """Print every board with its part's resources and its defaults."""
    boards = all_boards()
    if as_json:
        print(json.dumps([board.to_json() for board in boards], indent=1))
        return
    rows = [
        (
            board.name,
            board.part.name,
            *(str(board.part.resources[name]) for name in ("luts", "dsps", "block_rams")),
            board.memory,
            board.link,
            machine_text(board.machine),
            f"{board.clock_mhz:g}",
            board.title + "".join(f" (also: {alias})" for alias in board.aliases)
            + (f" ({board.caveat})" if board.caveat else ""),
        )
        for board in boards
    ]
    head = ("board", "part", "LUTs", "DSPs", "RAMs", "memory", "link", "default machine", "MHz", "")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head) - 1)]
    for row in (head, *rows):
        cells = [text.ljust(width) for text, width in zip(row, widths)]
        print("  ".join((*cells, row[-1])).rstrip())


if __name__ == "__main__":
    sys.exit(main())
