"""What the sequencer's loops say about a pass and about a word."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from hw.isa import Mode
from hw.machine import Machine
from hw.slots import THIN_CHANNELS

__all__ = ["POSITION_BITS", "WordFlags", "issue_layout", "pass_layout"]

#: Bits of a row or column number: 4,096 pixels with the largest stride, the farthest tap and origin.
POSITION_BITS = 22

#: What stays with a word on its way through the pipeline.
#:
#: ``new_tile``: first word that meets a new tile; ``new_block``: first word of an output block;
#: ``first``, ``last``: with it the sum begins, is complete; ``chain``: it is added to the word before;
#: ``maximum``: of mode MAXIMUM; and at the end of a row, of a block, of the instruction.
WordFlags = data.StructLayout({
    "new_tile": 1, "new_block": 1, "first": 1, "last": 1, "chain": 1, "maximum": 1, "row_end": 1,
    "block_end": 1, "end": 1,
})


def issue_layout(machine: Machine) -> data.StructLayout:
    """What the sequencer says about one word: the one at the window's corner where input lanes are taps."""
    return data.StructLayout({
        "address": unsigned(16),
        "pixel": unsigned(ceil_log2(machine.accumulator_depth)),
        "row": signed(POSITION_BITS),
        "column": signed(POSITION_BITS),
        "half": unsigned(ceil_log2(machine.blocks_per_word)),
        "phase": range(THIN_CHANNELS),
        "mode": Mode,
        "thin_channels": unsigned(3),
        "input_signed": 1,
        **({"pairs": 1} if machine.weight_pairs else {}),
        "image_rows": unsigned(16),
        "image_columns": unsigned(16),
        "flags": WordFlags,
    })


def pass_layout(machine: Machine) -> data.StructLayout:
    """Where a pass starts, and which it is."""
    return data.StructLayout({
        "address": unsigned(16),
        "row": signed(POSITION_BITS),
        "column": signed(POSITION_BITS),
        "half": unsigned(ceil_log2(machine.blocks_per_word)),
        "first": 1,
        "last": 1,
        "first_block": 1,
        "last_block": 1,
        "needs_tile": 1,
    })
