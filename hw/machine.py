"""The description of one accelerator: the only place where its sizes are chosen.

RTL, compiler limits, simulators and the driver's register map all come from one `Machine`.  This
module needs nothing but the standard library, so that a computer that only drives a board can
import it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

__all__ = ["IN_ORDER", "ISA_VERSION", "KEPT_STEP", "MOST_KEPT_WORDS", "OPTIONS", "Machine", "MachineError"]

#: Raised whenever the meaning or the encoding of an instruction changes; part of every digest.
ISA_VERSION = 6

#: Fields that say whether something is built that a machine does without by default.
OPTIONS = ("weight_decoder", "huffman_decoder", "weight_pairs", "kept_weight_words", "in_order")

#: `Machine.kept_weight_words` is a multiple of this, and at most that.
KEPT_STEP, MOST_KEPT_WORDS = 1024, 65536


class MachineError(ValueError):
    """A `Machine` was asked for that cannot be built; the message names the field and its limit."""


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Sizes of one accelerator (see `docs/machine.md` for what each part does).

    Parameters
    ----------
    input_lanes : int
        Input channels multiplied in one cycle: 4, 8 or 16.
    output_lanes : int
        Output channels accumulated in one cycle; also the number of bytes in one scratchpad word.
        A power of two from ``input_lanes`` to 64.
    bus_width : int
        Bits of the AXI4 data bus: 32, 64 or 128.  A bus word may not be wider than a scratchpad
        word (``bus_width // 8 <= output_lanes``).
    scratchpad_words : int
        Words of ``output_lanes`` bytes in the feature-map scratchpad: a power of two, 256 to 65,536.
    accumulator_depth : int
        Output pixels that are accumulated together: a power of two, 16 to 4,096.
    weight_fifo_words : int
        Bus words in the weight FIFO: a power of two, 32 to 8,192; room for at least two tiles.
    average_pooling : bool
        Whether the exact divider for average pooling is built.
    weight_decoder : bool
        Whether weights may come as indices into a codebook, dense or sparse (`hw.weight_stream`); a tile must
        then have at least eight bus words.
    huffman_decoder : bool
        Whether what comes to the weight decoder may be Huffman codes (`hw.huffman_stream`).
    weight_pairs : bool
        Whether a multiplier may take two weights of 4 bits (`hw.weight_pairs`), so that twice as many input
        channels are multiplied in one cycle; needs twice as many output lanes as input lanes.
    kept_weight_words : int
        Bus words of weights that stay on the chip from one inference to the next (`hw.kept_weights`): a
        multiple of 1,024 up to 65,536, or 0.
    in_order : bool
        Whether instructions are executed one after another by the small core (`docs/small-core.md`): 4x4
        lanes, a bus of 32 bits, no divider, no decoder, and at most 2,048 words in the scratchpad and 256
        pixels in the accumulators.  Its programs use the modes DENSE and MAXIMUM only.

    Raises
    ------
    MachineError
        If a field is outside its limits.
    """

    input_lanes: int = 8
    output_lanes: int = 16
    bus_width: int = 64
    scratchpad_words: int = 8192
    accumulator_depth: int = 512
    weight_fifo_words: int = 8192
    average_pooling: bool = True
    weight_decoder: bool = False
    huffman_decoder: bool = False
    weight_pairs: bool = False
    kept_weight_words: int = 0
    in_order: bool = False

    def __post_init__(self) -> None:
        def require(condition: bool, field: str, limit: str) -> None:
            if not condition:
                raise MachineError(f"{field} must be {limit}, not {getattr(self, field)!r}")

        for field in ("input_lanes", "output_lanes", "bus_width", "scratchpad_words",
                      "accumulator_depth", "weight_fifo_words", "kept_weight_words"):
            require(type(getattr(self, field)) is int, field, "an integer")
        require(type(self.average_pooling) is bool, "average_pooling", "True or False")
        require(type(self.weight_decoder) is bool, "weight_decoder", "True or False")
        require(type(self.huffman_decoder) is bool, "huffman_decoder", "True or False")
        require(type(self.weight_pairs) is bool, "weight_pairs", "True or False")
        require(type(self.in_order) is bool, "in_order", "True or False")
        require(self.input_lanes in (4, 8, 16), "input_lanes", "4, 8 or 16")
        require(_is_power_of_two(self.output_lanes) and self.input_lanes <= self.output_lanes <= 64,
                "output_lanes", f"a power of two from {self.input_lanes} (input_lanes) to 64")
        require(self.bus_width in (32, 64, 128), "bus_width", "32, 64 or 128")
        require(self.bus_bytes <= self.output_lanes, "bus_width",
                f"at most {8 * self.output_lanes} bits with {self.output_lanes} output lanes")
        require(_is_power_of_two(self.scratchpad_words) and 256 <= self.scratchpad_words <= 65536,
                "scratchpad_words", "a power of two from 256 to 65536")
        require(_is_power_of_two(self.accumulator_depth) and 16 <= self.accumulator_depth <= 4096,
                "accumulator_depth", "a power of two from 16 to 4096")
        least = max(32, 2 * max(self.tile_bytes, self.parameter_bytes) // self.bus_bytes)
        require(_is_power_of_two(self.weight_fifo_words) and least <= self.weight_fifo_words <= 8192,
                "weight_fifo_words", f"a power of two from {least} to 8192")
        require(not self.weight_decoder or self.tile_bytes >= 8 * self.bus_bytes, "weight_decoder",
                f"False where input_lanes * output_lanes is below {8 * self.bus_bytes} (eight bus words)")
        require(not self.huffman_decoder or self.weight_decoder, "huffman_decoder",
                "False without weight_decoder")
        require(not self.weight_pairs or self.blocks_per_word >= 2, "weight_pairs",
                f"False with {self.output_lanes} output lanes and {self.input_lanes} input lanes (a word "
                "must have twice as many channels as there are input lanes)")
        require(self.kept_weight_words % KEPT_STEP == 0 and 0 <= self.kept_weight_words <= MOST_KEPT_WORDS,
                "kept_weight_words", f"a multiple of {KEPT_STEP} from 0 to {MOST_KEPT_WORDS}")
        if self.in_order:
            for field, limit in (("input_lanes", 4), ("output_lanes", 4), ("bus_width", 32),
                                 ("average_pooling", False), ("weight_decoder", False),
                                 ("kept_weight_words", 0)):
                require(getattr(self, field) == limit, field, f"{limit} where in_order is True")
            for field, most in (("scratchpad_words", 2048), ("accumulator_depth", 256)):
                require(getattr(self, field) <= most, field, f"at most {most} where in_order is True")

    @property
    def multipliers(self) -> int:
        """9x8-bit multipliers in the array."""
        return self.input_lanes * self.output_lanes

    @property
    def products(self) -> int:
        """Most products of a cycle: two a multiplier where weights may come in pairs."""
        return self.multipliers * (2 if self.weight_pairs else 1)

    @property
    def bus_bytes(self) -> int:
        """Bytes carried by one beat of the AXI4 data bus."""
        return self.bus_width // 8

    @property
    def word_bytes(self) -> int:
        """Bytes of one scratchpad word: one pixel of ``output_lanes`` channels."""
        return self.output_lanes

    @property
    def beats_per_word(self) -> int:
        """Bus beats that carry one scratchpad word."""
        return self.word_bytes // self.bus_bytes

    @property
    def blocks_per_word(self) -> int:
        """Groups of ``input_lanes`` channels in one scratchpad word."""
        return self.output_lanes // self.input_lanes

    @property
    def tile_bytes(self) -> int:
        """Bytes of one weight tile: one 8-bit weight for each multiplier."""
        return self.multipliers

    @property
    def weight_word_bytes(self) -> int:
        """Bytes that leave the weight FIFO in a cycle: two beats, so that what it holds already is used
        faster than more arrives."""
        return 2 * self.bus_bytes

    @property
    def tile_piece_bytes(self) -> int:
        """Bytes of a tile that reach the multipliers' registers in a cycle: more than leave the weight FIFO,
        where a decoder is between."""
        if self.weight_decoder:
            return min(8 * self.weight_word_bytes, self.tile_bytes)
        return self.weight_word_bytes

    @property
    def parameter_bytes(self) -> int:
        """Bytes of one parameter block: eight for each output lane (`docs/machine.md`)."""
        return 8 * self.output_lanes

    @property
    def kept_weight_bytes(self) -> int:
        """Bytes of weights that stay on the chip from one inference to the next."""
        return self.kept_weight_words * self.bus_bytes

    @property
    def kept_alignment(self) -> int:
        """Of the address of the weights that stay on the chip, in bytes: that of the longest burst."""
        return 64 * self.bus_bytes

    def digest(self) -> int:
        """64-bit number that names this machine and its instruction set; held in the ID register."""
        text = json.dumps([ISA_VERSION, asdict(self)], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def to_json(self) -> dict[str, int | bool]:
        """The fields as a JSON object; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: object) -> Machine:
        """The machine that `to_json` described; what it may have besides (`OPTIONS`) may be missing, in
        descriptions older than it.

        Raises
        ------
        MachineError
            If a field is unknown, missing or outside its limits.
        """
        if not isinstance(fields, dict) or {*fields, *OPTIONS} != set(cls.__dataclass_fields__):
            raise MachineError("a machine description must have exactly the fields "
                               + ", ".join(cls.__dataclass_fields__))
        return cls(**fields)


#: The small core in the sizes that fit an iCE40UP5K: the iCEBreaker's machine, and what ``--in-order`` means.
IN_ORDER = Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=2048, accumulator_depth=128,
                   weight_fifo_words=32, average_pooling=False, in_order=True)
