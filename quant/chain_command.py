"""``python -m quant chain``: compressions one after another, each measured in fixed point on the machine."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hw.whole_file import check_writable, write_whole
from quant.inspect import input_shape
from quant.preparation_arguments import add_data_arguments, preparation_of
from quant.text_table import aligned

if TYPE_CHECKING:
    from quant.chain_measure import Stage

__all__ = ["STEPS", "add_parser", "run"]

#: The subcommands that may be steps.
STEPS = ("prune", "compress", "lowrank", "ternarize")

_EXAMPLES = """\
each STEP is a command in quotes, without what the chain gives it: model, data, preparation and output

examples:
  python -m quant chain net.onnx --data train.npz --test test.npz --divide 255 -o small \\
      "prune --total 0.08" "compress --weight-bits 4"
  python -m quant chain net.onnx --data train.npz --test test.npz -o small --most-lost 1 \\
      "lowrank --speedup 2 --epochs 2" "ternarize"
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``chain`` subcommand."""
    parser = subparsers.add_parser(
        "chain",
        help="compress in several steps, and compare them",
        description="Apply steps to a float model one after another. After each, calibrate to 8 bits and "
        "measure accuracy, bytes with and without Huffman codes, cycles on a machine with a weight decoder. "
        "Steps that are done are not done again when the same chain is run again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="float ONNX model")
    parser.add_argument(
        "steps", nargs="+", metavar="STEP", help=f"one of {', '.join(STEPS)}, with its options"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="for all models")
    add_data_arguments(parser, "use N images, evenly spread over the set (default: all)")
    parser.add_argument("--validation", metavar="IMAGES", help="labelled images for steps to choose by")
    parser.add_argument(
        "--test", required=True, metavar="IMAGES", help="labelled images to measure accuracy on"
    )
    parser.add_argument(
        "--most-lost",
        type=float,
        metavar="POINTS",
        help="stop after a step whose fixed-point accuracy is so much below that of the model given",
    )
    parser.add_argument("--memory", default="ulx3s", help="memory that cycles are for (default: ulx3s)")
    parser.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=input_shape,
        help="the input's shape, where the model leaves it open",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw accuracy over bytes and cycles")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the steps, print the table, write the files."""
    from quant.calibrate_command import write_json
    from quant.chain_measure import Measure
    from quant.chain_plot import chain_plot
    from quant.compression.checkpoint import fingerprint
    from quant.compression.error import CompressionError

    check_writable(arguments.json)
    check_writable(arguments.plot)
    folder: Path = arguments.output
    files = [arguments.model]
    commands = []
    for number, step in enumerate(arguments.steps, 1):
        name, *options = _words(step)
        files.append(folder / f"{number}-{name}.onnx")
        commands.append(_parsed(step, name, options, files[-2], files[-1], arguments))
    folder.mkdir(parents=True, exist_ok=True)
    measure = Measure(
        folder, arguments.data, arguments.test, preparation_of(arguments), arguments.layout, arguments.memory
    )
    stages: list[Stage] = [measure(arguments.model, "given", arguments.input_shape)]
    identity = fingerprint(model=arguments.model, data=Path(arguments.data))
    for step, file, command in zip(arguments.steps, files[1:], commands, strict=True):
        settings = {
            name: value for name, value in vars(command).items() if name not in ("run", "quiet", "output")
        }
        identity = fingerprint(before=identity, step=step, settings=sorted(map(str, settings.items())))
        done = file.with_suffix(".done")
        print(f"\n{step}: {file}")
        if file.exists() and done.exists() and json.loads(done.read_text()) == identity:
            print("done before")
        else:
            done.unlink(missing_ok=True)
            command.run(command)
            write_whole(done, json.dumps(identity))
        stages.append(measure(file, step, arguments.input_shape))
        lost = 100 * (stages[0].fixed_top1 - stages[-1].fixed_top1)
        if arguments.most_lost is not None and lost > arguments.most_lost:
            print(f"\n{chain_table(stages)}")
            raise CompressionError(
                f"{step}: {lost:.2f} points are lost, more than {arguments.most_lost:g}; ask less of it, "
                "or train longer"
            )
    print(f"\n{chain_table(stages)}")
    if arguments.json is not None:
        write_json(
            {"memory": arguments.memory, "stages": [stage.to_json() for stage in stages]}, arguments.json
        )
    if arguments.plot is not None:
        write_whole(arguments.plot, chain_plot(stages, arguments.plot.suffix))
        print(f"wrote {arguments.plot}")
    return 0


def _words(step: str) -> list[str]:
    """A step's words, of which the first is one of `STEPS`."""
    from quant.compression.error import CompressionError

    try:
        words = shlex.split(step)
    except ValueError:
        words = []
    if not words or words[0] not in STEPS:
        raise CompressionError(f"{step!r} is no step; the first word must be one of {', '.join(STEPS)}")
    return words


def _parsed(
    step: str, name: str, own: list[str], model: Path, output: Path, arguments: argparse.Namespace
) -> argparse.Namespace:
    """A step's options; the chain's come first, so that a step may have others."""
    parser = argparse.ArgumentParser(prog=f"step {step!r}:")
    module = importlib.import_module(f"quant.{name}_command")
    module.add_parser(parser.add_subparsers())
    words = [name, str(model), "-o", str(output), "--data", arguments.data]
    for option in ("images", "layout", "divide", "mean", "std", "channel_order", "resize", "validation"):
        value = getattr(arguments, option)
        if value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += ["--" + option.replace("_", "-"), text]
    words += ["--crop"] * bool(arguments.crop) + ["--quiet"] * arguments.quiet
    return parser.parse_args(words + own)


def chain_table(stages: list[Stage]) -> str:
    """The stages for people."""
    rows = [("step", "float %", "8 bits %", "kept %", "bytes", "Huffman", "smaller", "cycles", "faster", "")]
    first = stages[0]
    for stage in stages:
        better = any(other.dominates(stage) for other in stages)
        rows.append(
            (
                stage.step,
                f"{100 * stage.float_top1:.2f}",
                f"{100 * stage.fixed_top1:.2f}",
                f"{100 * stage.kept:.1f}",
                f"{stage.program_bytes:,}",
                f"{stage.file_bytes:,}",
                f"{first.float_bytes / stage.file_bytes:.1f}x",
                f"{stage.cycles:,}",
                f"{first.cycles / stage.cycles:.2f}x",
                "" if better else "frontier",
            )
        )
    lines = aligned(rows, left=1)
    note = "bytes: weights in the program; Huffman: in a file, of 32-bit floats so many times smaller"
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], note])
