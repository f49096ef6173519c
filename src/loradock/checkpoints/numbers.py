"""A checkpoint's numbers as NumPy arrays. NumPy knows no bfloat16: it is the upper half of a float32."""

from typing import Any

import numpy as np

DTYPES: dict[str, np.dtype[np.generic]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""The types that weights are kept as; bfloat16 by its bits."""
Array = np.ndarray[Any, Any]


def as_float32(data: Array, dtype: str) -> Array:
    """Bytes of one of DTYPES as float32, in one dimension."""
    values = data.view(DTYPES[dtype])
    if dtype == "BF16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32)
