"""The command-line options that say how wide weights and feature maps are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quant.budget import Budget
    from quant.widths import Widths

__all__ = ["add_width_arguments", "budget_of", "widths_of"]


def add_width_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--weight-bits``, ``--activation-bits``, ``--budget`` and ``--widths``."""
    group = parser.add_argument_group(
        "widths",
        "2 to 16 bits for all layers, and exceptions by name: 8,fc=4,stage3*=6. A name is a pattern on "
        "layers (for feature maps: on layers or tensors), or fc (fully connected layers), conv (the other "
        "convolutions), depthwise, input or output. The last exception that fits counts. The network's "
        "output has at least 8 bits unless it is named.",
    )
    group.add_argument("--weight-bits", metavar="BITS", help="of weights (default: 8)")
    group.add_argument("--activation-bits", metavar="BITS", help="of feature maps (default: 8)")
    group.add_argument(
        "--budget",
        metavar="AMOUNT",
        help="find each layer's weight width, 8, 4 or 2 bits: bytes of all weights (48kB), bits a weight on "
        "average (5bits), or points of accuracy that may be lost (0.5points)",
    )
    group.add_argument(
        "--widths",
        type=Path,
        metavar="FILE.toml",
        help='both from a file: tables [weights] and [activations] with default = 8 and "pattern" = bits',
    )


def budget_of(arguments: argparse.Namespace) -> Budget | None:
    """The budget that the options give, or None.

    Raises
    ------
    BudgetError
        If it cannot be read, or widths of weights are given, too.
    """
    from quant.budget import Budget, BudgetError

    if arguments.budget is None:
        return None
    if arguments.weight_bits is not None or arguments.widths is not None:
        raise BudgetError("--budget finds the widths of the weights; leave --weight-bits and --widths out")
    return Budget.parse(arguments.budget)


def widths_of(arguments: argparse.Namespace) -> tuple[Widths, Widths]:
    """Widths of weights and of feature maps that the options say.

    Raises
    ------
    WidthError
        If they cannot be read, or are given in a file and as options.
    FormatError
        If a width is not 2 to 16 bits.
    """
    from quant.widths import WidthError, Widths, read_widths

    if arguments.widths is None:
        return (
            Widths.parse("8" if arguments.weight_bits is None else arguments.weight_bits, "weights"),
            Widths.parse(
                "8" if arguments.activation_bits is None else arguments.activation_bits, "feature maps"
            ),
        )
    if arguments.weight_bits is not None or arguments.activation_bits is not None:
        raise WidthError("give widths as --widths FILE or as --weight-bits and --activation-bits, not both")
    return read_widths(arguments.widths)
