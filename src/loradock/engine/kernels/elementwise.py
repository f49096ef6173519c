"""The steps between the matrix products, in torch for any device or as kernels for a CPU."""

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F


class Elementwise(Protocol):
    """All on `[rows, width]`."""

    def add_norm(self, x: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """x += delta, in place; then its rms norm times `weight`."""

    def silu_multiply(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up of the two halves."""


class TorchElementwise:
    """Elementwise operations in torch, on any device."""

    def add_norm(self, x: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, eps: float) -> torch.Tensor:
        if delta is not None:
            x += delta
        return F.rms_norm(x, (x.shape[1],), weight, eps)

    def silu_multiply(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=1)
        return F.silu(gate) * up


class KernelElementwise:
    """Elementwise operations by kernels, on a CPU."""

    def __init__(self, dtype: torch.dtype) -> None:
        from loradock.engine.kernels import kernels

        self._kernels, self._like = kernels, like(dtype)

    def add_norm(self, x: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, eps: float) -> torch.Tensor:
        out = torch.empty_like(x)
        at = 0 if delta is None else delta.data_ptr()
        rows, width = x.shape
        self._kernels.add_norm(self._like, x.data_ptr(), at, weight.data_ptr(), out.data_ptr(), rows, width, eps)
        return out

    def silu_multiply(self, gate_up: torch.Tensor) -> torch.Tensor:
        rows, width = gate_up.shape
        out = gate_up.new_empty(rows, width // 2)
        self._kernels.silu_multiply(self._like, gate_up.data_ptr(), out.data_ptr(), rows, width // 2)
        return out


def like(dtype: torch.dtype) -> "np.uint16 | np.float32":
    """Return a value that tells a kernel the type behind an address."""
    from loradock.engine.kernels import kernels

    return kernels.BFLOAT16 if dtype is torch.bfloat16 else kernels.FLOAT32
