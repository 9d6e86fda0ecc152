"""AXI4 and AXI4-Lite as Amaranth signatures, with the flat signal names of the specification.

Both are described from the manager's side; a subordinate uses ``In(...)``.  Signals that the
accelerator never varies (lock, cache, protection, quality of service, region) are left out.
"""

from __future__ import annotations

from enum import IntEnum

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ADDRESS_WIDTH", "AXI4", "AXI4Lite", "BURST_INCR", "ID_WIDTH", "MAXIMUM_BURST",
           "PAGE_BYTES", "Response"]

#: Bits of a memory address.
ADDRESS_WIDTH = 32

#: Bits of every ID; the accelerator uses ID 0 alone, so that answers come in order.
ID_WIDTH = 1

#: No burst may cross a multiple of this many bytes.
PAGE_BYTES = 4096

#: Most beats in an INCR burst.
MAXIMUM_BURST = 256

#: AxBURST: each beat's address is the one before plus the beat's size.
BURST_INCR = 1


class Response(IntEnum):
    """xRESP: how an access ended."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class AXI4(wiring.Signature):
    """AXI4 manager with one ID, INCR bursts only.

    Parameters
    ----------
    data_width : int
        Bits of the data bus: 8 to 1,024, a power of two.
    """

    def __init__(self, data_width: int) -> None:
        if data_width not in (8, 16, 32, 64, 128, 256, 512, 1024):
            raise ValueError(f"data_width must be a power of two from 8 to 1024, not {data_width!r}")
        self.data_width = data_width
        address = {"id": ID_WIDTH, "addr": ADDRESS_WIDTH, "len": 8, "size": 3, "burst": 2, "valid": 1}
        super().__init__({
            **{f"aw{name}": Out(width) for name, width in address.items()}, "awready": In(1),
            "wdata": Out(data_width), "wstrb": Out(data_width // 8), "wlast": Out(1),
            "wvalid": Out(1), "wready": In(1),
            "bid": In(ID_WIDTH), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            **{f"ar{name}": Out(width) for name, width in address.items()}, "arready": In(1),
            "rid": In(ID_WIDTH), "rdata": In(data_width), "rresp": In(2), "rlast": In(1),
            "rvalid": In(1), "rready": Out(1),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AXI4) and self.data_width == other.data_width


class AXI4Lite(wiring.Signature):
    """AXI4-Lite manager with 32 bits of data.

    Parameters
    ----------
    address_width : int
        Bits of the byte address.
    """

    def __init__(self, address_width: int) -> None:
        self.address_width = address_width
        super().__init__({
            "awaddr": Out(address_width), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "araddr": Out(address_width), "arvalid": Out(1), "arready": In(1),
            "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AXI4Lite) and self.address_width == other.address_width
