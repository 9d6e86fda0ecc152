"""A DDR3 controller in software: its registers, scripts, and a memory that reads right in a window."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hw.ddr3_description import (
    CONTROL,
    DESCRIPTION,
    HARDWARE_CONTROL,
    SCRIPT,
    DDR3Description,
    Phase,
    Script,
)
from hw.registers import Register
from sw_driver.link import Link, LinkError

DESCRIPTION_OF_MODEL = DDR3Description(
    lanes=2,
    delays=8,
    bitslips=4,
    control=0x1000,
    ready=0x0,
    failed=0x4,
    lane_select=0x800,
    delay_reset=0x804,
    delay_step=0x808,
    bitslip_reset=0x80C,
    bitslip_step=0x810,
    bursts_seen=0x818,
    phases=(Phase(0x1014, 0x101C), Phase(0x1034, 0x103C)),
)


@dataclass
class LaneModel:
    """One byte lane: which settings read right, bits that are stuck, whether it drives its strobe."""

    windows: dict[int, tuple[int, int]] = field(default_factory=lambda: {1: (2, 5)})
    stuck_at_one: int = 0
    strobe: bool = True
    #: After so many right tests the lane begins to fail.
    lasts: int | None = None
    bitslip: int = 3
    delay: int = 5

    def right(self) -> bool:
        first, last = self.windows.get(self.bitslip, (1, 0))
        return first <= self.delay <= last


class DDR3Model(Link):
    """What the registers of `DESCRIPTION_OF_MODEL` do; registers and memory of an accelerator besides."""

    def __init__(self, *lanes: LaneModel, name: str = "double", broken_memory: bool = False) -> None:
        self.name = name
        self.memory_bytes = 1 << 16
        self.clock_hz = 50_000_000
        self.lanes = list(lanes) or [LaneModel(), LaneModel()]
        self.description = DESCRIPTION_OF_MODEL
        self.ready = self.failed = False
        self.control = HARDWARE_CONTROL
        self.started = False
        self.polls = 0
        self.tests = 0
        self.selected = 0
        self.burst = bytes(16)
        self.read = bytes(16)
        self.seen = 0
        self.broken_memory = broken_memory
        self._random = random.Random(3)
        self._memory = bytearray(self.memory_bytes)

    def read_memory(self, address: int, count: int) -> bytes:
        if not self.ready or self.control != HARDWARE_CONTROL:
            raise LinkError("not ready")
        content = bytearray(self._memory[address : address + count])
        if self.broken_memory:
            content[7] ^= 1
        return bytes(content)

    def write_memory(self, address: int, content: bytes) -> None:
        if not self.ready or self.control != HARDWARE_CONTROL:
            raise LinkError("not ready")
        self._memory[address : address + len(content)] = content

    def pause(self, seconds: float) -> None:
        pass

    def read_register(self, register: Register | int) -> int:
        if register == SCRIPT:
            self.polls = max(0, self.polls - 1)
            return int(self.polls > 0)
        if register >= DESCRIPTION:
            words = self.description.encode()
            return words[(register - DESCRIPTION) // 4]
        offset = register - CONTROL
        if offset == self.description.bursts_seen:
            return self.seen
        for number, phase in enumerate(self.description.phases):
            # the highest word comes first
            if phase.read_data <= offset < phase.read_data + 8:
                place = 8 * number + 4 - (offset - phase.read_data)
                return int.from_bytes(self.read[place : place + 4], "little")
        raise AssertionError(f"read of {register:#x}")

    def write_register(self, register: Register | int, value: int) -> None:
        if register == SCRIPT:
            self._script(Script(value))
            return
        offset = register - CONTROL
        known = self.description
        for number, phase in enumerate(known.phases):
            if phase.write_data <= offset < phase.write_data + 8:
                place = 8 * number + 4 - (offset - phase.write_data)
                self.burst = self.burst[:place] + value.to_bytes(4, "little") + self.burst[place + 4 :]
                return
        chosen = [lane for number, lane in enumerate(self.lanes) if self.selected >> number & 1]
        if offset == known.lane_select:
            self.selected = value
        elif offset == known.delay_reset:
            for lane in chosen:
                lane.delay = 0
        elif offset == known.delay_step:
            for lane in chosen:
                lane.delay = (lane.delay + 1) % known.delays
        elif offset == known.bitslip_reset:
            for lane in chosen:
                lane.bitslip = 0
        elif offset == known.bitslip_step:
            for lane in chosen:
                lane.bitslip = (lane.bitslip + 1) % known.bitslips
        elif offset == known.control:
            self.control = value
        elif offset == known.ready:
            self.ready = bool(value)
        elif offset == known.failed:
            self.failed = bool(value)
        else:
            raise AssertionError(f"write of {value:#x} to {register:#x}")

    def _script(self, script: Script) -> None:
        if script == Script.START:
            self.started, self.ready, self.failed, self.control, self.polls = True, False, False, 14, 3
            return
        assert self.started, "tested before it was started"
        assert not self.selected, "a lane that is selected does not listen to its strobe"
        assert self.control != HARDWARE_CONTROL
        self.tests += 1
        read = bytearray(self._random.randbytes(16))
        self.seen = 0
        for number, lane in enumerate(self.lanes):
            right = lane.right() and lane.strobe
            if right and lane.lasts is not None:
                lane.lasts -= 1
                right = lane.lasts >= 0
            if right:
                read[number::2] = bytes(byte | lane.stuck_at_one for byte in self.burst[number::2])
                self.seen |= 1 << number
        self.read = bytes(read)
