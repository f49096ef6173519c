"""Where each number of an adapter's file goes in memory: the same for all adapters whose files are laid out alike."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loradock.checkpoints.adapter import WEIGHTS_FILE, AdapterConfig
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.inspection import AdapterFiles, not_finite, understand
from loradock.checkpoints.safetensors_header import parse_header
from loradock.types.errors import DamagedWeights

GROUPS = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""Projections that share an input."""

PLACE = 4
LINE = PLACE * max(len(modules) for modules in GROUPS.values())
NUMBER = {group: number for number, group in enumerate(GROUPS)}
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layout:
    """What `packing_kernels.pack` is told, `size` numbers in all, and `LoadedAdapter.lines` with the rows' numbers in
    place of their addresses. `tensors`: the names behind the moves, A before B. `file_size` in bytes."""

    file_size: int
    config: AdapterConfig
    tensors: list[str]
    moves: Array
    scales: Array
    size: int
    lines: Array

    def pack(self, path: Path, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """`packed` and `lines` of what lies in this folder. Raises AdapterRefused when a number is not finite."""
        from loradock.engine import packing_kernels
        from loradock.engine.elementwise import like

        # NumPy asks for large pages where there is much: fewer addresses to translate in every step.
        packed = torch.from_numpy(np.empty(self.size * dtype.itemsize, np.uint8)).view(dtype)
        with (path / WEIGHTS_FILE).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if len(mapped) != self.file_size:
                raise DamagedWeights(f"{WEIGHTS_FILE} was changed while it was read: load the adapter again")
            content = np.frombuffer(mapped, np.uint8)
            at = content.ctypes.data
            bad = packing_kernels.pack(like(dtype), self.moves, self.scales, at, packed.data_ptr())
            del content  # before the map can be closed
        if bad >= 0:
            raise not_finite(self.tensors[bad])
        lines = self.lines.copy()
        starts, ranks = lines[:, :, 0::PLACE], lines[:, :, 1::PLACE]
        starts[ranks > 0] = starts[ranks > 0] * dtype.itemsize + packed.data_ptr()
        return packed, torch.from_numpy(lines)


def lay_out(files: AdapterFiles, architecture: Architecture) -> Layout:
    """In the order in which a step reads it. Raises AdapterRefused."""
    from loradock.engine.packing_kernels import KINDS

    report, tensors = understand(files, architecture), parse_header(files.header)
    pairs = {(pair.layer, pair.module): pair for pair in report.pairs}
    lines = np.zeros((architecture.layers, len(GROUPS), LINE), np.int64)
    names, moves, scales, at = [], [], [], 0
    for layer, (group, modules) in ((layer, item) for layer in range(architecture.layers) for item in GROUPS.items()):
        column = 0
        for place, module in enumerate(modules):
            width, into = architecture.linears()[module]
            if pair := pairs.get((layer, module)):
                kinds = [(tensors[name].start, KINDS.index(tensors[name].dtype)) for name in (pair.a, pair.b)]
                names += [pair.a, pair.b]
                moves.append((*kinds[0], *kinds[1], pair.rank, into, width, at))
                scales.append(report.config.scaling(pair.module_path))
                line = (at, pair.rank, column, column + width)
                lines[layer, NUMBER[group], place * PLACE : (place + 1) * PLACE] = line
                at += pair.rank * (into + width)
            column += width
    numbers = np.array(moves, np.int64), np.array(scales, np.float32)
    return Layout(files.header.size, report.config, names, *numbers, at, lines)


def warm_up(dtype: torch.dtype) -> None:
    """Read the kernel's machine code, or make it."""
    from loradock.engine import packing_kernels
    from loradock.engine.elementwise import like

    packing_kernels.pack(like(dtype), np.zeros((0, 8), np.int64), np.zeros(0, np.float32), 0, 0)
