"""A GGUF tensor in the numbers the engine computes with."""

from typing import Any

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType as Kind

from loradock.checkpoints.gguf.gguf_file import GgufTensor

Array = np.ndarray[Any, Any]


def dequantized(tensor: GgufTensor, dtype: torch.dtype) -> torch.Tensor:
    """The usual kinds by kernels, the others by the `gguf` package, whose float32 numbers are the same."""
    if dtype in (torch.bfloat16, torch.float32) and tensor.tensor_type in (Kind.Q4_0, Kind.Q4_1, Kind.Q8_0):
        return _blocks(tensor, dtype)
    if tensor.tensor_type in (Kind.F32, Kind.F16):
        return torch.from_numpy(tensor.data.astype(np.float32)).to(dtype)
    from gguf.quants import dequantize

    return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).to(dtype)


def _blocks(tensor: GgufTensor, dtype: torch.dtype) -> torch.Tensor:
    from loradock.engine.kernels import block_kernels as kernels
    from loradock.engine.kernels.elementwise import like

    out = torch.empty(*tensor.data.shape[:-1], tensor.shape[0], dtype=dtype)
    if tensor.tensor_type is Kind.Q8_0:
        scales, numbers = _parts(tensor, 2)
        kernels.dequantize_8(like(dtype), numbers.view(np.int8), scales[:, 0].copy(), out.data_ptr())
    elif tensor.tensor_type is Kind.Q4_1:
        scales, nibbles = _parts(tensor, 4)
        kernels.dequantize_4(like(dtype), nibbles, scales[:, 0].copy(), scales[:, 1].copy(), out.data_ptr())
    else:
        scales, nibbles = _parts(tensor, 2)
        scale = scales[:, 0].copy()
        kernels.dequantize_4(like(dtype), nibbles, scale, scale * np.float32(-8), out.data_ptr())
    return out


def _parts(tensor: GgufTensor, head: int) -> tuple[Array, Array]:
    """Return for every block the float16 numbers in its first `head` bytes as float32, and the rest."""
    size = {Kind.Q4_0: 18, Kind.Q4_1: 20, Kind.Q8_0: 34}[tensor.tensor_type]
    blocks = tensor.data.reshape(-1, size)
    return blocks[:, :head].copy().view(np.float16).astype(np.float32), blocks[:, head:].copy()
