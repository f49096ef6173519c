"""Functions that are made several times over, each with a name of its own."""

from collections.abc import Callable
from typing import Any

from numba import njit

from loradock.engine.kernels.kernels import FAST


def part_named(name: str, function: Callable[..., Any]) -> Any:
    """Numba knows machine code by a function's name and its arguments' types. Where code that several processes have
    kept meets in one, two functions of one name are taken for the same.
    """
    function.__qualname__ = name
    return njit(fastmath=FAST, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
