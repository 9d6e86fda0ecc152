"""Cycles of the benchmark's work in RTL, beside the bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from tqdm import tqdm

from bench.work import WORK, Work, load_work
from compiler.compile import compile_model
from hw.machine import Machine
from quant.text_table import aligned
from sim import reference
from sim.run import simulate

__all__ = ["BARS", "Bar", "Row", "bar_lines", "measure", "table"]


@dataclass(frozen=True)
class Row:
    """One work on one memory.

    Attributes
    ----------
    name, memory : str
    multipliers, macs, cycles : int
        Of the machine; products that the work needs; clock cycles from start to done.
    read_bytes, write_bytes : int
        Over the data bus.
    weight_wait, token_wait : int
        Cycles in which the array waited for weights, and for loads and stores.
    """

    name: str
    memory: str
    multipliers: int
    macs: int
    cycles: int
    read_bytes: int
    write_bytes: int
    weight_wait: int
    token_wait: int

    @property
    def busy(self) -> float:
        """Share of multiplier cycles spent on products that the work needs."""
        return self.macs / (self.multipliers * self.cycles)

    @property
    def bytes_per_cycle(self) -> float:
        """Bytes over the data bus in both directions."""
        return (self.read_bytes + self.write_bytes) / self.cycles

    def to_json(self) -> dict[str, str | int]:
        """The row as a JSON object: its fields."""
        return asdict(self)


@dataclass(frozen=True)
class Bar:
    """What a work should reach on a memory: least share of multipliers busy, most cycles, or least bytes
    read a cycle."""

    name: str
    memory: str
    busy: float | None = None
    cycles: int | None = None
    read: float | None = None

    def met(self, row: Row) -> bool:
        """Whether a row reaches it."""
        return (
            (self.busy is None or row.busy >= self.busy)
            and (self.cycles is None or row.cycles <= self.cycles)
            and (self.read is None or row.read_bytes / row.cycles >= self.read)
        )

    def __str__(self) -> str:
        if self.read is not None:
            return f"at least {self.read:.2f} bytes read a cycle"
        return f"at least {100 * self.busy:g} % busy" if self.busy else f"at most {self.cycles:,} cycles"


BARS = (
    Bar("L1", "stalling", busy=0.97),
    Bar("L2", "stalling", busy=0.97),
    Bar("L3", "ideal", busy=0.5),
    # 98 % of what the memory delivers: 8 bytes a cycle, 15 times in 19 cycles when it stalls
    Bar("L4", "ideal", read=0.98 * 8),
    Bar("L4", "stalling", read=0.98 * 8 * 15 / 19),
    Bar("N1", "ideal", cycles=75_000),
    Bar("N1", "stalling", cycles=85_000),
    Bar("N2", "ideal", cycles=115_000),
    Bar("N3", "ideal", busy=0.6),
)


def measure(
    work: Work, machine: Machine, memories: Sequence[str], *, progress: bool = False
) -> Iterator[Row]:
    """Run a work on each memory, every layer compared with the reference.

    Raises
    ------
    BenchDataError
        If the work's network is missing.
    RuntimeError
        If a layer differs from the reference.
    """
    model, inputs = load_work(work)
    program = compile_model(model, machine, inputs[0], lambda: reference.run(model, inputs))
    macs = sum(layer.macs for layer in program.layers)
    for memory in memories:
        with tqdm(
            desc=f"{work.name} {memory}", unit=" cycles", unit_scale=True, disable=None if progress else True
        ) as bar:
            outcome = simulate(
                program,
                model,
                inputs,
                memory=memory,
                progress=lambda image, layer, cycles, bar=bar: bar.update(cycles),
            )
        if not outcome.bit_exact:
            raise RuntimeError(f"{work.name} with the memory {memory}: {outcome.problem}")
        counters = list(outcome.counters.values())
        yield Row(
            work.name,
            memory,
            machine.multipliers,
            macs,
            outcome.cycles[0],
            sum(counter.read_beats for counter in counters) * machine.bus_bytes,
            sum(counter.write_beats for counter in counters) * machine.bus_bytes,
            sum(counter.compute_weight_wait for counter in counters),
            sum(counter.compute_token_wait for counter in counters),
        )


def table(rows: Sequence[Row]) -> list[str]:
    """The rows for people, beside the peer's figures."""
    cells = [
        ["work", "", "memory", "cycles", "busy %", "bytes a cycle", "weights %", "tokens %", "peer"],
        *(
            [
                row.name,
                WORK[row.name].what,
                row.memory,
                f"{row.cycles:,}",
                f"{100 * row.busy:.1f}",
                f"{row.bytes_per_cycle:.2f}",
                f"{100 * row.weight_wait / row.cycles:.1f}",
                f"{100 * row.token_wait / row.cycles:.1f}",
                WORK[row.name].peer,
            ]
            for row in rows
        ),
    ]
    return aligned(cells, 3)


def bar_lines(rows: Sequence[Row], bars: Sequence[Bar]) -> list[str]:
    """For each bar whose work was run: what was reached, and whether it is met."""
    found = {(row.name, row.memory): row for row in rows}
    cells = [["work", "memory", "bar", "cycles", "busy %", "bytes a cycle", ""]]
    for bar in bars:
        if row := found.get((bar.name, bar.memory)):
            verdict = "met" if bar.met(row) else "MISSED"
            cells.append(
                [
                    bar.name,
                    bar.memory,
                    str(bar),
                    f"{row.cycles:,}",
                    f"{100 * row.busy:.1f}",
                    f"{row.bytes_per_cycle:.2f}",
                    verdict,
                ]
            )
    return aligned(cells, 3)
