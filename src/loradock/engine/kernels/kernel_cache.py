"""The disk cache of compiled kernels, and LLVM's options for compiling them.

Numba itself looks only at the file of the function it is asked for, and not at what that is made of: here machine code
is kept apart for every state of the kernels' sources and for every version of the compiler.
"""

import os
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding as llvm
import numba

_HERE = Path(__file__).parent


def use() -> None:
    """Set both up for all kernels that are defined afterwards.

    A folder that was chosen by NUMBA_CACHE_DIR stays the parent.
    """
    _keep_sums_of_addresses()
    chosen = numba.config.CACHE_DIR
    if chosen:
        home = Path(chosen)
    elif os.access(_HERE, os.W_OK):
        home = _HERE / "__pycache__"
    else:
        home = Path("~/.cache/loradock").expanduser()
    numba.config.CACHE_DIR = str(home / f"kernels-{_digest()}")


def _keep_sums_of_addresses() -> None:
    """Have LLVM leave the sum of two integers that is used as an address a sum of integers.

    While making machine code it may rewrite such a sum as an offset to one of the two numbers, taken for a pointer.
    Numba then compiles the rewritten form once more for each caller, and where that number is 0, as an offset is in a
    loop's first turn, LLVM takes the access for one through a null pointer and drops it (docs/lab/kernel_cache.md).
    """
    llvm.set_option("loradock", "-addr-sink-using-gep=false")


def _digest() -> str:
    sources = sorted([*_HERE.glob("*kernels.py"), *_HERE.glob("compiled/*.py"), _HERE / "constants.py", Path(__file__)])
    content = b"".join(source.read_bytes() for source in sources)
    compiler = f"{version('numba')} {version('llvmlite')}".encode()
    return blake2b(content + compiler, digest_size=8).hexdigest()
