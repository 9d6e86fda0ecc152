"""``python -m sim run``: a network through the RTL, with a report; ``demo``: the bundled one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from compiler.compile import compile_model
from hw.machine import Machine, MachineError
from hw.program_file import ProgramFile
from hw.whole_file import check_writable, write_whole
from quant.data import load_images
from quant.fixed_model import Preparation
from quant.inspect import input_shape
from quant.preparation_arguments import add_data_arguments, preparation_of
from sim import reference
from sim.memory_settings import MEMORY_NAMES
from sim.network import Accuracy, Network, evaluate, load_network, prepared_inputs
from sim.report import memory_report, table_of
from sim.run import Outcome, simulate
from sim.verilator import build

__all__ = ["add_demo_parser", "add_parser", "demo", "machine_of", "run", "write_json"]

#: Images that are run in RTL, and that a float model is calibrated with, if nobody says otherwise.
_IMAGES = 16
_CALIBRATION_IMAGES = 256

_EXAMPLES = """\
examples:
  python -m sim run fixed.onnx --data test.npz --images 16
  python -m sim run fixed.onnx --data test.npz --images 2 --memory all --lanes 8x8
  python -m sim run float.onnx --data test.npz --calibration train.npz --divide 255
  python -m sim run fixed.onnx --data images/ --images 1 --trace      (waveforms in build/sim/fixed/)
