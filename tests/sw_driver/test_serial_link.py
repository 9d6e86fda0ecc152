"""The serial link over a real pseudo-terminal, with wires that lose, invent and change bytes."""

from __future__ import annotations

import os
import pty
import random
import threading
import tty

import pytest
from software_board import MemoryLink, SoftwareBoard, small_program

from hw.registers import Control, Register
from hw.serial_protocol import MAXIMUM_DATA
from sw_driver.link import LinkError
from sw_driver.serial_link import SerialLink

PROGRAM = small_program()


def test_memory_and_registers() -> None:
    memory = MemoryLink(PROGRAM)
    content = random.Random(1).randbytes(3 * MAXIMUM_DATA + 77)
    with SoftwareBoard(memory) as board, SerialLink(board.port) as link:
        assert (link.memory_bytes, link.clock_hz) == (memory.memory_bytes, 50_000_000)
        memory.memory[:] = b"\xee" * memory.memory_bytes
        for address, count in ((0x1003, len(content)), (0, 1), (15, 2), (0x800, 8), (0x900, 0), (65535, 1)):
            link.write_memory(address, content[:count])
            assert link.read_memory(address, count) == content[:count]
        assert memory.memory[0x1000:0x1003] == b"\xee" * 3
        assert memory.memory[0x1003 + len(content)] == 0xEE
        assert memory.memory[1:15] == b"\xee" * 14
        assert memory.memory[17:0x800] == b"\xee" * (0x800 - 17)
        assert link.read_register(Register.ID_LOW) == memory.digest & 0xFFFFFFFF
        link.write_register(Register.PROGRAM_ADDRESS, 0x12345678)
        assert board.register_writes == [(Register.PROGRAM_ADDRESS, 0x12345678)]
        assert link.repeated == 0


@pytest.mark.parametrize(("address", "count"), [(-1, 4), (65536, 1), (65530, 8), (1 << 31, 8)])
def test_bytes_outside_the_memory(address: int, count: int) -> None:
    with SoftwareBoard(MemoryLink(PROGRAM)) as board, SerialLink(board.port) as link:
        with pytest.raises(LinkError, match="outside the 65536 bytes"):
            link.read_memory(address, count)
        with pytest.raises(LinkError, match="outside the 65536 bytes"):
            link.write_memory(address, bytes(count))


def damage(data: bytes, source: random.Random) -> bytes:
    """One transfer in five loses a byte, gains some, or has one changed."""
    kind = source.random()
    if kind > 0.2 or len(data) < 2:
        return data
    position = source.randrange(len(data))
    if kind < 0.07:
        return data[:position] + data[position + 1 :]
    if kind < 0.14:
        return data[:position] + source.randbytes(3) + data[position:]
    return data[:position] + bytes([data[position] ^ 1 << source.randrange(8)]) + data[position + 1 :]


@pytest.mark.parametrize("seed", range(3))
def test_damaged_wires(seed: int) -> None:
    memory = MemoryLink(PROGRAM)
    content = random.Random(seed).randbytes(8000)
    with (
        SoftwareBoard(memory, wire_in=damage, wire_out=damage, seed=seed) as board,
        SerialLink(board.port, timeout=0.05, retries=20) as link,
    ):
        for start in range(0, 8000, 500):
            link.write_memory(start, content[start : start + 500])
        assert link.read_memory(0, 8000) == content
        for number in range(30):
            link.write_register(Register.CONTROL, Control.START)
            assert memory.starts == number + 1  # also when the answer was lost and the request repeated
        assert link.repeated > 0
    assert memory.memory[:8000] == content


def test_answers_that_come_late_belong_to_the_repeated_request() -> None:
    memory = MemoryLink(PROGRAM)
    held: list[bytes] = []

    def late(answer: bytes, _: random.Random) -> bytes:
        """Every third answer is held back, and comes with the next."""
        late.count += 1  # type: ignore[attr-defined]
        if late.count % 3 == 0:  # type: ignore[attr-defined]
            held.append(answer)
            return b""
        together = b"".join(held) + answer
        held.clear()
        return together

    late.count = 0  # type: ignore[attr-defined]
    with SoftwareBoard(memory, wire_out=late) as board, SerialLink(board.port, timeout=0.05) as link:
        for number in range(20):
            link.write_memory(8 * number, bytes([number]) * 8)
            assert link.read_memory(8 * number, 8) == bytes([number]) * 8
        assert link.repeated > 5


def test_no_such_port() -> None:
    with pytest.raises(LinkError, match=r"serial:/dev/no-such-port: cannot open .* check the name"):
        SerialLink("/dev/no-such-port")


class Stranger:
    """Something else on the other end: answers everything with the same bytes, or not at all."""

    def __init__(self, answer: bytes) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._answer = answer
        self._stop = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        import select

        while not self._stop:
            if select.select([self._master], [], [], 0.02)[0]:
                os.read(self._master, 4096)
                if self._answer:
                    os.write(self._master, self._answer)

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join(5)
        os.close(self._master)
        os.close(self._slave)


def test_silence() -> None:
    with (
        Stranger(b"") as other,
        pytest.raises(
            LinkError, match="no answer to 3 tries of IDENTIFY; check that the bitstream is loaded"
        ),
    ):
        SerialLink(other.port, timeout=0.05, retries=2)


def test_garbage() -> None:
    with Stranger(b"login: ") as other, pytest.raises(LinkError, match="21 bytes but no answer to 3 tries"):
        SerialLink(other.port, timeout=0.1, retries=2)


def test_another_baud_rate() -> None:
    noise = bytes([0x7E, 0x80, 0x7E, 0x1E, 0xFF, 0x7E])
    with (
        Stranger(noise) as other,
        pytest.raises(LinkError, match=r"only damaged answers to 3 tries .* check the baud"),
    ):
        SerialLink(other.port, timeout=0.1, retries=2)


def test_another_version() -> None:
    with (
        SoftwareBoard(MemoryLink(PROGRAM), version=9) as board,
        pytest.raises(LinkError, match="speaks version 9"),
    ):
        SerialLink(board.port)


def test_memory_that_never_becomes_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sw_driver.serial_link._READY_SECONDS", 0.2)
    with (
        SoftwareBoard(MemoryLink(PROGRAM), ready=False) as board,
        pytest.raises(LinkError, match="its memory does not become ready"),
    ):
        SerialLink(board.port, timeout=0.1)


def test_memory_that_becomes_ready_after_a_while() -> None:
    with SoftwareBoard(MemoryLink(PROGRAM), ready=False) as board:
        threading.Timer(0.2, lambda: setattr(board, "ready", True)).start()
        with SerialLink(board.port) as link:
            assert link.identity.memory_ready


def test_board_that_goes_silent() -> None:
    gone = threading.Event()
    with (
        SoftwareBoard(MemoryLink(PROGRAM), wire_out=lambda data, _: b"" if gone.is_set() else data) as board,
        SerialLink(board.port, timeout=0.05, retries=1) as link,
    ):
        assert link.read_memory(0, 8) == bytes(8)
        gone.set()
        with pytest.raises(LinkError, match="no answer to 2 tries of READ_MEMORY"):
            link.read_memory(0, 8)


def test_refused_requests_name_the_access() -> None:
    with SoftwareBoard(MemoryLink(PROGRAM)) as board, SerialLink(board.port) as link:
        link.memory_bytes = 1 << 20
        with pytest.raises(LinkError, match="the board refused READ_MEMORY of 8 bytes at 0x80000"):
            link.read_memory(0x80000, 8)
