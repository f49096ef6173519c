"""An adapter's numbers, laid out as the kernels read them: see native/packing.c."""

import numpy as np

from loradock.engine.kernels.border import Array, pointer
from loradock.engine.kernels.library import kernels
from loradock.engine.kernels.structures import MOVE

KINDS = ("F16", "BF16", "F32")
"""A tensor's type in a move is its place in here."""
_SIZES = np.array([2, 2, 4])


def pack(content: Array, moves: Array, scales: Array, packed: Array) -> int:
    """Copy every pair of A `[rank, into]` and B `[width, rank]` from a file to rows `[rank, into + width]`: one row of
    A and the same of B^T times its scale.

    `content`: uint8, the file. `moves` int64 `[pairs, MOVE]`: where A lies (its first byte), its kind, where B lies,
    its kind, rank, into, width, where the rows begin in `packed`. `scales`: float32 `[pairs]`. `packed`: bfloat16 as
    uint16, or float32. Returns the first tensor that holds a number that is not finite, 2 * pair for an A and one more
    for a B; -1 when there is none. Raises ValueError for a move that leads out of an array.
    """
    floats = packed.dtype == np.float32
    _check(moves, content.size, packed.size)
    return int(
        kernels().pack_adapter(
            pointer(moves, np.int64, (len(moves), MOVE)),
            pointer(scales, np.float32, (len(moves),)),
            len(moves),
            pointer(content, np.uint8, (content.size,)),
            floats,
            pointer(packed, np.float32 if floats else np.uint16, (packed.size,), written=True),
        )
    )


def finite(numbers: Array) -> bool:
    """Whether none of these bfloat16, uint16 `[n]`, is infinite or no number."""
    return bool(kernels().finite(pointer(numbers, np.uint16, (numbers.size,)), numbers.size))


def _check(moves: Array, content: int, packed: int) -> None:
    a, a_kind, b, b_kind, rank, into, width, start = moves.T
    kinds = np.concatenate((a_kind, b_kind))
    known = ((kinds >= 0) & (kinds < len(KINDS))).all() and (moves >= 0).all()
    inside = known and (
        (a + rank * into * _SIZES[a_kind] <= content).all()
        and (b + rank * width * _SIZES[b_kind] <= content).all()
        and (start + rank * (into + width) <= packed).all()
    )
    if not inside:
        raise ValueError(f"a move leads out of a file of {content} bytes, or of {packed} numbers")
