"""Reading an adapter, its projections that share an input fused.

Projections that share an input (q, k, v; gate, up) are fused into one group: its A matrices stand on top of
each other, its B matrices lie block-diagonally, the scaling folded into B.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

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
Part = tuple[int, int, int, int]
"""A module's place in a group: first and end row of A and B, first and end column of B."""
LINE = 3 + 4 * max(len(modules) for modules in GROUPS.values())
NUMBER = {group: number for number, group in enumerate(GROUPS)}
_load_ids = itertools.count(1)


@dataclass(eq=False)
class LoadedAdapter:
    """One load of one adapter. `groups[layer][group]` is (A `[rank, in]`, B `[rank, out]`) or absent.

    `lines` `[layers, groups, LINE]` says the same to the kernel: where A and B lie (their addresses), their rank, and
    for each fused module the first and end row and the first and end column of its part of B.
    """

    name: str
    path: Path
    config: AdapterConfig
    groups: list[dict[str, Pair]]
    lines: torch.Tensor
    load_id: int = field(default_factory=lambda: next(_load_ids))

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for layer in self.groups for pair in layer.values() for t in pair)


def load_adapter(
    name: str, path: Path, architecture: Architecture, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> LoadedAdapter:
    """Read and check an adapter; never called on the compute thread. Raises AdapterRefused."""
    report = inspect_adapter(path, architecture)
    layers: list[dict[str, LoraPair]] = [{} for _ in range(architecture.layers)]
    for pair in report.pairs:
        layers[pair.layer][pair.module] = pair
    with safe_open(path / WEIGHTS_FILE, framework="pt") as file:
        read = {pair.module_path: (file.get_tensor(pair.a), file.get_tensor(pair.b)) for pair in report.pairs}
    parts = [_parts(pairs, architecture) for pairs in layers]
    groups = [
        _fuse(pairs, places, read, report.config, architecture, dtype, device)
        for pairs, places in zip(layers, parts, strict=True)
    ]
    return LoadedAdapter(name, path, report.config, groups, _lines(groups, parts))


def _parts(pairs: dict[str, LoraPair], architecture: Architecture) -> dict[str, Part]:
    linears, parts = architecture.linears(), {}
    for modules in GROUPS.values():
        row = column = 0
        for module in modules:
            rank = pairs[module].rank if module in pairs else 0
            if rank:
                parts[module] = (row, row + rank, column, column + linears[module][0])
            row += rank
            column += linears[module][0]
    return parts


def _fuse(
    pairs: dict[str, LoraPair],
    parts: dict[str, Part],
    read: dict[str, Pair],
    config: AdapterConfig,
    architecture: Architecture,
    dtype: torch.dtype,
    device: torch.device | str,
) -> dict[str, Pair]:
    linears = architecture.linears()
    fused = {}
    for group, modules in GROUPS.items():
        present = [m for m in modules if m in parts]
        if not present:
            continue
        rank = sum(pairs[m].rank for m in present)
        a = torch.empty(rank, linears[modules[0]][1])
        b = torch.zeros(rank, sum(linears[m][0] for m in modules))
        for module in present:
            first, end, column, last = parts[module]
            down, up = read[pairs[module].module_path]
            a[first:end] = down
            b[first:end, column:last] = up.float().T * config.scaling(pairs[module].module_path)
        fused[group] = (a.to(device, dtype), b.to(device, dtype))
    return fused


def _lines(groups: list[dict[str, Pair]], parts: list[dict[str, Part]]) -> torch.Tensor:
    lines = np.zeros((len(groups), len(GROUPS), LINE), np.int64)
    for layer, fused in enumerate(groups):
        for group, (a, b) in fused.items():
            places = [parts[layer][module] for module in GROUPS[group] if module in parts[layer]]
            line = [a.data_ptr(), b.data_ptr(), a.shape[0], *itertools.chain(*places)]
            lines[layer, NUMBER[group], : len(line)] = line
    return torch.from_numpy(lines)
