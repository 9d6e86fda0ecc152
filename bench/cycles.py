"""Cycles of the benchmark's work in RTL, layer by layer, and what the array waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm import tqdm

from bench.bandwidth import bus_share
from bench.work import Work, compile_work
from hw.machine import Machine
from hw.program_file import ProgramFile
from sim.run import Outcome, simulate
from sim.verilator import LayerCounters, build

__all__ = ["REASONS", "BenchError", "LayerRow", "Row", "measure"]

#: What a layer's cycles are spent on, in the order of the tables.
REASONS: tuple[str, ...] = (
    "multipliers",
    "unused lanes",
    "weights in",
    "maps in",
    "maps out",
    "maps in and out",
    "gaps",
)


class BenchError(ValueError):
    """A run is not what it must be; the message says which work, and where it differs."""


@dataclass(frozen=True)
class LayerRow:
    """One layer on one memory; cycles are those in which its words were read or waited for.

    Attributes
    ----------
    name, kind : str
    macs, cycles : int
        Products that the work needs; clock cycles.
    array_busy : int
        Cycles in which the array took a word.
    read_bytes, write_bytes : int
        Over the data bus in these cycles.
    idle_weights, idle_load, idle_store, idle_both : int
        Cycles in which the array took none, by reason (`sim.verilator.LayerCounters`).
    """

    name: str
    kind: str
    macs: int
    cycles: int
    array_busy: int
    read_bytes: int
    write_bytes: int
    idle_weights: int
    idle_load: int
    idle_store: int
    idle_both: int

    def shares(self, multipliers: int) -> dict[str, float]:
        """Share of the cycles for each of `REASONS`; they add up to 1.

        ``multipliers``: all would have been busy; ``unused lanes``: the rest of the cycles in which
        the array took words; ``gaps``: the pipeline fills or drains.
        """
        cycles = max(self.cycles, 1)
        useful = self.macs / multipliers
        idle = (self.idle_weights, self.idle_load, self.idle_store, self.idle_both)
        gaps = self.cycles - self.array_busy - sum(idle)
        parts = (useful, self.array_busy - useful, *idle, gaps)
        return {reason: part / cycles for reason, part in zip(REASONS, parts, strict=True)}

    def limit(self, multipliers: int) -> str:
        """The reason with the largest share."""
        shares = self.shares(multipliers)
        return max(shares, key=lambda reason: shares[reason])


@dataclass(frozen=True)
class Row:
    """One work on one memory.

    Attributes
    ----------
    name, memory : str
    multipliers, bus_bytes : int
        Of the machine; twice as many where a multiplier may give two products.
    cycles : int
        From start to done.
    layers : tuple of LayerRow
    seconds : float
        Time spent in the simulator; not part of the baseline, nor of comparisons.
    """

    name: str
    memory: str
    multipliers: int
    bus_bytes: int
    cycles: int
    layers: tuple[LayerRow, ...]
    seconds: float = field(default=0.0, compare=False)

    @property
    def macs(self) -> int:
        """Products that the work needs."""
        return sum(layer.macs for layer in self.layers)

    @property
    def read_bytes(self) -> int:
        """Over the data bus: weights, feature maps, instructions."""
        return sum(layer.read_bytes for layer in self.layers)

    @property
    def write_bytes(self) -> int:
        """Over the data bus."""
        return sum(layer.write_bytes for layer in self.layers)

    @property
    def busy(self) -> float:
        """Share of multiplier cycles spent on products that the work needs."""
        return self.macs / (self.multipliers * self.cycles)

    @property
    def bus(self) -> float:
        """Share of what the memory setting could carry (`bench.bandwidth`)."""
        return bus_share(self.memory, self.bus_bytes, self.read_bytes, self.write_bytes, self.cycles)

    @property
    def speed(self) -> float:
        """Cycles simulated in a second; 0 if this was not measured."""
        return self.cycles / self.seconds if self.seconds else 0.0

    def reasons(self) -> dict[str, float]:
        """`LayerRow.shares` of all layers together."""
        counted = max(sum(layer.cycles for layer in self.layers), 1)
        found = dict.fromkeys(REASONS, 0.0)
        for layer in self.layers:
            for reason, share in layer.shares(self.multipliers).items():
                found[reason] += share * layer.cycles / counted
        return found

    def layer(self, name: str) -> LayerRow:
        """The layer of this name.

        Raises
        ------
        KeyError
            If there is none.
        """
        return {layer.name: layer for layer in self.layers}[name]

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object, without what is not exact; `from_json` reads it back."""
        entry = asdict(self)
        del entry["seconds"]
        return entry

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Row:
        """The row that `to_json` described."""
        layers = tuple(LayerRow(**layer) for layer in entry["layers"])
        return cls(**{**entry, "layers": layers})


def measure(
    work: Work, machine: Machine, memories: Sequence[str], *, progress: bool = False
) -> Iterator[Row]:
    """Run a work on each memory, every layer's tensor compared with the reference.  The last image counts.

    Raises
    ------
    BenchDataError
        If the work's network is missing.
    BenchError
        If a layer differs from the reference.
    CompileError, BuildError
        If the machine cannot run the work, or cannot be built.
    """
    compiled = compile_work(work, machine)
    build(machine)
    for memory in memories:
        with tqdm(
            desc=f"{work.name} {memory}",
            unit=" cycles",
            unit_scale=True,
            leave=False,
            delay=1,
            disable=None if progress else True,
        ) as bar:
            outcome = simulate(
                compiled.program,
                compiled.model,
                compiled.inputs,
                memory=memory,
                progress=lambda image, layer, cycles, bar=bar: bar.update(cycles),
            )
        if not outcome.bit_exact:
            raise BenchError(f"{work.name} with the memory {memory}: {outcome.problem}")
        yield _row(work, memory, compiled.program, outcome)


def _row(work: Work, memory: str, program: ProgramFile, outcome: Outcome) -> Row:
    machine, layers = program.machine, []
    for layer in program.layers:
        counters = outcome.counters[-1].get(layer.number, LayerCounters())
        layers.append(
            LayerRow(
                layer.name,
                layer.kind,
                layer.macs,
                counters.cycles,
                counters.compute_busy,
                counters.read_beats * machine.bus_bytes,
                counters.write_beats * machine.bus_bytes,
                counters.idle_weights,
                counters.idle_load,
                counters.idle_store,
                counters.idle_both,
            )
        )
    return Row(
        work.name,
        memory,
        machine.products,
        machine.bus_bytes,
        outcome.cycles[-1],
        tuple(layers),
        outcome.seconds,
    )
