"""How keys and values lie in a block of the KV cache (native/kernels.h)."""

from dataclasses import dataclass

import numpy as np

from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.memory_plan import block_bytes
from loradock.engine.dtypes import Dtype
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.kernels.memory import Array


@dataclass(frozen=True)
class KVLayout:
    """The keys of a head `[head_dim, BLOCK_SIZE]`, its values `[BLOCK_SIZE, head_dim]`, and with int8 the scales of
    each token's key, then of its value, bfloat16 `[2, BLOCK_SIZE]`.
    """

    architecture: Architecture
    dtype: Dtype
    """The model's."""
    int8: bool = False
    """Whether keys and values are kept in 8 bits."""

    @property
    def itemsize(self) -> int:
        """The bytes of a number."""
        return 1 if self.int8 else self.dtype.itemsize

    @property
    def block_bytes(self) -> int:
        """The bytes of a block, in all layers."""
        return block_bytes(self.architecture, self.itemsize)

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(layers, kv_heads, bytes)` of a block."""
        a = self.architecture
        return a.layers, a.kv_heads, self.block_bytes // (a.layers * a.kv_heads)

    def keys(self, memory: Array) -> Array:
        """Return a view of the keys in `[blocks, *shape]`: `[blocks, layers, kv_heads, head_dim, BLOCK_SIZE]`."""
        return self._view(memory, 0, (self.architecture.head_dim, BLOCK_SIZE))

    def values(self, memory: Array) -> Array:
        """Return a view of the values: `[blocks, layers, kv_heads, BLOCK_SIZE, head_dim]`."""
        return self._view(memory, 1, (BLOCK_SIZE, self.architecture.head_dim))

    def _view(self, memory: Array, side: int, shape: tuple[int, int]) -> Array:
        size = BLOCK_SIZE * self.architecture.head_dim * self.itemsize
        part = memory[..., side * size : (side + 1) * size]
        return part.view(np.int8 if self.int8 else self.dtype.numpy).reshape(*memory.shape[:-1], *shape)
