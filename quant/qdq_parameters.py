"""What one QuantizeLinear or DequantizeLinear says: a power-of-two scale and an integer type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from quant.number_format import FL_LIMIT, Format

__all__ = ["QdqError", "QdqParameters", "read_parameters", "refuse"]

#: bits and signedness of the integer types that a quantized tensor may have
_TYPES = {
    TensorProto.INT4: (4, True),
    TensorProto.UINT4: (4, False),
    TensorProto.INT8: (8, True),
    TensorProto.UINT8: (8, False),
    TensorProto.INT16: (16, True),
    TensorProto.UINT16: (16, False),
    TensorProto.INT32: (32, True),
}
_ADVICE = (
    "calibrate the float model with `python -m quant calibrate`, or restrict the other tool to such scales"
)


class QdqError(ValueError):
    """A QDQ file cannot be read as a fixed-point model; the message names the tensor and what to do."""


def refuse(tensor: str, why: str, advice: str = _ADVICE) -> NoReturn:
    """Raise the `QdqError` of a tensor."""
    raise QdqError(f"tensor {tensor}: {why}; {advice}")


@dataclass(frozen=True)
class QdqParameters:
    """Scale and type of a quantized tensor.

    Attributes
    ----------
    fl : int array () or (channels,)
        The scales are 2^-fl.
    bits, signed
        Of the integer type.
    axis : int
        Along which the channels lie.
    """

    fl: NDArray[np.int64]
    bits: int
    signed: bool
    axis: int

    @property
    def integers(self) -> Format:
        """The type's range, as a format without fractional bits."""
        return Format(self.bits, self.signed, 0)

    def narrowest_bits(self, low: int, high: int) -> int:
        """Bits of the narrowest format of this signedness that holds low … high (integers)."""
        for bits in range(2, self.bits):
            form = Format(bits, self.signed, 0)
            if form.low <= low and high <= form.high:
                return bits
        return self.bits

    def declared_bits(self, tensor: str, width: str) -> int:
        """The width that metadata gives.

        Raises
        ------
        QdqError
            If the type has not so many bits.
        """
        if not width.isdecimal() or not 2 <= int(width) <= self.bits:
            refuse(tensor, f"its metadata says {width} bits in a type of {self.bits}", "write the file again")
        return int(width)


def read_parameters(node: NodeProto, tensor: str, constants: Mapping[str, TensorProto]) -> QdqParameters:
    """The parameters of a QuantizeLinear or DequantizeLinear node; messages speak of ``tensor``.

    Raises
    ------
    QdqError
        If the scale is not a constant power of two or the zero point not a constant 0, or the type is
        none of this project.
    """
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if "block_size" in attributes and attributes["block_size"].i:
        refuse(tensor, "blocked quantization", "use one scale for a tensor or for each output channel")
    if node.input[1] not in constants:
        refuse(tensor, "its scale is not a constant")
    scale = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
    if scale.size == 1:
        scale = scale.reshape(())
    mantissa, exponent = np.frexp(scale)
    exact = np.isfinite(scale) & (mantissa == 0.5)
    if not np.all(exact):
        refuse(tensor, f"its scale {scale[~exact].flat[0]:.9g} is not a power of two")
    kind = _integer_type(node, tensor, constants)
    if kind not in _TYPES:
        refuse(tensor, f"quantized to {TensorProto.DataType.Name(kind)}", "use 4-, 8- or 16-bit integers")
    bits, signed = _TYPES[kind]
    # the unit of a bias is the product of two others
    limit = 2 * FL_LIMIT if bits == 32 else FL_LIMIT
    if np.any(np.abs(1 - exponent) > limit):
        refuse(tensor, f"its scale is outside 2^-{limit} to 2^{limit}")
    axis = attributes["axis"].i if "axis" in attributes else 1
    return QdqParameters((1 - exponent).astype(np.int64), bits, signed, axis)


def _integer_type(node: NodeProto, tensor: str, constants: Mapping[str, TensorProto]) -> int:
    if len(node.input) > 2 and node.input[2]:
        if node.input[2] not in constants:
            refuse(tensor, "its zero point is not a constant")
        zero = constants[node.input[2]]
        if np.any(numpy_helper.to_array(zero).astype(np.int64)):
            refuse(tensor, "its zero point is not 0", "quantize symmetrically")
        return zero.data_type
    if node.op_type == "DequantizeLinear" and node.input[0] in constants:
        return constants[node.input[0]].data_type
    wanted = [attribute.i for attribute in node.attribute if attribute.name == "output_dtype" and attribute.i]
    return wanted[0] if wanted and node.op_type == "QuantizeLinear" else TensorProto.UINT8
