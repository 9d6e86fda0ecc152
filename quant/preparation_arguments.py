"""The command-line options that say which images to take and how they become the network's input."""

from __future__ import annotations

import argparse

from quant.fixed_model import Preparation

__all__ = ["add_data_arguments", "positive", "preparation_of"]


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0.5,0.5,0.5") from None


def positive(text: str) -> int:
    """An option's whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def add_data_arguments(parser: argparse.ArgumentParser, images: str, *, required: bool = True) -> None:
    """Add ``--data``, ``--images``, ``--layout`` and the preparation; ``images`` explains ``--images``."""
    parser.add_argument(
        "--data",
        required=required,
        metavar="IMAGES",
        help=".npz with images (and labels), .npy array, or folder of images",
    )
    parser.add_argument("--images", type=positive, metavar="N", help=images)
    parser.add_argument(
        "--layout", choices=("NHWC", "NCHW"), help="order of an array of images that could be either"
    )
    group = parser.add_argument_group(
        "preparation",
        "The input is (image / DIVIDE - MEAN) / STD for each channel. Recorded in the fixed-point "
        "model, so that it is given once.",
    )
    group.add_argument("--divide", type=float, help="255 for networks trained on 0 to 1 (default: 1)")
    group.add_argument(
        "--mean", type=_numbers, metavar="A,B,C", help="one number for each channel, or one (default: 0)"
    )
    group.add_argument(
        "--std", type=_numbers, metavar="A,B,C", help="one number for each channel, or one (default: 1)"
    )
    group.add_argument(
        "--channel-order", choices=("RGB", "BGR"), help="what the network takes (default: RGB)"
    )
    group.add_argument("--resize", type=positive, metavar="N", help="resize the shorter side to N pixels")
    group.add_argument(
        "--crop", action="store_true", default=None, help="cut the centre out to the input's size"
    )


def preparation_of(arguments: argparse.Namespace) -> Preparation | None:
    """The preparation that the options say; None if none of them was given."""
    given = {
        name: getattr(arguments, name)
        for name in ("divide", "mean", "std", "channel_order", "resize", "crop")
        if getattr(arguments, name) is not None
    }
    return Preparation(**given) if given else None
