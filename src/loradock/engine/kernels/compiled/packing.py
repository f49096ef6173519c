"""Weights in the order in which tiles read them, all in one run of memory."""

import math
from copy import copy
from dataclasses import dataclass, field

import numpy as np
import torch

from loradock.engine.kernels.compiled import bf16_codec as twelve
from loradock.engine.kernels.compiled import products
from loradock.engine.kernels.compiled.simd import LINE
from loradock.engine.kernels.compiled.tiles import GROUP

PANEL = products.PANEL


class Unpackable(ValueError):
    """A weight cannot be kept in the order of the tiles."""


@dataclass
class Arena:
    """Memory for `size` bytes at once. NumPy asks for large pages where there is much: reading ahead then goes on where
    small pages would end it.
    """

    size: int
    _used: int = 0
    _bytes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self._bytes = np.empty(self.size + LINE, np.uint8)
        self._used = -self._bytes.ctypes.data % LINE

    def part(self, size: int) -> "Arena":
        """The next `size` bytes as an arena of its own, so that several threads can fill one."""
        part = copy(self)
        part.size, part._bytes, part._used = size, self.take((size,)), 0
        return part

    def keep(self, values: torch.Tensor) -> int:
        """The address of a copy that begins a line."""
        room = torch.from_numpy(self.take((values.numel() * values.element_size(),)))
        room.view(values.dtype).view(values.shape).copy_(values)
        return room.data_ptr()

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """Bytes that begin a line."""
        size = math.prod(shape)
        room = self._bytes[self._used : self._used + size]
        if room.size < size:
            raise MemoryError(f"{size} bytes are more than is left of an arena of {self.size}")
        self._used += whole_lines(size)
        return room.reshape(shape)


def packed_bytes(outputs: int, inputs: int, bits: int) -> int:
    """Return the most bytes of an arena that a weight takes."""
    scales = {16: outputs + _rare_room(outputs, inputs) * 12, 8: outputs * (inputs // GROUP) * 2}
    numbers = outputs * inputs * {16: 12}.get(bits, bits) // 8
    return whole_lines(numbers + scales.get(bits, outputs * (inputs // GROUP) * 4) + 3 * LINE)


def whole_lines(size: int) -> int:
    return -(-size // LINE) * LINE


def pack(arena: Arena, weight: torch.Tensor, bits: int, bias: int = 0) -> list[int]:
    """A line of the plan (see `products`) for a weight `[out, in]`; `bias`: address of float32 `[out]`, 0: none."""
    outputs, inputs = weight.shape
    if bits == 16:
        return _pack_bfloat16(arena, weight.bfloat16().contiguous(), bias)
    if bits == 8:
        whole, by = _in_bytes(weight.float())
        numbers, scales = _interleaved(whole, 4), arena.keep(_beside(by))
    else:
        whole, by, offsets = _in_nibbles(weight.float())
        lines = _interleaved(whole, 4)
        numbers = lines[:, 0::2] | lines[:, 1::2] << 4
        scales = arena.keep(torch.stack((_beside(by), _beside(offsets)), dim=2))
    return [arena.keep(numbers), scales, bias, bits, outputs, inputs, 0, 0]


def _pack_bfloat16(arena: Arena, weight: torch.Tensor, bias: int) -> list[int]:
    outputs, inputs = weight.shape
    panels, room = outputs // PANEL, _rare_room(outputs, inputs)
    lines = arena.take((panels, inputs // 2, twelve.LINE))
    uppers = arena.take((panels, twelve.NUMBERED))
    rare = np.empty((room, 3), np.int32)
    count = twelve.encode(weight.view(torch.uint16).numpy(), lines, uppers, rare, 0)
    if count > room:
        raise Unpackable(f"{count} of {outputs * inputs} weights differ too much from the others in size")
    kept = arena.keep(torch.from_numpy(rare[:count]))
    return [lines.ctypes.data, uppers.ctypes.data, bias, 16, outputs, inputs, kept, count]


def _rare_room(outputs: int, inputs: int) -> int:
    return outputs * inputs // 500 + 64


def _interleaved(numbers: torch.Tensor, beside: int) -> torch.Tensor:
    """`[out, in]` → `[panels, in / beside, PANEL, beside]`."""
    return numbers.view(numbers.shape[0] // PANEL, PANEL, -1, beside).transpose(1, 2)


def _beside(groups: torch.Tensor) -> torch.Tensor:
    """`[out, groups]` → `[panels, groups, PANEL]`."""
    return groups.view(groups.shape[0] // PANEL, PANEL, -1).transpose(1, 2)


def _in_bytes(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers 1 to 255, 128 for zero, and the scales of each output's groups."""
    groups = weight.view(weight.shape[0], -1, GROUP)
    scales = (groups.abs().amax(dim=2) / 127).half()
    numbers = (
        (groups / scales.float().clamp(min=1e-30).unsqueeze(2)).round().clamp_(-127, 127).add_(128).to(torch.uint8)
    )
    return numbers.view(weight.shape), scales


def _in_nibbles(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Numbers 0 to 15, with scales and offsets in half precision, as GGUF's Q4_1."""
    groups = weight.view(weight.shape[0], -1, GROUP)
    low, high = groups.amin(dim=2), groups.amax(dim=2)
    scales, offsets = ((high - low) / 15).half(), low.half()
    steps = (groups - offsets.float().unsqueeze(2)) / scales.float().clamp(min=1e-30).unsqueeze(2)
    return steps.round().clamp_(0, 15).to(torch.uint8).view(weight.shape), scales, offsets
