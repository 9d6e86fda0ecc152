"""Reading an ONNX model and checking what must hold before any node is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto, OperatorSetIdProto, ValueInfoProto

from quant.refusal import ModelError, printable

__all__ = ["OnnxModel", "read_model", "shape_is_open", "take_model"]

_OLDEST_OPSET = 7


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A model with one input and one output.

    ``name`` stands for it in messages; ``dimensions`` is the input's shape with None for each
    dimension that the model leaves open.
    """

    name: str
    proto: ModelProto
    input: str
    output: str
    dimensions: tuple[int | None, ...]
    opsets: tuple[OperatorSetIdProto, ...]


def read_model(path: str | Path) -> OnnxModel:
    """The model in an ONNX file.

    Raises
    ------
    ModelError
        If the file is missing, is not a whole ONNX model, or has not one input and one output.
    """
    import onnx
    path = Path(path)
    try:
        proto = onnx.load(path)
    except FileNotFoundError as error:
        missing = error.filename or path
        raise ModelError(f"{missing}: no such file") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: a folder, not an ONNX file") from None
    except Exception as error:  # protobuf's decoder and the reader of external data raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: not a whole ONNX file ({reason}); export or copy it again") from None
    return take_model(proto, path.stem, str(path))


def shape_is_open(path: str | Path) -> bool:
    """Whether a model leaves its input's channels, rows or columns open; the errors of `read_model`."""
    return None in read_model(path).dimensions[1:]


def _dimensions(value: ValueInfoProto, where: str) -> tuple[int | None, ...]:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        raise ModelError(f"{where}: its input {printable(value.name)} has no shape; "
                         "export it with an input shape")
    dimensions = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                 for dim in dimensions)


def take_model(proto: ModelProto, name: str, where: str) -> OnnxModel:
    """A model in memory; ``where`` stands for it in messages.

    Raises
    ------
    ModelError
        As `read_model`.
    """
    import onnx.inliner
    if not proto.graph.node:
        raise ModelError(f"{where}: not a whole ONNX file (it has no nodes); export or copy it again")
    for node in proto.graph.node:
        # protobuf gives bytes instead of text where a file does not hold UTF-8
        if not all(isinstance(text, str) for text in (node.name, node.op_type, node.domain, *node.input,
                                                       *node.output)):
            raise ModelError(f"{where}: not a whole ONNX file (a name is no text); export or copy it again")
    if proto.functions:
        try:
            proto = onnx.inliner.inline_local_functions(proto)
        except Exception as error:
            raise ModelError(f"{where}: its functions cannot be inlined ({error}); "
                             "export it without them") from None
    opset: Any = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")),
                      None)
    if opset is None:
        raise ModelError(f"{where}: not a whole ONNX file (it names no opset); export or copy it again")
    if opset < _OLDEST_OPSET:
        raise ModelError(f"{where}: its opset is {opset}; export it with opset 11 or later")
    stored = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise ModelError(f"{where}: it has {len(inputs)} inputs "
                         f"({printable(', '.join(value.name for value in inputs)) or 'none'}); "
                         "networks with one image as input are supported")
    outputs = [value.name for value in proto.graph.output]
    if len(outputs) != 1:
        names = printable(", ".join(outputs)) or "none"
        raise ModelError(f"{where}: it has {len(outputs)} outputs ({names}); export it with one")
    return OnnxModel(name, proto, inputs[0].name, outputs[0], _dimensions(inputs[0], where),
                     tuple(proto.opset_import))
