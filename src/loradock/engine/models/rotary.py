"""The angles of rotary position embedding, with the scalings that the families have."""

from typing import Any

import numpy as np

from loradock.checkpoints.architecture import Architecture

Array = np.ndarray[Any, Any]
_FIRST = 1024
"""Positions that are worked out at once at first."""


class Rotary:
    """Cosines and sines of positions, kept up to the largest that was asked for."""

    def __init__(self, a: Architecture) -> None:
        exponents = np.arange(0, a.head_dim, 2, dtype=np.float32) / np.float32(a.head_dim)
        inverse = (np.float32(1) / np.power(np.float32(a.rope_theta), exponents)).astype(np.float32)
        self._inverse = _scaled(inverse, a.rope_scaling or {}).astype(np.float32)
        self._most = a.max_positions
        self._cos, self._sin = self._table(min(_FIRST, a.max_positions))

    def at(self, positions: Array) -> tuple[Array, Array]:
        """(cos, sin), float32 `[positions, head_dim]`, of int64 positions below the model's context."""
        needed = int(positions.max(initial=0)) + 1
        if needed > len(self._cos):
            self._cos, self._sin = self._table(min(self._most, 2 * needed))
        return self._cos[positions], self._sin[positions]

    def _table(self, count: int) -> tuple[Array, Array]:
        angles = np.outer(np.arange(count, dtype=np.float32), self._inverse)
        angles = np.concatenate((angles, angles), axis=1)
        return np.cos(angles), np.sin(angles)


def _scaled(inverse: Array, scaling: dict[str, Any]) -> Array:
    """Linear and Llama 3 scaling as in transformers' modeling_rope_utils; ready-made divisors as in llama.cpp."""
    if not scaling:
        return inverse
    if scaling["rope_type"] == "factors":
        return inverse / np.array(scaling["factors"], np.float32)
    factor = np.float32(scaling["factor"])
    if scaling["rope_type"] == "linear":
        return inverse / factor
    low, high = np.float32(scaling["low_freq_factor"]), np.float32(scaling["high_freq_factor"])
    length = np.float32(scaling["original_max_position_embeddings"])
    wavelength = np.float32(2 * np.pi) / inverse
    smooth = np.clip((length / wavelength - low) / (high - low), 0, 1)
    return (1 - smooth) * inverse / factor + smooth * inverse
