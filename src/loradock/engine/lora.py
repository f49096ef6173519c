"""Reading an adapter, and laying it out for whoever applies it.

Projections that share an input (q, k, v; gate, up) are a group. For the kernels everything of an adapter lies in one
run of memory, in the order in which it is read (`packed`). For torch a group's A matrices stand on top of each other
and its B matrices lie block-diagonally (`groups`). The scaling is folded into B.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from loradock.checkpoints.adapter import WEIGHTS_FILE, AdapterConfig
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.inspection import LoraPair, inspect_adapter

GROUPS = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
Pair = tuple[torch.Tensor, torch.Tensor]
Layers = list[dict[str, tuple[LoraPair, torch.Tensor, torch.Tensor]]]
"""Per layer: module → (what it is, A `[rank, in]`, B^T `[rank, out]` scaled), float32."""
PLACE = 4
LINE = PLACE * max(len(modules) for modules in GROUPS.values())
NUMBER = {group: number for number, group in enumerate(GROUPS)}
_load_ids = itertools.count(1)


@dataclass(eq=False)
class LoadedAdapter:
    """One load of one adapter; what is not needed on its device is empty.

    `groups[layer][group]` is (A `[rank, in]`, B `[rank, out]`) or absent. `lines` int64 `[layers, groups, LINE]` has
    for each module of a group: the address of its rows in `packed`, the rank (0: none), and its first and end column of
    the group's output. A row is one row of A and the same row of B^T.
    """

    name: str
    path: Path
    config: AdapterConfig
    groups: list[dict[str, Pair]]
    packed: torch.Tensor
    lines: torch.Tensor
    load_id: int = field(default_factory=lambda: next(_load_ids))

    @property
    def bytes(self) -> int:
        tensors = [self.packed, *(t for layer in self.groups for pair in layer.values() for t in pair)]
        return sum(t.numel() * t.element_size() for t in tensors)


def load_adapter(
    name: str,
    path: Path,
    architecture: Architecture,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    *,
    kernels: bool = True,
) -> LoadedAdapter:
    """Read and check an adapter, for the kernels or for torch; never called on the compute thread. Raises
    AdapterRefused.
    """
    report = inspect_adapter(path, architecture)
    layers: Layers = [{} for _ in range(architecture.layers)]
    with safe_open(path / WEIGHTS_FILE, framework="pt") as file:
        for pair in report.pairs:
            up = file.get_tensor(pair.b).float().T * report.config.scaling(pair.module_path)
            layers[pair.layer][pair.module] = (pair, file.get_tensor(pair.a).float(), up)
    if kernels:
        packed, lines = _pack(layers, architecture, dtype)
        return LoadedAdapter(name, path, report.config, [], packed, lines)
    groups = [_fuse(layer, architecture, dtype, device) for layer in layers]
    return LoadedAdapter(name, path, report.config, groups, torch.empty(0), torch.empty(0))


def _pack(layers: Layers, architecture: Architecture, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    linears = architecture.linears()
    size = sum(a.numel() + b.numel() for layer in layers for _, a, b in layer.values())
    # NumPy asks for large pages where there is much: fewer addresses to translate in every step.
    packed = torch.from_numpy(np.empty(size * dtype.itemsize, np.uint8)).view(dtype)
    lines = np.zeros((len(layers), len(GROUPS), LINE), np.int64)
    at = 0
    for index, layer in enumerate(layers):
        for group, modules in GROUPS.items():
            column = 0
            for place, module in enumerate(modules):
                end = column + linears[module][0]
                if module in layer:
                    pair, a, b = layer[module]
                    part = packed[at : at + a.numel() + b.numel()].view(pair.rank, -1)
                    part[:, : a.shape[1]], part[:, a.shape[1] :] = a, b
                    line = (part.data_ptr(), pair.rank, column, end)
                    lines[index, NUMBER[group], place * PLACE : (place + 1) * PLACE] = line
                    at += part.numel()
                column = end
    return packed, torch.from_numpy(lines)


def _fuse(
    layer: dict[str, tuple[LoraPair, torch.Tensor, torch.Tensor]],
    architecture: Architecture,
    dtype: torch.dtype,
    device: torch.device | str,
) -> dict[str, Pair]:
    linears: dict[str, Any] = architecture.linears()
    fused = {}
    for group, modules in GROUPS.items():
        present = [layer[module] for module in modules if module in layer]
        if not present:
            continue
        rank = sum(pair.rank for pair, _, _ in present)
        b = torch.zeros(rank, sum(linears[m][0] for m in modules))
        row = column = 0
        for module in modules:
            end = column + linears[module][0]
            if module in layer:
                pair, _, up = layer[module]
                b[row : row + pair.rank, column:end] = up
                row += pair.rank
            column = end
        fused[group] = (torch.cat([a for _, a, _ in present]).to(device, dtype), b.to(device, dtype))
    return fused
