"""The `.prog` file: everything a machine and its driver need to run one network.

A zip archive (whose checksums find corruption) of

* ``program.json``: a `ProgramFile` without its arrays,
* ``segments/N``: the bytes of memory segment N,
* ``known_input.npy``, ``known_output.npy``: the known answer.

Needs numpy only, so that a computer that only drives a board can read it.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw.machine import Machine, MachineError
from hw.whole_file import write_whole

__all__ = ["Layer", "ProgramFile", "ProgramFileError", "Segment", "TensorPlace"]

FORMAT_VERSION = 1


class ProgramFileError(ValueError):
    """A `.prog` file cannot be read; the message says which file, why, and what to do."""


@dataclass(frozen=True)
class TensorPlace:
    """A feature map in external memory, laid out as in `docs/machine.md`.

    ``shape`` is (C, H, W), ``bits``, ``signed`` and ``fl`` its format, ``address`` its first byte.
    ``pixel_bytes``: those of a pixel and plane where they are not ``word_bytes``, as in a narrow map.
    """

    name: str
    shape: tuple[int, int, int]
    bits: int
    signed: bool
    fl: int
    address: int
    pixel_bytes: int | None = None

    def byte_count(self, word_bytes: int) -> int:
        """Bytes that it takes in external memory."""
        channels, rows, columns = self.shape
        word_bytes = self.pixel_bytes or word_bytes
        return -(-channels // word_bytes) * rows * columns * word_bytes

    def pack(self, integers: NDArray[np.integer], word_bytes: int) -> bytes:
        """The bytes in memory of a (C, H, W) tensor; missing channels are zero.

        Raises
        ------
        ValueError
            If the shape is another or a value does not fit the format.
        """
        if integers.shape != tuple(self.shape):
            raise ValueError(f"{self.name} has the shape {self.shape}, not {integers.shape}")
        low = -(1 << (self.bits - 1)) if self.signed else 0
        high = low + (1 << self.bits) - 1
        if integers.size and (integers.min() < low or integers.max() > high):
            raise ValueError(f"{self.name} must be {low} to {high}")
        channels, rows, columns = self.shape
        word_bytes = self.pixel_bytes or word_bytes
        planes = -(-channels // word_bytes)
        padded = np.zeros((planes * word_bytes, rows, columns), np.uint8)
        padded[:channels] = integers.astype(np.int64) & 255
        return padded.reshape(planes, word_bytes, rows, columns).transpose(0, 2, 3, 1).tobytes()

    def unpack(self, memory: bytes, word_bytes: int) -> NDArray[np.int64]:
        """The (C, H, W) integers whose bytes these are."""
        channels, rows, columns = self.shape
        word_bytes = self.pixel_bytes or word_bytes
        planes = -(-channels // word_bytes)
        raw = np.frombuffer(memory, np.uint8).reshape(planes, rows, columns, word_bytes)
        full = raw.transpose(0, 3, 1, 2).reshape(planes * word_bytes, rows, columns)[:channels]
        return (full.view(np.int8) if self.signed else full).astype(np.int64)


@dataclass(frozen=True)
class Layer:
    """One numbered layer of the program: what it computes and how to check it.

    ``tensor`` is its result in memory, if it is ``stored`` there; ``checksum`` is `checksum_of` that tensor
    for the known input.
    """

    number: int
    name: str
    kind: str
    macs: int
    tensor: TensorPlace
    checksum: int
    stored: bool = True

    @staticmethod
    def checksum_of(integers: NDArray[np.integer]) -> int:
        """CRC-32 of a tensor's values, one byte each, in (C, H, W) order."""
        return zlib.crc32((integers.astype(np.int64) & 255).astype(np.uint8).tobytes())


@dataclass(frozen=True)
class Segment:
    """Bytes that must be in external memory before the program starts."""

    name: str
    address: int
    content: bytes


