"""The generated controller: what others count on, and that it is the same every time."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("litedram", reason="LiteDRAM is not installed")

from boards.litedram import ControllerError, generate


@pytest.mark.parametrize(
    ("megabytes", "pins", "rows", "columns"), [(8, 32, 11, 8), (32, 16, 13, 9), (64, 16, 13, 10)]
)
def test_controller(megabytes: int, pins: int, rows: int, columns: int) -> None:
    controller = generate(megabytes, 50e6, {"core": 128, "host": 64})
    assert controller.memory_bytes == megabytes << 20
    assert controller.address_bits == 20 + megabytes.bit_length() - 1
    assert (controller.row_bits, controller.column_bits, controller.timing.cas_latency) == (rows, columns, 2)
    for name, width in (("core", 128), ("host", 64)):
        assert re.search(rf"input +wire +\[{width - 1}:0\] user_port_{name}_wdata", controller.verilog)
        assert re.search(
            rf"input +wire +\[{controller.address_bits - 1}:0\] user_port_{name}_araddr", controller.verilog
        )
    assert re.search(rf"inout +wire +\[{pins - 1}:0\] sdram_dq", controller.verilog)
    assert len(set(controller.registers.values())) == len(controller.registers)


def test_same_every_time() -> None:
    assert generate(32, 60e6, {"core": 64}) == generate(32, 60e6, {"core": 64})


@pytest.mark.parametrize(
    ("megabytes", "clock_hz", "text"),
    [(16, 50e6, "megabytes must be 8, 32 or 64"), (32, 5e6, "10 to 100 MHz"), (32, 133e6, "10 to 100 MHz")],
)
def test_what_is_refused(megabytes: int, clock_hz: float, text: str) -> None:
    with pytest.raises(ControllerError, match=text):
        generate(megabytes, clock_hz, {"core": 64})


def test_generator_that_fails() -> None:
    with pytest.raises(ControllerError, match="LiteDRAM's generator failed"):
        generate(32, 50e6, {"core": 65})
