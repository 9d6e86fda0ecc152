"""``python -m sw_driver``: run, selftest, profile, calibrate, info, counters."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.closed_pipe import quiet_when_closed
from hw.program_file import ProgramFile, ProgramFileError
from hw.whole_file import WholeFileError, check_writable, write_whole
from sw_driver.accelerator import Accelerator, AcceleratorError
from sw_driver.ddr3 import CalibrationError, calibrate
from sw_driver.link import LinkError
from sw_driver.open_link import open_link
from sw_driver.prepare import PrepareError, dequantize, load_images, prepare, quantize
from sw_driver.profile import profile, profile_lines
from sw_driver.progress import transfer_bar
from sw_driver.self_test import SelfTest, self_test, self_test_bytes

__all__ = ["main"]

_TOP = 5


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw_driver",
        description="Load a program into an accelerator and run it.",
        **_with_examples(
            "run net.prog --link sim --input photo.png", "selftest net.prog --link serial:/dev/ttyUSB0"
        ),
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def common(command: argparse.ArgumentParser, *, program: bool = True, link: bool = True) -> None:
        if program:
            command.add_argument("program", help="a .prog file")
        if link:
            command.add_argument(
                "--link",
                required=True,
                metavar="LINK",
                help="sim, serial:PORT or serial:PORT@BAUD (a board is built for 1000000 baud)",
            )
            command.add_argument(
                "--link-timeout", type=float, metavar="S", help="seconds to wait for each answer"
            )
            command.add_argument(
                "--run-timeout",
                type=float,
                metavar="S",
                help="seconds that one run may take (default: 60 on a board, a day in simulation)",
            )
        command.add_argument("--json", metavar="FILE", help="also write the result to this file")
        command.add_argument("--quiet", action="store_true", help="no progress bar")

    run = commands.add_parser(
        "run",
        help="run the program on images",
        **_with_examples(
            "run net.prog --link sim --input photo.png",
            "run net.prog --link serial:/dev/ttyUSB0 --input test.npz --images 10 --json result.json",
        ),
    )
    common(run)
    run.add_argument(
        "--input",
        required=True,
        metavar="IMAGE",
        help=".npy or .npz (images), or an image file; prepared as the program says",
    )
    run.add_argument(
        "--images", type=int, default=None, metavar="N", help="only the first N images of the file"
    )
    selftest = commands.add_parser(
        "selftest",
        help="test the memory, then every layer with the known answer",
        **_with_examples("selftest net.prog --link sim", "selftest net.prog --link serial:/dev/ttyUSB0"),
    )
    common(selftest)
    profiling = commands.add_parser(
        "profile",
        help="cycles of each layer, what the array waited for, and what the compiler expected",
        **_with_examples(
            "profile net.prog --link sim",
            "profile net.prog --link sim --memory ulx3s --json profile.json",
            "profile net.prog --link serial:/dev/ttyUSB0 --memory ecp5",
        ),
    )
    common(profiling)
    profiling.add_argument(
        "--memory",
        metavar="NAME",
        help="memory to estimate with and, with the link sim, to simulate: ideal, stalling, ulx3s or a board "
        "(default: ideal in simulation; without an estimate on a board)",
    )
    calibration = commands.add_parser(
        "calibrate",
        help="calibrate a board's DDR3 memory again; what it holds is lost",
        **_with_examples("calibrate --link serial:/dev/ttyUSB0"),
    )
    common(calibration, program=False)
    info = commands.add_parser(
        "info",
        help="what is in a program",
        **_with_examples("info net.prog", "info net.prog --json program.json"),
    )
    common(info, link=False)
    counters = commands.add_parser(
        "counters",
        help="a board's counters of its last run",
        **_with_examples("counters --link serial:/dev/ttyUSB0"),
    )
    common(counters, program=False)
    return parser


def _with_examples(*lines: str) -> dict[str, Any]:
    """Arguments for a parser whose help ends in examples."""
    return {
        "epilog": "examples:\n" + "".join(f"  python -m sw_driver {line}\n" for line in lines),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


@quiet_when_closed
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0 if all went well (and a self-test passed)."""
    options = _parser().parse_args(arguments)
    commands = {
        "run": _run,
        "selftest": _selftest,
        "profile": _profile,
        "calibrate": _calibrate,
        "info": _info,
        "counters": _counters,
    }
    try:
        check_writable(options.json)
        result, status = commands[options.command](options)
        if options.json:
            _write(Path(options.json), result)
        return status
    except (AcceleratorError, LinkError, PrepareError, ProgramFileError, WholeFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    program = ProgramFile.load(options.program)
    images = load_images(options.input, program.input.shape[0])
    integers = quantize(prepare(images, program, options.input), program.input)
    if options.images is not None:
        if options.images < 1:
            raise PrepareError("--images must be at least 1")
        integers = integers[: options.images]
    results = []
    with open_link(options.link, program.machine, program.memory_bytes, timeout=options.link_timeout) as link:
        accelerator = Accelerator(link, run_timeout=options.run_timeout)
        total = sum(len(segment.content) for segment in program.segments)
        with transfer_bar("loading", total, quiet=options.quiet) as progress:
            accelerator.load(program, progress)
        for number, output in enumerate(accelerator.run_batch(integers)):
            counters = accelerator.counters()
            scores = _scores(output, program)
            best = [int(index) for index in np.argsort(-scores, kind="stable")[:_TOP]]
            _print_run(
                options.input if len(integers) == 1 else f"{options.input}: image {number}",
                scores,
                best,
                counters["cycles"],
                link.clock_hz,
            )
            results.append(
                {
                    "image": number,
                    "top": [{"class": index, "score": float(scores[index])} for index in best],
                    "output": [int(value) for value in output.reshape(-1)],
                    "cycles": counters["cycles"],
                    "counters": counters,
                }
            )
    return {"program": program.name, "link": options.link, "clock_hz": link.clock_hz, "images": results}, 0


def _scores(output: NDArray[np.int64], program: ProgramFile) -> NDArray[np.float64]:
    """The network's real outputs, one after another, with what the host has to add."""
    values = dequantize(output, program.output).astype(np.float64).reshape(-1)
    for operation in program.host_operations:
        if operation != "Softmax":
            raise AcceleratorError(
                f"{program.name}: the host cannot compute {operation}; compile the model again"
            )
        values = np.exp(values - values.max())
        values /= values.sum()
    return values


def _print_run(
    name: str, scores: NDArray[np.float64], best: list[int], cycles: int, clock_hz: int | None
) -> None:
    time = f", {1e3 * cycles / clock_hz:.3f} ms at {clock_hz / 1e6:g} MHz" if clock_hz else ""
    print(f"{name}: {cycles} cycles{time}")
    for index in best:
        print(f"  class {index:>5}  {scores[index]:.6g}")


def _selftest(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    program = ProgramFile.load(options.program)
    try:
        link = open_link(options.link, program.machine, program.memory_bytes, timeout=options.link_timeout)
    except CalibrationError as error:
        result = SelfTest(memory_fault=str(error))
        lanes = error.calibration.to_json() if error.calibration else None
        _print_self_test(program.name, options.link, result)
        return {"program": program.name, "link": options.link, "calibration": lanes, **result.to_json()}, 1
    with link:
        if link.calibration is not None:
            print(f"DDR3 calibrated: {link.calibration}")
        accelerator = Accelerator(link, run_timeout=options.run_timeout)
        with transfer_bar("self-test", self_test_bytes(program), quiet=options.quiet) as progress:
            result = self_test(accelerator, program, progress)
        lanes = link.calibration.to_json() if link.calibration is not None else None
    _print_self_test(program.name, options.link, result)
    return {
        "program": program.name,
        "link": options.link,
        "calibration": lanes,
        **result.to_json(),
    }, 0 if result.passed else 1


def _print_self_test(program: str, link: str, result: SelfTest) -> None:
    print(f"memory: {'wrong' if result.memory_fault else f'{result.memory_bytes} bytes right'}")
    for layer in result.layers:
        print(f"layer {layer.number:>3}  {layer.result:<11}  {layer.name}")
    print(f"self-test of {program} over {link}: {result.verdict}")


def _memory_timing(name: str, program: ProgramFile) -> Any:
    """Memory settings by their own name or a board's, whose memory the program must fit."""
    try:
        from sim.memory_settings import MEMORY_NAMES, board_settings, memory_settings
    except ImportError as error:
        raise AcceleratorError(f"--memory {name}: {error}; install pointshift[sim]") from None
    if name in MEMORY_NAMES:
        return memory_settings(name)
    try:
        from boards.registry import find_board

        board = find_board(name)
        settings = board_settings(board.external.kind, board.external.data_bits, board.clock_mhz)
    except (ImportError, ValueError) as error:
        names = ", ".join(MEMORY_NAMES)
        raise AcceleratorError(f"--memory {name}: neither one of {names} nor a board ({error})") from None
    if program.memory_bytes > board.external.size:
        raise AcceleratorError(
            f"{program.name} takes {program.memory_bytes:,} bytes of memory, {board.name} has "
            f"{board.external.size:,}; use a smaller network or input, or a board with more memory"
        )
    return settings


def _profile(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    program = ProgramFile.load(options.program)
    simulated = options.link == "sim"
    name = options.memory or ("ideal" if simulated else None)
    memory = None if name is None else _memory_timing(name, program)
    with open_link(
        options.link,
        program.machine,
        program.memory_bytes,
        timeout=options.link_timeout,
        memory=memory if simulated else "ideal",
    ) as link:
        accelerator = Accelerator(link, run_timeout=options.run_timeout)
        runs = len(program.layers) + 1
        with transfer_bar("profile", runs, quiet=options.quiet, unit=" runs") as progress:
            result = profile(accelerator, program, memory, progress)
        clock_hz = link.clock_hz
    for line in profile_lines(result):
        print(line)
    if not result.output_right:
        print(f"the output of {program.name} is wrong; run the self-test")
    return {
        "program": program.name,
        "link": options.link,
        "memory": name,
        "clock_hz": clock_hz,
        **result.to_json(),
    }, 0 if result.output_right else 1


def _calibrate(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    with open_link(options.link, timeout=options.link_timeout) as link:
        calibration = link.calibration or calibrate(link)
    for number, lane in enumerate(calibration.lanes):
        print(f"lane {number}: {lane}")
        for line in lane.chart():
            print(f"  {line}")
    return {"link": options.link, "calibration": calibration.to_json()}, 0


def _info(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    program = ProgramFile.load(options.program)
    machine = program.machine

    def tensor(place: Any) -> dict[str, Any]:
        return {
            "name": place.name,
            "shape": list(place.shape),
            "bits": place.bits,
            "signed": place.signed,
            "fl": place.fl,
            "address": place.address,
        }

    result = {
        "name": program.name,
        "machine": machine.to_json(),
        "digest": f"{machine.digest():016x}",
        "memory_bytes": program.memory_bytes,
        "input": tensor(program.input),
        "output": tensor(program.output),
        "preparation": program.preparation,
        "host_operations": list(program.host_operations),
        "segments": [
            {"name": segment.name, "address": segment.address, "bytes": len(segment.content)}
            for segment in program.segments
        ],
        "layers": [
            {
                "number": layer.number,
                "name": layer.name,
                "kind": layer.kind,
                "macs": layer.macs,
                "shape": list(layer.tensor.shape),
                "stored": layer.stored,
            }
            for layer in program.layers
        ],
        "macs": sum(layer.macs for layer in program.layers),
    }
    print(
        f"{program.name}: {len(program.layers)} layers, {result['macs']} multiply-accumulates, "
        f"{program.memory_bytes} bytes of memory"
    )
    print(
        f"machine {result['digest']}: {machine.input_lanes}x{machine.output_lanes} multipliers, "
        f"{machine.bus_width}-bit bus"
    )
    for end, place in (("input", program.input), ("output", program.output)):
        sign = "s" if place.signed else "u"
        print(f"{end:<6} {place.name} {'x'.join(map(str, place.shape))} {sign}{place.bits}.{place.fl}")
    for segment in program.segments:
        print(f"memory {segment.address:#010x} {len(segment.content):>9} bytes  {segment.name}")
    for layer in program.layers:
        print(f"layer {layer.number:>3}  {layer.kind:<12} {layer.macs:>12} MACs  {layer.name}")
    return result, 0


def _counters(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    with open_link(options.link, timeout=options.link_timeout) as link:
        counters = Accelerator(link).counters()
    for name, value in counters.items():
        print(f"{name:<20} {value:>14}")
    return {"link": options.link, "counters": counters}, 0


def _write(path: Path, result: dict[str, Any]) -> None:
    write_whole(path, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