"""


def add_parser(subparsers: Any) -> None:
    """Add the command ``run``."""
    parser = subparsers.add_parser(
        "run",
        help="run a network in RTL and compare every layer with the reference",
        epilog=_EXAMPLES,
        description="Compile a network, run images through the accelerator's RTL in Verilator, compare "
        "every layer with the reference. Exit code 1 if anything differs.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", type=Path, help="fixed-point ONNX, or a float one, which is calibrated first"
    )
    add_data_arguments(parser, f"images to run in RTL (default: {_IMAGES})")
    parser.add_argument(
        "--accuracy-images",
        type=_positive,
        metavar="N",
        help="images for the accuracies (default: those that are run in RTL)",
    )
    parser.add_argument(
        "--float",
        dest="float_model",
        type=Path,
        metavar="MODEL",
        help="float model to compare the accuracy of a fixed-point one with",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default: build/sim/NAME")
    calibration = parser.add_argument_group("calibration of a float model")
    calibration.add_argument(
        "--calibration",
        type=Path,
        metavar="DATA",
        help=f"images to calibrate with, {_CALIBRATION_IMAGES} spread over the set (default: --data)",
    )
    calibration.add_argument(
        "--input-shape",
        metavar="C,H,W",
        type=input_shape,
        help="the input's shape, where the model leaves it open",
    )
    calibration.add_argument("--weight-bits", type=int, default=8, metavar="N")
    calibration.add_argument("--activation-bits", type=int, default=8, metavar="N")
    _add_simulation(parser)
    parser.set_defaults(run=run)


def add_demo_parser(subparsers: Any) -> None:
    """Add the command ``demo``."""
    parser = subparsers.add_parser(
        "demo",
        help="calibrate, compile and run the bundled LeNet-5",
        description="The whole path on the bundled network: LeNet-5 on Fashion-MNIST.",
        epilog="examples:\n  python -m sim demo\n  python -m sim demo --images 4 --memory all --lanes 8x8\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=_positive, default=32, metavar="N", help="images to run in RTL (32)")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), metavar="FOLDER")
    _add_simulation(parser)
    parser.set_defaults(run=demo)


def _add_simulation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory", choices=(*MEMORY_NAMES, "all"), default="ideal", help="memory setting (ideal)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random memory")
    parser.add_argument(
        "--lanes", default="8x16", metavar="INxOUT", help="input x output lanes of the array (8x16)"
    )
    parser.add_argument(
        "--bus", type=int, metavar="BITS", help="width of the memory bus (64, or less if it must)"
    )
    parser.add_argument(
        "--scratchpad", type=int, metavar="WORDS", help="scratchpad words of one byte a lane (8192)"
    )
    parser.add_argument("--accumulators", type=int, metavar="PIXELS", help="accumulator depth (512)")
    parser.add_argument("--weight-fifo", type=int, metavar="WORDS", help="bus words in the FIFO (8192)")
    parser.add_argument(
        "--weight-pairs", action="store_true", help="multiply two weights of 4 bits at once"
    )
    parser.add_argument(
        "--lean", action="store_true", help="store, and compare, only what is read again, and the output"
    )
    parser.add_argument("--trace", action="store_true", help="write waveforms (FST) of the first image")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    parser.add_argument("--quiet", action="store_true", help="only errors and the last line")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def machine_of(
    lanes: str,
    bus: int | None = None,
    scratchpad: int | None = None,
    accumulators: int | None = None,
    weight_fifo: int | None = None,
    *,
    weight_pairs: bool = False,
) -> Machine:
    """The machine that the options name; what they leave open has the default, or fits the lanes.

    Raises
    ------
    MachineError
        If there is no such machine.
    """
    parts = lanes.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise MachineError(f"lanes are given as INPUTxOUTPUT, 8x16 say, not {lanes!r}")
    default = Machine()
    inputs, outputs = int(parts[0]), int(parts[1])
    bus = bus or min(default.bus_width, 8 * outputs)
    fifo = max(default.weight_fifo_words, 16 * max(inputs, 8) * outputs // max(bus, 8))
    return Machine(
        input_lanes=inputs,
        output_lanes=outputs,
        bus_width=bus,
        weight_fifo_words=weight_fifo or fifo,
        scratchpad_words=scratchpad or default.scratchpad_words,
        accumulator_depth=accumulators or default.accumulator_depth,
        weight_pairs=weight_pairs,
    )


def run(arguments: argparse.Namespace) -> int:
    """Simulate a network; 0 if every layer of every image equals the reference."""
    machine = _machine(arguments)
    check_writable(arguments.json)
    say = _speaker(arguments.quiet)
    images = load_images(arguments.data)
    folder = arguments.output or Path("build/sim") / arguments.model.stem
    calibration = images if arguments.calibration is None else load_images(arguments.calibration)
    network = load_network(
        arguments.model,
        folder,
        calibration.spread(_CALIBRATION_IMAGES),
        preparation_of(arguments),
        layout=arguments.layout,
        input_shape=arguments.input_shape,
        weight_bits=arguments.weight_bits,
        activation_bits=arguments.activation_bits,
        float_model=arguments.float_model,
        say=say,
        quiet=arguments.quiet,
    )
    count = arguments.images or _IMAGES
    if len(images) < count:
        say(f"note: {arguments.data} holds {len(images)} images, not {count}")
    return _simulate(
        network,
        images.first(count),
        evaluate(network, images.first(arguments.accuracy_images or count), quiet=arguments.quiet),
        machine,
        folder,
        arguments,
        say,
    )


def demo(arguments: argparse.Namespace) -> int:
    """The whole path on the bundled network."""
    import models

    machine = _machine(arguments)
    check_writable(arguments.json)
    say = _speaker(arguments.quiet)
    bundled = Path(str(models.__file__)).parent
    images = load_images(bundled / "fashion_mnist_test.npz")
    network = load_network(
        bundled / "lenet5.onnx",
        arguments.output,
        load_images(bundled / "fashion_mnist_calibration.npz"),
        Preparation(divide=255.0, channel_order="L"),
        say=say,
        quiet=arguments.quiet,
    )
    return _simulate(
        network,
        images.first(arguments.images),
        evaluate(network, images, quiet=arguments.quiet),
        machine,
        arguments.output,
        arguments,
        say,
    )


def _speaker(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else (lambda text: print(text, flush=True))


def _machine(arguments: argparse.Namespace) -> Machine:
    return machine_of(
        arguments.lanes,
        arguments.bus,
        arguments.scratchpad,
        arguments.accumulators,
        arguments.weight_fifo,
        weight_pairs=arguments.weight_pairs,
    )


def _simulate(
    network: Network,
    images: Any,
    accuracy: Accuracy,
    machine: Machine,
    folder: Path,
    arguments: argparse.Namespace,
    say: Callable[[str], None],
) -> int:
    inputs = np.concatenate(
        [reference.prepare_input(network.model, batch) for batch in prepared_inputs(network, images)]
    )
    say(f"compiling for {machine.input_lanes}x{machine.output_lanes} multipliers")
    program = compile_model(
        network.model,
        machine,
        inputs[0],
        reference.run(network.model, inputs[:1]),
        store_all=not arguments.lean,
        progress=not arguments.quiet,
    )
    folder.mkdir(parents=True, exist_ok=True)
    program.save(folder / f"{network.name}.prog")
    build(machine, trace=arguments.trace)
    outcomes: list[Outcome] = []
    for memory in MEMORY_NAMES if arguments.memory == "all" else (arguments.memory,):
        outcome = _run_memory(
            network, program, inputs[:1] if arguments.trace else inputs, memory, folder, arguments
        )
        outcomes.append(outcome)
        say("\n" + table_of(memory_report(program, outcome)))
        if not outcome.bit_exact:
            print(
                f"error: {network.name} with the memory {memory} differs from the reference: "
                f"{outcome.problem}",
                file=sys.stderr,
            )
    report = _report(network, program, accuracy, outcomes)
    write_json(report, folder / "report.json")
    if arguments.json is not None:
        write_json(report, arguments.json)
    say(_summary(report, folder))
    return 0 if report["bit_exact"] else 1


def _run_memory(
    network: Network,
    program: ProgramFile,
    inputs: np.ndarray,
    memory: str,
    folder: Path,
    arguments: argparse.Namespace,
) -> Outcome:
    trace = folder / f"{network.name}-{memory}.fst" if arguments.trace else None
    last = max(program.layers[-1].number, 1) if program.layers else 1
    with tqdm(
        total=len(inputs),
        desc=f"RTL, {memory} memory",
        unit="image",
        disable=True if arguments.quiet else None,
    ) as bar:
        cycles = 0

        def moved(image: int, layer: int, step: int) -> None:
            nonlocal cycles
            cycles += step
            bar.n = image
            bar.set_postfix_str(f"layer {min(layer, last)} of {last}, {cycles / 1e6:.1f} M cycles")

        outcome = simulate(
            program, network.model, inputs, memory=memory, seed=arguments.seed, trace=trace, progress=moved
        )
        bar.n = outcome.images
        bar.refresh()
    return outcome


def _report(
    network: Network, program: ProgramFile, accuracy: Accuracy, outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """The keys of the first memory setting, and all of them under ``memories``."""
    memories = [memory_report(program, outcome) for outcome in outcomes]
    first = memories[0]
    return {
        "network": network.name,
        "images": first["images"],
        "float_top1": accuracy.float_top1,
        "fixed_top1": accuracy.fixed_top1,
        "agreement": accuracy.agreement,
        "accuracy_images": accuracy.images,
        "bit_exact": all(memory["bit_exact"] for memory in memories),
        "cycles_per_image": first["cycles_per_image"],
        "multipliers": program.machine.multipliers,
        "mac_utilisation": first["mac_utilisation"],
        "memory": first["memory"],
        "machine": program.machine.to_json(),
        "layers": first["layers"],
        "memories": {memory["memory"]: memory for memory in memories},
    }


def _summary(report: dict[str, Any], folder: Path) -> str:
    def percent(share: float | None) -> str:
        return "unknown" if share is None else f"{100 * share:.2f} %"

    exact = "bit-exact: every layer equals the reference" if report["bit_exact"] else "NOT bit-exact"
    counts = ", ".join(
        f"{name} {memory['cycles_per_image']:,}" for name, memory in report["memories"].items()
    )
    return (
        f"\n{report['network']}: {report['images']} images, {exact}\n"
        f"top-1 on {report['accuracy_images']} images: float {percent(report['float_top1'])}, "
        f"fixed point {percent(report['fixed_top1'])}, agreement {percent(report['agreement'])}\n"
        f"cycles an image: {counts}\nreport: {folder / 'report.json'}"
    )


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write JSON: whole or not there."""
    write_whole(path, json.dumps(report, indent=1, allow_nan=False) + "\n")
