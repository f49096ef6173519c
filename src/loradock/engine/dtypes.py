"""The types of numbers that a model computes with."""

from enum import StrEnum
from typing import Any

import numpy as np


class Dtype(StrEnum):
    """Activations, adapters and the KV cache have it; weights may have fewer bits."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"

    @property
    def itemsize(self) -> int:
        """The size in bytes."""
        return 2 if self is Dtype.BFLOAT16 else 4

    @property
    def numpy(self) -> Any:
        """NumPy's type of such numbers; of bfloat16, which NumPy has not, that of its bits."""
        return np.uint16 if self is Dtype.BFLOAT16 else np.float32
