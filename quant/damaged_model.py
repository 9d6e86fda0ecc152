"""A model that breaks ONNX's own rules is reported as such, whatever it makes fail on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quant.refusal import ModelError, printable

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["blame_damage"]

#: What code that relies on ONNX's rules raises where a file breaks them: an attribute without a value, say.
_CONSEQUENCES = (ArithmeticError, AttributeError, LookupError, TypeError, UnicodeDecodeError)


@contextmanager
def blame_damage(proto: ModelProto, where: str) -> Iterator[None]:
    """Replace an unexpected exception by a `ModelError` if ONNX's checker refuses the model, too.

    The checker is asked only then: it would refuse some models that can be used, and it is slow.  If it
    finds nothing wrong, the fault is not the file's, and the exception goes on.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, _CONSEQUENCES) and type(error) is not ValueError:
            raise
        import onnx

        try:
            onnx.checker.check_model(proto, full_check=True)
        except Exception as found:  # the checker and shape inference raise their own kinds
            reason = printable((str(found).strip() or type(found).__name__).splitlines()[0])
            raise ModelError(f"{where}: not a whole ONNX file ({reason}); export or copy it again") from None
        raise
