"""Fixed-point model → program for one machine."""

from compiler.compile import compile_model
from compiler.error import CompileError

__all__ = ["CompileError", "compile_model"]
