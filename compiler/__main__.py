"""The command line of the compiler.

``python -m compiler MODEL.onnx -o NET.prog`` compiles a fixed-point model;
``python -m compiler fit MODEL.onnx --board BOARD`` compares machines for it;
``python -m compiler disassemble NET.prog`` prints a program's instructions.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.compile import compile_passes
from compiler.error import CompileError
from compiler.estimate import estimate
from compiler.listing import listing
from compiler.report import report_json, report_table
from hw.closed_pipe import quiet_when_closed
from hw.machine import IN_ORDER, Machine, MachineError
from hw.program_file import ProgramFile
from hw.whole_file import check_writable, write_whole
from quant.fixed_model import FixedModel

__all__ = ["machine_from_arguments", "main"]

_PACKAGES = ("quant", "hw", "compiler", "sim", "boards")

#: Numbers that describe a machine, each an option.
_SIZES = {
    "bus_width": "bits of the memory bus",
    "scratchpad_words": "words of the scratchpad",
    "accumulator_depth": "pixels accumulated together",
    "weight_fifo_words": "bus words in the weight FIFO",
    "kept_weight_words": "bus words of weights that stay on the chip from one inference to the next",
}

_EXAMPLES = """\
examples:
  python -m compiler fixed.onnx -o net.prog
  python -m compiler fixed.onnx -o net.prog --lanes 8x8 --json report.json
  python -m compiler fixed.onnx -o fast.prog --lean
  python -m compiler fit fixed.onnx --board ecp5
  python -m compiler disassemble net.prog | less
