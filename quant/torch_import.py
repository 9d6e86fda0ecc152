"""From a torch module to a `quant.graph.Graph`, through torch's own ONNX exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quant.graph import Graph
from quant.refusal import ModelError

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

__all__ = ["export_module", "import_module"]


def export_module(module: torch.nn.Module, example: Sequence[int] | torch.Tensor) -> ModelProto:
    """The ONNX model of a module in evaluation mode.

    Parameters
    ----------
    example : shape or tensor
        (C, H, W), (N, C, H, W) or (N, K), or an input of such a shape.

    Raises
    ------
    ModelError
        If the module cannot be executed on such an input, or torch cannot export it.
    """
    import torch
    name = type(module).__name__
    if isinstance(example, torch.Tensor):
        image = example.detach()
    else:
        shape = tuple(int(size) for size in example)
        image = torch.zeros((1, *shape) if len(shape) == 3 else shape)
    training = [part for part in module.modules() if part.training]
    module.eval()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                module(image)
            except Exception as error:
                raise ModelError(f"{name}: it does not accept an input of shape {list(image.shape)} "
                                 f"({_first_line(error)}); give the shape it was trained with") from None
            with contextlib.redirect_stdout(io.StringIO()):
                proto = _exported(module, image)
    finally:
        logger.setLevel(level)
        for part in training:
            part.training = True
    proto.graph.name = name
    return proto


def import_module(module: torch.nn.Module, example: Sequence[int] | torch.Tensor) -> Graph:
    """The graph of a module, as it computes in evaluation mode.

    Parameters
    ----------
    example : shape or tensor
        (C, H, W), (N, C, H, W) or (N, K), or an input of such a shape.

    Raises
    ------
    ModelError
        If the module cannot be executed on such an input or exported, or an operator is refused.
    """
    from quant.onnx_import import import_with_aliases
    return import_with_aliases(export_module(module, example))[0]


def _exported(module: torch.nn.Module, image: torch.Tensor) -> ModelProto:
    """The model that torch's exporter makes, or its older one for modules that the newer one refuses."""
    import onnx
    import torch
    try:
        program = torch.onnx.export(module, (image,), dynamo=True, verbose=False)
        assert program is not None
        return program.model_proto
    except Exception as error:  # the exporter raises many kinds of its own
        stream = io.BytesIO()
        try:
            torch.onnx.export(module, (image,), stream, dynamo=False)
        except Exception:
            raise ModelError(f"{type(module).__name__}: torch cannot export it ({_first_line(error)}); "
                             "export it to ONNX by other means") from None
        return onnx.load_from_string(stream.getvalue())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
