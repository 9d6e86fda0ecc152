"""The command line of ``quant``: ``python -m quant inspect | calibrate | evaluate | compare | sweep | …``."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
from collections.abc import Sequence

from hw.closed_pipe import quiet_when_closed

__all__ = ["main"]

#: The modules of the subcommands: each has ``add_parser(subparsers)`` and ``run(arguments) -> int``.
_COMMANDS = ("quant.inspect", "quant.calibrate_command", "quant.evaluate", "quant.compare",
             "quant.sweep_command", "quant.prune_command", "quant.compress_command",
             "quant.decompress_command", "quant.ternarize_command", "quant.lowrank_command",
             "quant.chain_command")

_PACKAGES = ("quant", "hw", "compiler", "sim", "sw_driver", "models", "boards")

_EXAMPLES = """\
examples:
  python -m quant inspect model.onnx
  python -m quant calibrate model.onnx --data images.npz -o fixed.onnx
  python -m quant evaluate fixed.onnx --float model.onnx --data test.npz
  python -m quant compare model.onnx fixed.onnx --data test.npz --report errors.html
  python -m quant sweep model.onnx --data images.npz --test test.npz --plot precision.svg
  python -m quant prune model.onnx --data train.npz --total 0.1 -o pruned.onnx
  python -m quant lowrank model.onnx --data images.npz --speedup 3 -o low.onnx
  python -m quant compress pruned.onnx --data train.npz -o shared.onnx
  python -m quant chain net.onnx --data train.npz --test test.npz -o small "prune --total 0.1" "compress"
  python -m quant ternarize net.onnx --data train.npz -o ternary.onnx
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m quant", description="From a float model to a power-of-two fixed-point model.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMANDS:
        module = importlib.import_module(name)
        module.add_parser(subparsers)
        for subparser in set(subparsers.choices.values()):
            if subparser.get_default("run") is None:
                subparser.set_defaults(run=module.run)
    return parser


def _is_for_the_user(error: Exception) -> bool:
    """Whether an exception is one of the project's own, or about a file, so that its message suffices."""
    return isinstance(error, OSError) or (
        isinstance(error, ValueError) and type(error).__module__.split(".")[0] in _PACKAGES)


class _Terminated(BaseException):
    """SIGTERM: like KeyboardInterrupt, it unwinds everything, so that nothing is left behind."""


def _terminate(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise _Terminated


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code is 0, 1 after an error and 2 after wrong usage.

    After Ctrl-C it is 130, after SIGTERM 143, as a shell reports them.
    """
    parsed = _parser().parse_args(arguments)
    before = None
    if threading.current_thread() is threading.main_thread():  # no other may set it
        before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(parsed)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


@quiet_when_closed
def _run(parsed: argparse.Namespace) -> int:
    try:
        return parsed.run(parsed)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except _Terminated:
        print("error: terminated", file=sys.stderr)
        return 143
    except Exception as error:
        if not _is_for_the_user(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
