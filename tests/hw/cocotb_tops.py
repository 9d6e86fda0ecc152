"""Top modules for the benches of single units, their AXI channels being called ``m_axi_*``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from cocotb_build import build, component_verilog

from hw.machine import Machine
from hw.read_port import AXI4Read, ReadPort

__all__ = ["MACHINES", "BehindReadPort", "run_bench"]


class BehindReadPort(wiring.Component):
    """A unit that reads memory, the second of three clients of a read port; the others want nothing.

    Members
    -------
    m_axi : ``Out(AXI4Read(bus_width))``
    Every other one is the unit's of the same name.
    """

    def __init__(self, machine: Machine, unit: Any) -> None:
        self.unit = unit
        self.read_port = ReadPort(machine.bus_width, 3)
        self.passed = {name: member for name, member in unit.signature.members.items() if name != "port"}
        super().__init__({**self.passed, "m_axi": Out(AXI4Read(machine.bus_width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit, m.submodules.read_port = self.unit, self.read_port
        wiring.connect(m, self.unit.port, self.read_port.clients[1])
        wiring.connect(m, self.read_port.axi, wiring.flipped(self.m_axi))
        for name, member in self.passed.items():
            inside, outside = getattr(self.unit, name), getattr(self, name)
            if not member.is_port:
                wiring.connect(m, inside, wiring.flipped(outside))
            elif member.flow is Out:
                m.d.comb += outside.eq(inside)
            else:
                m.d.comb += inside.eq(outside)
        return m


#: The machines that the units are built for.
MACHINES = {
    "4x4-32": Machine(
        input_lanes=4,
        output_lanes=4,
        bus_width=32,
        scratchpad_words=256,
        accumulator_depth=32,
        weight_fifo_words=32,
    ),
    "4x8-32": Machine(
        input_lanes=4,
        output_lanes=8,
        bus_width=32,
        scratchpad_words=256,
        accumulator_depth=32,
        weight_fifo_words=64,
    ),
    "8x8-64": Machine(
        input_lanes=8,
        output_lanes=8,
        bus_width=64,
        scratchpad_words=256,
        accumulator_depth=16,
        weight_fifo_words=32,
    ),
}


def run_bench(
    top: wiring.Component,
    name: str,
    machine: Machine,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    tests: int,
    visible: tuple[str, ...] = (),
    renamed: Mapping[str, str] | None = None,
    models: str = "",
) -> None:
    """Build a unit and run the tests of ``cocotb_{name}.py`` on it.

    ``tests`` is how many there are, ``visible`` signals that the bench sees beside the ports,
    ``renamed`` as in `cocotb_build.component_verilog`, ``models`` Verilog of primitives that the unit has.
    """
    names = dict(renamed or {})
    text = component_verilog(top, name, names) + models
    ports = {f"{names.get(str(path[0]), path[0])}*" for path, _, _ in top.signature.flatten(top)}
    simulator = build(text, name, sorted(ports | {"clk", "rst", *visible}), monkeypatch)
    bench = Path(__file__).with_name(f"cocotb_{name}.py")
    simulator.run(
        bench, folder, monkeypatch, tests=tests, environment={"MACHINE": json.dumps(machine.to_json())}
    )
