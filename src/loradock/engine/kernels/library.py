"""The compiled kernels (native/), those of the best instruction set that this processor has."""

import ctypes
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from loradock.engine.errors import NoKernels
from loradock.engine.kernels.structures import SIZES, Kernels

CHOICE = "LORADOCK_KERNELS"
"""The environment variable that names an instruction set, such as avx2: for tests and comparisons."""
_FILE = Path(__file__).parent / "native.so"


@cache
def kernels() -> Kernels:
    """Raises NoKernels where there are none for this machine, or not those that the environment names."""
    wanted = os.environ.get(CHOICE)
    found = {table.name.decode(): table for table in every_set()}
    if not found:
        raise NoKernels(reason=f"{_FILE.name} was built without one for this processor")
    if wanted is None:
        return next(iter(found.values()))
    if wanted not in found:
        raise NoKernels(reason=f"{CHOICE}={wanted} is none of {', '.join(found)}, which this processor has")
    return found[wanted]


def every_set() -> Iterator[Kernels]:
    """Yield the functions of each instruction set that this processor has, the best first."""
    library = _library()
    number = 0
    while table := library.loradock_kernels(number):
        yield table.contents
        number += 1


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(_FILE))
    except OSError as error:
        raise NoKernels(reason=f"{_FILE.name} cannot be loaded: {error}") from error
    try:
        sizes = tuple((ctypes.c_int64 * len(SIZES)).in_dll(library, "loradock_sizes"))
    except ValueError:
        sizes = ()
    if sizes != SIZES:
        raise NoKernels(reason=f"{_FILE.name} belongs to another version of Loradock")
    library.loradock_kernels.restype = ctypes.POINTER(Kernels)
    library.loradock_kernels.argtypes = [ctypes.c_int64]
    return library
