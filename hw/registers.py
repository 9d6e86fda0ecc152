"""The control registers, declared once for the RTL and the driver (AXI4-Lite, 32-bit words).

This module needs nothing but the standard library.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = ["COUNTERS", "Control", "Register", "Status", "counted_layer"]


class Register(IntEnum):
    """Byte addresses.  Counters are 64 bits: the low word first, the high word 4 bytes on; reading
    the low word latches the high word."""

    ID_LOW = 0x00            #: digest of the machine, bits 31..0 (read only)
    ID_HIGH = 0x04           #: digest of the machine, bits 63..32 (read only)
    CONTROL = 0x08           #: write `Control`; reads zero
    STATUS = 0x0C            #: `Status` (read only)
    PROGRAM_ADDRESS = 0x10   #: byte address of the first instruction, a multiple of 64
    LAYER = 0x14             #: layer number of the instruction being computed, or of the last one (read only)
    COUNTED_LAYER = 0x18     #: which cycles are counted: `counted_layer`; zero: all
    KEPT_ADDRESS = 0x1C      #: byte address of the weights that stay on the chip, on machines that keep some
    CYCLES = 0x40            #: cycles from start to done
    COMPUTE_BUSY = 0x48      #: cycles in which the array took a scratchpad word
    COMPUTE_TOKEN_WAIT = 0x50   #: cycles in which compute waited for a token
    COMPUTE_WEIGHT_WAIT = 0x58  #: cycles in which compute waited for a weight tile or parameters
    LOAD_BUSY = 0x60         #: cycles in which a load was being executed
    STORE_BUSY = 0x68        #: cycles in which a store was being executed
    READ_BEATS = 0x70        #: beats of read data taken from the bus
    WRITE_BEATS = 0x78       #: beats of write data given to the bus


#: The 64-bit counters, in address order; all are cleared by `Control.START`, and stand still in cycles
#: that `Register.COUNTED_LAYER` leaves out.
COUNTERS = (
    Register.CYCLES, Register.COMPUTE_BUSY, Register.COMPUTE_TOKEN_WAIT,
    Register.COMPUTE_WEIGHT_WAIT, Register.LOAD_BUSY, Register.STORE_BUSY,
    Register.READ_BEATS, Register.WRITE_BEATS,
)


def counted_layer(layer: int) -> int:
    """Value of `Register.COUNTED_LAYER` for the cycles in which `Register.LAYER` is this one: bit 16
    beside the number."""
    return 1 << 16 | layer


class Control(IntFlag):
    """Bits of `Register.CONTROL`."""

    START = 1  #: clear counters and errors, then run the program; ignored while busy
    KEPT = 2   #: with START: the weights from `Register.KEPT_ADDRESS` on are those of the run before, which
               #: ended without an error; they are not read again


class Status(IntFlag):
    """Bits of `Register.STATUS`.  Error bits stay until the next start."""

    BUSY = 1          #: a program is running
    DONE = 2          #: the last program reached its END and all units are idle
    READ_ERROR = 4    #: the memory answered a read with an error
    WRITE_ERROR = 8   #: the memory answered a write with an error
    BAD_OPCODE = 16   #: an instruction with an unknown opcode was fetched; fetching has stopped
    TOKEN_ERROR = 32  #: more than 255 tokens waited between two units
