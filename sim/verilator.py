"""The whole core in Verilator, from Python: memory, registers, runs, counters for each layer."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from hw.machine import Machine
from hw.registers import Control, Register, Status
from sim.memory_settings import MemorySettings, memory_settings
from sim.verilator_build import BuildError, build

__all__ = ["BUSY", "BuildError", "LayerCounters", "RunResult", "SimulationError", "VerilatedCore", "build"]

#: Parts of the core of which `VerilatedCore.busy_intervals` knows when they were busy.
BUSY = ("load", "compute", "store", "weights")

#: Cycles between two looks at the keyboard during a run.
_SLICE = 200_000

_LIMIT, _PROTOCOL, _HANG = 1, 2, 3


class SimulationError(ValueError):
    """A run failed: a rule of the bus was broken, nothing moved any more, or the limit was reached.

    Attributes
    ----------
    kind : str
        ``"protocol"``, ``"hang"`` or ``"limit"``.
    layer : int
        Number of the layer being computed (`hw.core.Core`).
    """

    def __init__(self, kind: str, layer: int, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.layer = layer


@dataclass(frozen=True)
class LayerCounters:
    """What happened while one layer's words were read or waited for.

    Loads for the next layer and stores of the last one overlap, and are counted where they happen.
    All are cycles, except the beats of the data bus.  The ``idle`` ones have one reason each, for which
    the array took no word: it waited for weights, or for a token while a load, a store, or both were
    being executed; what remains of ``cycles - compute_busy`` is the pipeline.
    """

    cycles: int = 0
    compute_busy: int = 0
    compute_token_wait: int = 0
    compute_weight_wait: int = 0
    load_busy: int = 0
    store_busy: int = 0
    read_beats: int = 0
    write_beats: int = 0
    idle_weights: int = 0
    idle_load: int = 0
    idle_store: int = 0
    idle_both: int = 0

    def __add__(self, other: LayerCounters) -> LayerCounters:
        return LayerCounters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class RunResult:
    """A program that reached its end: clock cycles from start to done, and the STATUS register."""

    cycles: int
    status: Status
    seconds: float


class _Counters(ctypes.Structure):
    _fields_ = [(field.name, ctypes.c_uint64) for field in fields(LayerCounters)]


@cache
def _bind(library: Path) -> ctypes.CDLL:
    bound = ctypes.CDLL(str(library))
    handle, u32, u64, i32 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int
    for name, result, arguments in (
        ("create", handle, (ctypes.c_void_p, u64, ctypes.c_char_p)),
        ("destroy", None, (handle,)),
        ("memory", ctypes.c_void_p, (handle,)),
        ("reset", None, (handle, u32)),
        ("run", i32, (handle, u64, u64)),
        ("write_register", i32, (handle, u32, u32)),
        ("read_register", i32, (handle, u32, ctypes.POINTER(u32))),
        ("inject_error", None, (handle, u64, u64, i32, i32)),
        ("clear_errors", None, (handle,)),
        ("cycles", u64, (handle,)),
        ("layer", u32, (handle,)),
        ("done", i32, (handle,)),
        ("message", ctypes.c_char_p, (handle,)),
        ("layers", u64, (handle,)),
        ("layer_counters", ctypes.POINTER(_Counters), (handle,)),
        ("clear_layers", None, (handle,)),
        ("record", None, (handle, u64, u64)),
        ("interval_count", u64, (handle, u32)),
        ("intervals", ctypes.POINTER(u64), (handle, u32)),
    ):
        function = getattr(bound, f"harness_{name}")
        function.restype, function.argtypes = result, list(arguments)
    return bound


class VerilatedCore:
    """One core with its memory, in this process.

    Parameters
    ----------
    machine : Machine
        What to build; the library is built on first use (about a minute) and kept.
    memory_bytes : int
        Size of the external memory, which starts as zeros.
    memory : str or MemorySettings
        How the memory behaves (`sim.memory_settings`).
    seed : int
        For the setting ``"random"``.
    trace : path or None
        FST file to write waveforms to; it is complete after `close`.
    library : path or None
        A library that `sim.verilator_build` built, instead of the machine's.

    Raises
    ------
    BuildError
        If the library cannot be built.
    MemorySettingsError
        If there is no such memory setting.
    """

    def __init__(
        self,
        machine: Machine,
        memory_bytes: int,
        memory: str | MemorySettings = "ideal",
        seed: int = 0,
        trace: str | Path | None = None,
        library: Path | None = None,
    ) -> None:
        self.machine = machine
        self.memory_bytes = -(-memory_bytes // 4096) * 4096
        settings = memory_settings(memory, seed) if isinstance(memory, str) else memory
        self._handle: int | None = None
        self._started = 0
        self._library = _bind(library or build(machine, trace=trace is not None))
        structure = settings.as_structure()
        if trace is not None:
            Path(trace).parent.mkdir(parents=True, exist_ok=True)
        self._handle = self._library.harness_create(
            ctypes.byref(structure), self.memory_bytes, None if trace is None else str(trace).encode()
        )
        if not self._handle:
            raise SimulationError(
                "limit", 0, f"cannot allocate {self.memory_bytes} bytes for the simulated memory"
            )
        self._memory = (ctypes.c_ubyte * self.memory_bytes).from_address(
            self._library.harness_memory(self._handle)
        )

    def close(self) -> None:
        """End the simulation; waveforms are complete then."""
        if self._handle:
            self._library.harness_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> VerilatedCore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _check_range(self, address: int, count: int) -> None:
        if not self._handle:
            raise SimulationError("limit", 0, "this simulation has been closed")
        if address < 0 or count < 0 or address + count > self.memory_bytes:
            raise SimulationError(
                "limit",
                0,
                f"bytes {address} to {address + count} are not all in the simulated "
                f"memory of {self.memory_bytes} bytes",
            )

    def write_memory(self, address: int, content: bytes) -> None:
        """Put bytes into the external memory, in no simulated time."""
        self._check_range(address, len(content))
        ctypes.memmove(ctypes.addressof(self._memory) + address, content, len(content))

    def read_memory(self, address: int, count: int) -> bytes:
        """Bytes of the external memory, in no simulated time."""
        self._check_range(address, count)
        return ctypes.string_at(ctypes.addressof(self._memory) + address, count)

    def write_register(self, register: int, value: int) -> None:
        """Write a 32-bit register through the AXI4-Lite port."""
        self._finish(self._library.harness_write_register(self._handle, register, value))

    def read_register(self, register: int) -> int:
        """Read a 32-bit register through the AXI4-Lite port."""
        value = ctypes.c_uint32()
        self._finish(self._library.harness_read_register(self._handle, register, ctypes.byref(value)))
        return value.value

    def read_counter(self, register: int) -> int:
        """Read one of the 64-bit counters."""
        low = self.read_register(register)
        return low | self.read_register(register + 4) << 32

    def inject_error(self, first: int, end: int, *, reads: bool = True, writes: bool = True) -> None:
        """Answer every burst that touches addresses ``first`` … ``end - 1`` with SLVERR from now on."""
        self._library.harness_inject_error(self._handle, first, end, int(reads), int(writes))

    def clear_errors(self) -> None:
        """Undo `inject_error`."""
        self._library.harness_clear_errors(self._handle)

    def reset(self, cycles: int = 4) -> None:
        """Hold the core in reset for some cycles; the bus forgets what was in flight."""
        self._library.harness_reset(self._handle, cycles)

    def start(self, control: Control = Control.START) -> None:
        """Clear the counters of the layers and what was recorded, and write ``control`` to CONTROL."""
        self._library.harness_clear_layers(self._handle)
        self._started = self.cycles
        self.write_register(Register.CONTROL, int(control))

    def advance(self, cycles: int, hang: int = 20_000) -> bool:
        """Run until the program is done (True) or so many cycles have passed (False).

        Raises
        ------
        SimulationError
            If a rule of the bus is broken or nothing moves for ``hang`` cycles.
        """
        while cycles > 0:
            step = min(cycles, max(_SLICE, 2 * hang))
            result = self._library.harness_run(self._handle, step, hang)
            if result != _LIMIT:
                self._finish(result)
                return True
            cycles -= step
        return bool(self._library.harness_done(self._handle))

    def run(
        self,
        limit: int = 10**9,
        hang: int = 20_000,
        progress: Callable[[int], None] | None = None,
        control: Control = Control.START,
    ) -> RunResult:
        """Start the program and run it to its end.

        Parameters
        ----------
        limit : int
            Cycles after which to give up.
        hang : int
            Cycles without any movement on the bus or in the array after which to give up.
        progress : callable or None
            Called now and then with the cycles simulated since the last call.
        control : Control
            As in `start`.

        Raises
        ------
        SimulationError
            If a rule of the bus is broken, nothing moves any more, or the limit is reached.
        """
        began, first = time.perf_counter(), self.cycles
        self.start(control)
        done = False
        while not done:
            before = self.cycles
            left = limit - (before - first)
            if left <= 0:
                raise SimulationError(
                    "limit",
                    self.layer,
                    f"not done after {limit} cycles; layer {self.layer} was being computed",
                )
            done = self.advance(min(left, _SLICE), hang)
            if progress is not None:
                progress(self.cycles - before)
        return RunResult(
            cycles=self.read_counter(Register.CYCLES),
            status=Status(self.read_register(Register.STATUS)),
            seconds=time.perf_counter() - began,
        )

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far."""
        return self._library.harness_cycles(self._handle)

    @property
    def layer(self) -> int:
        """Number of the layer being computed (`hw.core.Core`)."""
        return self._library.harness_layer(self._handle)

    def layer_counters(self) -> dict[int, LayerCounters]:
        """What each layer cost since the last start, by layer number."""
        count = self._library.harness_layers(self._handle)
        raw = self._library.harness_layer_counters(self._handle)
        names = [field.name for field in fields(LayerCounters)]
        found = {
            number: LayerCounters(*(getattr(raw[number], name) for name in names)) for number in range(count)
        }
        return {number: counters for number, counters in found.items() if counters.cycles}

    def record_intervals(self, weights: tuple[int, int] = (0, 0)) -> None:
        """Record from now on when each part of the core is busy, for `busy_intervals`.

        Reads of the addresses ``weights[0]`` … ``weights[1] - 1`` are those of weights.
        """
        self._library.harness_record(self._handle, *weights)

    def busy_intervals(self) -> dict[str, NDArray[np.uint64]]:
        """For each part in `BUSY`: rows of the first cycle in which it was busy and the first in which
        it was not any more, counted from the last start.

        ``load``, ``compute`` and ``store`` are what the counters of these names count, ``weights`` the
        beats of weights on the bus (and of instructions, where those read ahead at the program's end
        are weights).
        """
        found = {}
        for part, name in enumerate(BUSY):
            count = self._library.harness_interval_count(self._handle, part)
            rows = np.empty((count, 2), np.uint64)
            if count:
                source = self._library.harness_intervals(self._handle, part)
                ctypes.memmove(rows.ctypes.data, source, rows.nbytes)
            found[name] = rows - np.uint64(self._started)
        return found

    def _finish(self, result: int) -> None:
        if result in (_PROTOCOL, _HANG):
            layer = self.layer
            text = self._library.harness_message(self._handle).decode()
            kind = "protocol" if result == _PROTOCOL else "hang"
            raise SimulationError(kind, layer, f"{text} (layer {layer})")
