"""The accelerator: all units, connected (`docs/machine.md`)."""

from __future__ import annotations

from typing import Literal

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.compute import Compute
from hw.control import ControlRegisters
from hw.copies import copies
from hw.core_signature import CoreSignature
from hw.fetch import Fetch
from hw.isa import Unit
from hw.kept_weights import KeptWeights
from hw.load import Load
from hw.machine import Machine
from hw.read_port import ReadPort
from hw.scratchpad import Scratchpad
from hw.store import Store
from hw.tokens import Tokens
from hw.weights import Weights

__all__ = ["Core"]


class Core(wiring.Component):
    """The whole accelerator.

    Parameters
    ----------
    machine : Machine
    multiplier : "portable" or "ecp5"
        Whether multipliers and scratchpad are left to inference or instantiated for the ECP5.

    Members are those of `hw.core_signature.CoreSignature`.
    """

    def __init__(self, machine: Machine, *, multiplier: Literal["portable", "ecp5"] = "portable") -> None:
        if multiplier not in ("portable", "ecp5"):
            raise ValueError(f"multiplier must be 'portable' or 'ecp5', not {multiplier!r}")
        self.machine = machine
        self.multiplier = multiplier
        super().__init__(CoreSignature(machine))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        m.submodules.control = control = ControlRegisters(machine)
        m.submodules.read_port = read_port = ReadPort(machine.bus_width, 3)
        m.submodules.fetch = fetch = Fetch(machine)
        m.submodules.load = load = Load(machine)
        m.submodules.weights = weights = Weights(machine)
        # a program that stopped at a bad opcode may have left weights in the compute unit
        fresh, fresh_tokens = copies(m, control.start, 2, "fresh", init=0)
        m.submodules.compute = compute = Compute(machine, multiplier=self.multiplier)
        m.submodules.store = store = Store(machine)
        m.submodules.scratchpad = scratchpad = Scratchpad(machine, memory=self.multiplier)
        m.submodules.tokens = tokens = Tokens()

        # buses
        wiring.connect(m, control.bus, wiring.flipped(self.s_axil))
        for part in (read_port.axi, store.axi):
            for name, member in part.signature.members.items():
                inside, outside = getattr(part, name), getattr(self.m_axi, name)
                m.d.comb += outside.eq(inside) if member.flow is Out else inside.eq(outside)
        weights_port = weights.port
        if machine.kept_weight_words:
            m.submodules.kept_weights = kept = KeptWeights(machine, memory=self.multiplier)
            wiring.connect(m, weights.port, kept.client)
            m.d.comb += [kept.address.eq(control.kept_address), kept.kept.eq(control.kept)]
            weights_port = kept.port
        for client, port in zip(read_port.clients, (fetch.port, load.port, weights_port), strict=True):
            wiring.connect(m, port, client)

        # instructions, tokens, weights, words
        wiring.connect(m, fetch.load, load.instructions)
        wiring.connect(m, fetch.weights, weights.instructions)
        wiring.connect(m, fetch.compute, compute.instructions)
        wiring.connect(m, fetch.store, store.instructions)
        for number, unit in ((Unit.LOAD, load), (Unit.COMPUTE, compute), (Unit.STORE, store)):
            wiring.connect(m, unit.tokens, tokens.units[number])
        wiring.connect(m, weights.output, compute.weights)
        wiring.connect(m, load.write, scratchpad.write)
        wiring.connect(m, store.read, scratchpad.read)
        wiring.connect(m, compute.scratchpad, scratchpad.compute)
        m.d.comb += [
            scratchpad.write_data.eq(load.write_data),
            store.read_data.eq(scratchpad.read_data),
            store.read_valid.eq(scratchpad.read_valid),
        ]

        # The program has ended when nothing has happened for some cycles: an instruction on its way
        # from a queue into a unit, or a token to a waiting unit, may be seen in neither for one.
        quiet, quiet_cycles = Signal(), Signal(range(8))
        settled = Signal()
        m.d.comb += [
            quiet.eq(~(fetch.busy | fetch.load.valid | fetch.weights.valid | fetch.compute.valid
                       | fetch.store.valid | load.busy | store.busy | ~compute.idle)),
            settled.eq(quiet_cycles == 7),
            # weights that nobody is going to take
            weights.discard.eq(settled),
            control.finished.eq(settled & ~weights.busy),
            compute.forget_weights.eq(fresh),
            tokens.clear.eq(fresh_tokens),
            fetch.start.eq(control.start),
            fetch.address.eq(control.program_address),
        ]
        with m.If(~quiet | control.start):
            m.d.sync += quiet_cycles.eq(0)
        with m.Elif(~settled):
            m.d.sync += quiet_cycles.eq(quiet_cycles + 1)

        # status
        with m.If(control.start):
            m.d.sync += self.layer.eq(0)
        with m.Elif(compute.layer_valid):
            m.d.sync += self.layer.eq(compute.layer)
        m.d.comb += [
            control.read_error.eq(fetch.read_error | read_port.clients[1].beats.valid
                                  & read_port.clients[1].beats.payload.error
                                  | read_port.clients[2].beats.valid
                                  & read_port.clients[2].beats.payload.error),
            control.write_error.eq(store.error),
            control.bad_opcode.eq(fetch.bad_opcode),
            control.token_error.eq(tokens.error),
            control.read_beats.eq(read_port.beat),
            control.write_beats.eq(store.beat),
            control.layer.eq(self.layer),
            self.done.eq(control.done),
            self.compute_busy.eq(compute.busy),
            self.compute_token_wait.eq(compute.token_wait),
            self.compute_weight_wait.eq(compute.weight_wait),
            self.load_busy.eq(load.busy),
            self.store_busy.eq(store.busy),
        ]
        for name in ("compute_busy", "compute_token_wait", "compute_weight_wait", "load_busy", "store_busy"):
            m.d.comb += getattr(control, name).eq(getattr(self, name))
        return m
