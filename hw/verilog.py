"""Writes the accelerator as Verilog: ``python -m hw.verilog -o core.v [machine options]``.

Ports have the usual flat names: ``clk``, ``rst``, ``m_axi_awvalid``, ``s_axil_araddr``, ….
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

from amaranth.back import verilog
from amaranth.lib import wiring

from hw.accelerator import AcceleratorMultiplier, accelerator
from hw.machine import Machine, MachineError
from hw.whole_file import WholeFileError, check_writable, write_whole

__all__ = ["main", "verilog_of"]


def verilog_of(machine: Machine, *, multiplier: AcceleratorMultiplier = "portable",
               name: str = "core") -> str:
    """The accelerator as Verilog, the top module being called ``name``."""
    core = accelerator(machine, multiplier)
    return verilog.convert(core, name=name, ports=_ports(core), emit_src=False, strip_internal_attrs=True)


def _ports(core: wiring.Component) -> dict[str, tuple[object, None]]:
    """The ports by name, members of interfaces joined by a single underscore."""
    return {"_".join(map(str, path)): (value.as_value() if hasattr(value, "as_value") else value, None)
            for path, _, value in core.signature.flatten(core)}


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Options that choose a machine, one for each field of `Machine`, and ``--machine FILE``."""
    parser.add_argument("--machine", type=Path, metavar="FILE", help="a machine description in JSON")
    for field in fields(Machine):
        option = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(option, type=int, metavar="N", help=f"default {field.default}")


def machine_of(options: argparse.Namespace) -> Machine:
    """The machine that the options of `add_machine_options` chose.

    Raises
    ------
    MachineError
        If it cannot be built, or its file cannot be read.
    """
    described: dict[str, int | bool] = Machine().to_json()
    if options.machine is not None:
        try:
            described = Machine.from_json(json.loads(options.machine.read_text())).to_json()
        except (OSError, ValueError) as error:
            raise MachineError(f"{options.machine}: not a machine description ({error})") from None
    given = {name: getattr(options, name) for name in described if getattr(options, name) is not None}
    return Machine.from_json({**described, **given})


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m hw.verilog",
                                     description="Write the accelerator as Verilog.",
                                     epilog="examples:\n  python -m hw.verilog -o core.v\n"
                                     "  python -m hw.verilog -o small.v --input-lanes 4 --output-lanes 8 "
                                     "--bus-width 32\n",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE",
                        help="Verilog file to write")
    parser.add_argument("--multiplier", choices=get_args(AcceleratorMultiplier), default="portable")
    parser.add_argument("--name", default="core", help="name of the top module (default: core)")
    add_machine_options(parser)
    options = parser.parse_args(arguments)
    try:
        check_writable(options.output)
        text = verilog_of(machine_of(options), multiplier=options.multiplier, name=options.name)
        write_whole(options.output, text)
    except (MachineError, WholeFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