@dataclass
class ProgramFile:
    """A compiled network.

    Attributes
    ----------
    machine : Machine
        The machine it was compiled for; its digest must equal the one in the ID register.
    memory_bytes : int
        External memory that is used, from address 0.
    program_address : int
        Byte address of the first instruction.
    kept_address : int
        Byte address of the weights that stay on the chip, on a machine with ``kept_weight_words``.
    input, output : TensorPlace
    output_shape : tuple
        The output's shape in the original model.
    preparation, host_operations, input_layout
        As in the fixed-point model, for the host.
    """

    name: str
    machine: Machine
    memory_bytes: int
    program_address: int
    segments: list[Segment]
    input: TensorPlace
    output: TensorPlace
    output_shape: tuple[int, ...]
    layers: list[Layer]
    known_input: NDArray[np.int64]
    known_output: NDArray[np.int64]
    preparation: dict[str, Any] = field(default_factory=dict)
    host_operations: tuple[str, ...] = ()
    input_layout: str = "NCHW"
    kept_address: int = 0

    @property
    def stored_layers(self) -> list[Layer]:
        """Layers whose results are in memory after a run, to be compared."""
        return [layer for layer in self.layers if layer.stored]

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises
        ------
        hw.whole_file.WholeFileError
        """
        header = {
            "format": FORMAT_VERSION, "name": self.name, "machine": self.machine.to_json(),
            "digest": f"{self.machine.digest():016x}", "memory_bytes": self.memory_bytes,
            "program_address": self.program_address, "kept_address": self.kept_address,
            "segments": [{"name": s.name, "address": s.address} for s in self.segments],
            "input": asdict(self.input), "output": asdict(self.output),
            "output_shape": self.output_shape, "layers": [asdict(layer) for layer in self.layers],
            "preparation": self.preparation, "host_operations": self.host_operations,
            "input_layout": self.input_layout,
        }
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            def write(name: str, content: bytes) -> None:
                # a fixed date, so that the same program is the same file
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 1)
            write("program.json", json.dumps(header, indent=1).encode())
            for number, segment in enumerate(self.segments):
                write(f"segments/{number}", segment.content)
            for name, array in (("known_input", self.known_input), ("known_output", self.known_output)):
                stream = io.BytesIO()
                np.save(stream, array.astype(np.int16))
                write(f"{name}.npy", stream.getvalue())
        write_whole(path, file.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> ProgramFile:
        """Read a file that `save` wrote.

        Raises
        ------
        ProgramFileError
            If the file is missing, truncated, corrupt or of another version, or was compiled for
            an instruction set other than this one.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                header = json.loads(archive.read("program.json"))
                if header["format"] != FORMAT_VERSION:
                    raise ProgramFileError(f"{path}: format {header['format']} is not {FORMAT_VERSION}; "
                                           "compile the model again with this version")
                machine = Machine.from_json(header["machine"])
                if header["digest"] != f"{machine.digest():016x}":
                    raise ProgramFileError(f"{path}: made for another version of the instruction set; "
                                           "compile the model again with this version")
                segments = [Segment(entry["name"], entry["address"], archive.read(f"segments/{number}"))
                            for number, entry in enumerate(header["segments"])]
                known = [np.load(io.BytesIO(archive.read(f"known_{end}.npy")), allow_pickle=False)
                         for end in ("input", "output")]
        except ProgramFileError:
            raise
        except FileNotFoundError:
            raise ProgramFileError(f"{path}: no such file") from None
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError,
                RuntimeError, MachineError) as error:
            raise ProgramFileError(f"{path}: not a whole program file ({error}); "
                                   "compile the model again") from None

        def place(entry: dict[str, Any]) -> TensorPlace:
            channels, rows, columns = entry["shape"]
            return TensorPlace(**{**entry, "shape": (channels, rows, columns)})

        try:
            return cls(
                name=header["name"], machine=machine, memory_bytes=header["memory_bytes"],
                program_address=header["program_address"],
                kept_address=header["kept_address"], segments=segments,
                input=place(header["input"]), output=place(header["output"]),
                output_shape=tuple(header["output_shape"]),
                layers=[Layer(**{**layer, "tensor": place(layer["tensor"])}) for layer in header["layers"]],
                known_input=known[0].astype(np.int64), known_output=known[1].astype(np.int64),
                preparation=header["preparation"],
                host_operations=tuple(header["host_operations"]), input_layout=header["input_layout"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProgramFileError(f"{path}: incomplete header ({error}); compile the model again") from None
