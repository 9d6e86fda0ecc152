"""The command line of ``sim``: ``python -m sim run | demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hw.closed_pipe import quiet_when_closed

__all__ = ["main"]

_PACKAGES = ("quant", "hw", "compiler", "sim", "models")


@quiet_when_closed
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 after an error or a difference, 2 after wrong usage."""
    from sim.run_command import add_demo_parser, add_parser

    parser = argparse.ArgumentParser(
        prog="python -m sim",
        description="Simulate networks on the accelerator's RTL.",
        epilog="examples:\n  python -m sim demo\n"
        "  python -m sim run fixed.onnx --data test.npz --images 16\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_parser(subparsers)
    add_demo_parser(subparsers)
    parsed = parser.parse_args(arguments)
    try:
        return parsed.run(parsed)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        if type(error).__module__.split(".")[0] not in _PACKAGES:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
