"""The kinds of numbers and blocks in GGUF files: https://github.com/ggml-org/ggml/blob/master/include/ggml.h.

The `gguf` package has the same table, but to import it takes longer than all that an engine does with its weights.
"""

from enum import Enum
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class TensorType(Enum):
    """A kind: its number in files, how many numbers a block holds, and how many bytes."""

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q8_1 = 9, 32, 40
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    Q8_K = 15, 256, 292
    IQ2_XXS = 16, 256, 66
    IQ2_XS = 17, 256, 74
    IQ3_XXS = 18, 256, 98
    IQ1_S = 19, 256, 50
    IQ4_NL = 20, 32, 18
    IQ3_S = 21, 256, 110
    IQ2_S = 22, 256, 82
    IQ4_XS = 23, 256, 136
    I8 = 24, 1, 1
    I16 = 25, 1, 2
    I32 = 26, 1, 4
    I64 = 27, 1, 8
    F64 = 28, 1, 8
    IQ1_M = 29, 256, 56
    BF16 = 30, 1, 2
    TQ1_0 = 34, 256, 54
    TQ2_0 = 35, 256, 66
    MXFP4 = 39, 32, 17
    NVFP4 = 40, 64, 36
    Q1_0 = 41, 128, 18

    def __init__(self, number: int, per_block: int, block_bytes: int) -> None:
        self.number = number
        self.per_block = per_block
        self.block_bytes = block_bytes

    @classmethod
    def numbered(cls, number: int) -> "TensorType":
        """Raises ValueError for a number that no kind has."""
        found = next((kind for kind in cls if kind.number == number), None)
        if found is None:
            raise ValueError(f"tensors of kind {number} are not known")
        return found

    def floats(self, blocks: Array) -> Array:
        """Blocks of this kind as the `gguf` package reads them, float32."""
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        return dequantize(blocks, GGMLQuantizationType(self.number))
