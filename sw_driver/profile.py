"""Where a program's cycles go, layer by layer, beside what the compiler expects.

The accelerator counts the cycles of one layer at a time (`hw.registers.Register.COUNTED_LAYER`), so the
program is run once for each of its layers, and once for all of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hw.program_file import ProgramFile
from hw.registers import Register, counted_layer
from sw_driver.accelerator import Accelerator, AcceleratorError, Progress

if TYPE_CHECKING:
    from compiler.layer_estimate import LayerEstimate
    from compiler.traffic import MemoryTiming
    from hw.isa import Instruction

__all__ = ["LayerProfile", "Profile", "profile", "profile_lines"]


@dataclass(frozen=True)
class LayerProfile:
    """One layer: the cycles in which the newest COMPUTE instruction was its own.

    Attributes
    ----------
    number, name, kind, macs
        As in `hw.program_file.Layer`.
    counters : dict
        `hw.registers.COUNTERS` by name, of these cycles.
    waits_for : str
        The units whose tokens its COMPUTE instructions take: what waiting for feature maps means.
    estimate : dict or None
        What the compiler's model gives: ``cycles``, ``array``, ``weights``, ``maps``.
    """

    number: int
    name: str
    kind: str
    macs: int
    counters: dict[str, int]
    waits_for: str
    estimate: dict[str, int] | None = None

    @property
    def reasons(self) -> dict[str, int]:
        """Cycles by what the array did: took words, waited for weights, for maps, or neither."""
        counted = self.counters
        found = {
            "array": counted["compute_busy"],
            "weights": counted["compute_weight_wait"],
            "maps": counted["compute_token_wait"],
        }
        return found | {"other": counted["cycles"] - sum(found.values())}

    @property
    def why(self) -> str:
        """The reason with the most cycles, in words."""
        reasons = self.reasons
        reason = max(reasons, key=lambda one: reasons[one])
        words = {"array": "array busy", "weights": "waits for weights", "other": "pipeline"}
        return words.get(reason, f"waits for {self.waits_for}")


@dataclass(frozen=True)
class Profile:
    """A program's layers, and the counters of a whole run; ``output_right``: as the known answer says."""

    layers: list[LayerProfile]
    counters: dict[str, int]
    output_right: bool
    estimated_cycles: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            **asdict(self),
            "layers": [
                {**asdict(layer), "reasons": layer.reasons, "why": layer.why} for layer in self.layers
            ],
        }


def _waits_for(instructions: list[Instruction]) -> str:
    from hw.isa import Opcode, Unit

    names = {Unit.LOAD: "loads", Unit.STORE: "stores"}
    mask = 0
    for instruction in instructions:
        if instruction.opcode is Opcode.COMPUTE:
            mask |= instruction.wait
    return " and ".join(name for unit, name in names.items() if mask >> unit & 1) or "nobody"


def profile(
    accelerator: Accelerator,
    program: ProgramFile,
    memory: MemoryTiming | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Run a program on its known input, once for each layer.

    Where weights stay on the chip, one more run brings them there, and those that count are later inferences.

    Parameters
    ----------
    accelerator : Accelerator
        The program is loaded here.
    program : ProgramFile
    memory : MemoryTiming or None
        How its memory behaves, for the estimate; None: no estimate.
    progress : callable or None
        Called with 1 after each run that counts: one more than there are layers.

    Raises
    ------
    AcceleratorError
        If the program does not suit the accelerator or does not run, the accelerator cannot count by layer,
        or Amaranth is not installed.
    """
    try:
        from compiler.estimate import estimate
        from compiler.listing import instructions_of
    except ImportError as error:
        raise AcceleratorError(f"profile: {error}; install pointshift[sim]") from None
    instructions = instructions_of(program)
    keeps = program.machine.kept_weight_words > 0
    expected = None
    if memory is not None:
        kept = program.kept_address if keeps else None
        expected = estimate(instructions, program.machine, memory, kept_address=kept)
    accelerator.load(program)
    link = accelerator.link

    def counted(wanted: int) -> dict[str, int]:
        link.write_register(Register.COUNTED_LAYER, wanted)
        if link.read_register(Register.COUNTED_LAYER) != wanted:
            raise AcceleratorError(
                f"{link.name}: its bitstream cannot count the cycles of one layer; build it again"
            )
        output.append(accelerator.run(program.known_input))
        if progress is not None:
            progress(1)
        return accelerator.counters()

    output: list[NDArray[np.int64]] = []
    layers = []
    if keeps:
        output.append(accelerator.run(program.known_input))
    try:
        for layer in program.layers:
            layers.append(
                LayerProfile(
                    layer.number,
                    layer.name,
                    layer.kind,
                    layer.macs,
                    counted(counted_layer(layer.number)),
                    _waits_for([one for one in instructions if one.layer == layer.number]),
                    expected and _expected(expected.layers.get(layer.number)),
                )
            )
    finally:
        link.write_register(Register.COUNTED_LAYER, 0)
    whole = counted(0)
    right = all(np.array_equal(found, program.known_output) for found in output)
    return Profile(layers, whole, right, expected and expected.cycles)


def _expected(layer: LayerEstimate | None) -> dict[str, int]:
    names = ("cycles", "array", "weights", "maps")
    if layer is None:
        return dict.fromkeys(names, 0)
    maps = layer.idle_load + layer.idle_store + layer.idle_both
    found = (layer.cycles, layer.array_busy, layer.idle_weights, maps)
    return {name: round(value) for name, value in zip(names, found, strict=True)}


def profile_lines(result: Profile) -> list[str]:
    """The table for a terminal."""
    head = ["layer", "", "cycles", "array %", "weights %", "maps %", "other %", "estimate", "off %", ""]
    rows = []
    for layer in result.layers:
        counted = layer.counters["cycles"]
        shares = [f"{100 * part / max(counted, 1):.1f}" for part in layer.reasons.values()]
        rows.append(
            [
                str(layer.number),
                f"{_short(layer.name)} ({layer.kind})",
                f"{counted:,}",
                *shares,
                *_estimate_cells(counted, layer.estimate and layer.estimate["cycles"]),
                layer.why,
            ]
        )
    whole = result.counters["cycles"]
    rows.append(["", "all", f"{whole:,}", *[""] * 4, *_estimate_cells(whole, result.estimated_cycles), ""])
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    left = (1, len(head) - 1)
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    ]


def _short(name: str, most: int = 36) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]


def _estimate_cells(counted: int, estimated: int | None) -> list[str]:
    if estimated is None:
        return ["", ""]
    return [f"{estimated:,}", f"{100 * (estimated / counted - 1):+.1f}" if counted else ""]