"""


def _compile_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compiler",
        description="Compile a fixed-point model (QDQ ONNX) into a program.\n"
        "python -m compiler fit MODEL --board BOARD compares machines for it.\n"
        "python -m compiler disassemble NET.prog prints a program's instructions.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", type=Path, help="fixed-point model, as `python -m quant calibrate` writes it"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="program file (default: the model's name with .prog)"
    )
    add_machine_arguments(parser)
    parser.add_argument(
        "--known-input",
        type=Path,
        metavar="FILE.npy",
        help="integers (C, H, W) of the known answer (default: a random image, always the same)",
    )
    parser.add_argument(
        "--lean",
        action="store_true",
        help="store only what is read again, and the output: faster where memory is slow, but layers between "
        "are not there to be compared",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    return parser


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that describe a machine; `machine_from_arguments` reads them."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--machine", type=Path, metavar="FILE.json", help="a machine's description (Machine.to_json)"
    )
    group.add_argument(
        "--lanes", metavar="INxOUT", help="input and output channels multiplied a cycle, 8x16 say"
    )
    for field, what in _SIZES.items():
        group.add_argument(f"--{field.replace('_', '-')}", type=int, metavar="N", help=what)
    group.add_argument("--no-average-pooling", action="store_true", help="the machine has no divider")
    group.add_argument(
        "--weight-decoder", action="store_true", help="the machine decodes sparse and few-valued weights"
    )
    group.add_argument("--huffman-decoder", action="store_true", help="it decodes Huffman codes, too")
    group.add_argument(
        "--weight-pairs", action="store_true", help="the machine multiplies two weights of 4 bits at once"
    )
    group.add_argument(
        "--in-order",
        action="store_true",
        help="the small core: 4x4 lanes, and the iCEBreaker's sizes unless others are given",
    )


def machine_from_arguments(arguments: argparse.Namespace) -> Machine:
    """The machine that the options describe.

    Raises
    ------
    MachineError
        If there can be none.
    """
    fields: dict[str, Any] = Machine().to_json()
    if arguments.machine is not None:
        try:
            fields = Machine.from_json(json.loads(arguments.machine.read_text())).to_json()
        except (OSError, ValueError) as error:
            raise MachineError(f"{arguments.machine}: not a machine's description ({error})") from None
    if arguments.in_order:
        fields |= IN_ORDER.to_json()
    if arguments.lanes is not None:
        match = re.fullmatch(r"(\d+)x(\d+)", arguments.lanes)
        if not match:
            raise MachineError(f"--lanes must be two numbers like 8x16, not {arguments.lanes}")
        fields["input_lanes"], fields["output_lanes"] = int(match[1]), int(match[2])
        if fields["bus_width"] > 8 * fields["output_lanes"] and arguments.bus_width is None:
            fields["bus_width"] = 8 * fields["output_lanes"]
    for field in _SIZES:
        if getattr(arguments, field) is not None:
            fields[field] = getattr(arguments, field)
    if arguments.no_average_pooling:
        fields["average_pooling"] = False
    if arguments.weight_decoder:
        fields["weight_decoder"] = True
    if arguments.huffman_decoder:
        fields["weight_decoder"] = fields["huffman_decoder"] = True
    if arguments.weight_pairs:
        fields["weight_pairs"] = True
    return Machine(**fields)


def known_image(model: FixedModel, path: Path | None) -> NDArray[np.int64]:
    """Integers (C, H, W) of the known answer: those of a file, or random ones over the whole range.

    Raises
    ------
    CompileError
        If the file does not fit the model's input.
    """
    shape, form = model.graph.shapes[model.graph.input], model.formats[model.graph.input]
    if path is None:
        return np.random.default_rng(1).integers(form.low, form.high + 1, shape)
    try:
        with path.open("rb") as file:
            values = np.load(file, allow_pickle=False)
    except Exception as error:  # numpy's parser of headers raises its own kinds
        raise CompileError(f"{path}: not a numpy array ({error})") from None
    if not isinstance(values, np.ndarray):
        raise CompileError(f"{path}: holds several arrays; give an .npy file")
    if values.shape != shape or values.dtype.kind not in "iu":
        raise CompileError(
            f"{path}: must hold integers of the shape {shape}, not {values.dtype} {values.shape}"
        )
    if values.size and not form.low <= values.min() <= values.max() <= form.high:
        raise CompileError(f"{path}: values must be {form.low} to {form.high}")
    return values.astype(np.int64)


def _compile(arguments: argparse.Namespace) -> int:
    from quant.qdq_import import read_fixed_model  # these two need onnx and torch, a listing does not
    from sim.memory_settings import memory_settings
    from sim.reference import run

    machine = machine_from_arguments(arguments)
    output = arguments.output or arguments.model.with_suffix(".prog")
    check_writable(output)
    check_writable(arguments.json)
    model = read_fixed_model(arguments.model)
    image = known_image(model, arguments.known_input)
    compilation = compile_passes(
        model,
        machine,
        image,
        lambda: run(model, image[None]),
        store_all=not arguments.lean,
        progress=not arguments.quiet,
    )
    timing = estimate(compilation.instructions, machine, memory_settings("ideal"))
    report = report_json(
        compilation, {number: round(layer.cycles) for number, layer in timing.layers.items()}
    )
    report["estimated_cycles"] = timing.cycles
    compilation.program.save(output)
    if arguments.json is not None:
        write_whole(arguments.json, json.dumps(report, indent=1) + "\n")
    if not arguments.quiet:
        print(report_table(report))
        print(f"about {timing.cycles:,} cycles an image (estimated); written: {output}")
    return 0


def _disassemble(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m compiler disassemble",
        description="Print a program's instructions, layer by layer.",
        epilog="example:\n  python -m compiler disassemble net.prog | less\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("program", type=Path, help="a .prog file")
    for line in listing(ProgramFile.load(parser.parse_args(arguments).program)):
        print(line)
    return 0


def _fit(arguments: Sequence[str]) -> int:
    from compiler.fit_command import fit_main  # needs boards, a compilation does not

    return fit_main(arguments)


@quiet_when_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 after an error and 2 after wrong usage."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["disassemble"]:
            return _disassemble(arguments[1:])
        if arguments[:1] == ["fit"]:
            return _fit(arguments[1:])
        return _compile(_compile_parser().parse_args(arguments))
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and type(error).__module__.split(".")[0] not in _PACKAGES:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
