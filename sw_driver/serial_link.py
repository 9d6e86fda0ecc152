"""A board, or its simulated gateware, over a serial port (`hw.serial_protocol`).

Every request waits for its answer.  A request whose answer does not come, or comes damaged, is sent
again, a bounded number of times; the board recognises repetitions by their sequence number.
"""

from __future__ import annotations

import contextlib
import time

import serial

from hw.registers import Register
from hw.serial_protocol import (
    DATA_ALIGNMENT,
    MAXIMUM_DATA,
    VERSION,
    Command,
    FrameReader,
    Identity,
    MemoryState,
    Request,
    Response,
    ResponseStatus,
)
from sw_driver.ddr3 import calibrate
from sw_driver.link import Link, LinkError

__all__ = ["DEFAULT_BAUD", "SerialLink"]

DEFAULT_BAUD = 1_000_000

#: Seconds in which the memory of a board that has just been configured becomes ready.
_READY_SECONDS = 2.0


class SerialLink(Link):
    """Speaks to the bridge of a board.

    Parameters
    ----------
    port : str
        Device, ``/dev/ttyUSB0`` or a pseudo-terminal.
    baud : int
        Bits a second; the board's gateware was built for one rate.
    timeout : float
        Seconds to wait for an answer, beyond the time that the bytes take on the wire.
    retries : int
        How often a request is sent again before giving up.

    Raises
    ------
    LinkError
        If the port cannot be opened, or what answers is not a board with this protocol.
    """

    def __init__(
        self, port: str, baud: int = DEFAULT_BAUD, *, timeout: float = 0.5, retries: int = 4
    ) -> None:
        self.name = f"serial:{port}"
        self.baud = baud
        self.timeout = timeout
        self.retries = retries
        self.repeated = 0  #: requests that had to be sent again
        self._sequence = 0
        self._reader = FrameReader()
        try:
            # Reads return at least every 50 ms, so that deadlines are kept whatever the port does.
            self._port = serial.Serial(port, baud, timeout=0.05, write_timeout=10, exclusive=True)
        except (OSError, ValueError) as error:  # SerialException is an OSError
            reason = getattr(error, "strerror", None) or str(error)
            raise LinkError(
                f"{self.name}: cannot open the port at {baud} baud ({reason}); check the name, the "
                "cable, that no other program has it open, and that you may use it "
                "(on Linux: group dialout)"
            ) from None
        # USB adapters collect bytes for 16 ms unless told otherwise; not every port can be told.
        if hasattr(self._port, "set_low_latency_mode"):
            with contextlib.suppress(OSError, ValueError):
                self._port.set_low_latency_mode(True)
        try:
            identity = self._identify()
            self.memory_bytes = identity.memory_bytes
            self.clock_hz = identity.clock_hz
            self._maximum = min(MAXIMUM_DATA, identity.maximum_data) // DATA_ALIGNMENT * DATA_ALIGNMENT
            if identity.memory_state == MemoryState.WAITS_FOR_HOST:
                self.calibration = calibrate(self)
                identity = self._identify()
        except BaseException:
            self._port.close()
            raise
        self.identity = identity

    def close(self) -> None:
        self._port.close()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def read_memory(self, address: int, count: int) -> bytes:
        self.check_range(address, count)
        first = address - address % DATA_ALIGNMENT
        last = -(-(address + count) // DATA_ALIGNMENT) * DATA_ALIGNMENT
        parts = [
            self._request(Command.READ_MEMORY, start, min(self._maximum, last - start))
            for start in range(first, last, self._maximum)
        ]
        return b"".join(parts)[address - first : address - first + count]

    def write_memory(self, address: int, content: bytes) -> None:
        self.check_range(address, len(content))
        if not content:
            return
        # The board writes whole units of DATA_ALIGNMENT: fetch what surrounds the ends.
        before, after = address % DATA_ALIGNMENT, -(address + len(content)) % DATA_ALIGNMENT
        first = address - before
        if before:
            content = self.read_memory(first, before) + content
        if after:
            content += self.read_memory(first + len(content), after)
        for start in range(0, len(content), self._maximum):
            piece = content[start : start + self._maximum]
            self._request(Command.WRITE_MEMORY, first + start, len(piece), piece)

    def read_register(self, register: Register | int) -> int:
        return int.from_bytes(self._request(Command.READ_REGISTER, int(register), 4), "little")

    def write_register(self, register: Register | int, value: int) -> None:
        self._request(Command.WRITE_REGISTER, int(register), 4, value.to_bytes(4, "little"))

    def _identify(self) -> Identity:
        # Whatever an earlier program left on the way is not for us.
        self._port.reset_input_buffer()
        deadline = time.monotonic() + _READY_SECONDS + self.timeout
        while True:
            data = self._request(Command.IDENTIFY, 0, 0)
            identity = Identity.decode(data)
            if identity is None:
                raise LinkError(
                    f"{self.name}: what answers is not one of our boards; is another bitstream loaded?"
                )
            if identity.version != VERSION:
                raise LinkError(
                    f"{self.name}: the board speaks version {identity.version} of the protocol, the driver "
                    f"version {VERSION}; build the bitstream and the driver from the same source"
                )
            if identity.memory_state != MemoryState.NOT_READY and (
                identity.memory_ready or self.calibration is None
            ):
                return identity
            if time.monotonic() > deadline:
                raise LinkError(
                    f"{self.name}: the board answers, but its memory does not become ready; "
                    "load the bitstream again, and check that it was built for this board"
                )
            time.sleep(0.01)

    def _request(self, command: Command, address: int, count: int, data: bytes = b"") -> bytes:
        """The data of the answer; sends again what is not answered."""
        self._sequence = (self._sequence + 1) % 256
        frame = Request(self._sequence, command, address, count, data).encode()
        answer_bytes = count if command in (Command.READ_MEMORY, Command.READ_REGISTER) else 0
        # ten bits a byte; every byte may be escaped
        seconds = self.timeout + 10 * (len(frame) + 2 * answer_bytes + 32) / self.baud
        heard = damaged = 0
        for attempt in range(self.retries + 1):
            self.repeated += attempt > 0
            try:
                self._port.write(frame)
                response, bytes_heard, frames_damaged = self._receive(time.monotonic() + seconds)
            except OSError as error:
                raise LinkError(f"{self.name}: the port failed ({error}); was the cable pulled?") from None
            heard += bytes_heard
            damaged += frames_damaged
            if response is None:
                continue
            if response.status == ResponseStatus.OKAY:
                expected = None if command == Command.IDENTIFY else answer_bytes
                if expected is not None and len(response.data) != expected:
                    raise LinkError(
                        f"{self.name}: the board answered {command.name} with {len(response.data)} "
                        f"bytes instead of {expected}; build bitstream and driver from the same source"
                    )
                return response.data
            raise LinkError(f"{self.name}: {self._refusal(response.status, command, address, count)}")
        raise LinkError(f"{self.name}: {self._silence(command, heard, damaged)}")

    def _receive(self, deadline: float) -> tuple[Response | None, int, int]:
        """The answer to the current request, or None at the deadline; bytes heard; frames damaged."""
        heard, damaged_before = 0, self._reader.damaged
        while time.monotonic() < deadline:
            received = self._port.read(max(1, self._port.in_waiting))
            heard += len(received)
            found = None
            for content in self._reader.feed(received):
                response = Response.decode(content)
                # An answer with another number belongs to a request that was repeated.
                if response is not None and response.sequence == self._sequence:
                    found = response
            if found is not None:
                return found, heard, self._reader.damaged - damaged_before
        return None, heard, self._reader.damaged - damaged_before

    def _refusal(self, status: int, command: Command, address: int, count: int) -> str:
        what = f"{command.name} of {count} bytes at {address:#x}"
        if status == ResponseStatus.NOT_READY:
            return f"the memory is not ready for {what}; load the bitstream again"
        if status == ResponseStatus.BUS_ERROR:
            return f"the board's bus answered {what} with an error; does the address exist on this board?"
        if status == ResponseStatus.BAD_REQUEST:
            return f"the board refused {what}; build bitstream and driver from the same source"
        return f"the board answered {what} with the unknown status {status}"

    def _silence(self, command: Command, heard: int, damaged: int) -> str:
        tries = f"{self.retries + 1} tries of {command.name}"
        if not heard:
            return (
                f"no answer to {tries}; check that the bitstream is loaded, that this is the board's port, "
                f"and that it was built for {self.baud} baud"
            )
        if damaged:
            return (
                f"only damaged answers to {tries} ({damaged} frames with a wrong checksum in {heard} bytes); "
                f"check the baud rate ({self.baud}) and the cable"
            )
        return (
            f"{heard} bytes but no answer to {tries}; check that this is the board's port, that our "
            f"bitstream is loaded, and that it was built for {self.baud} baud"
        )
