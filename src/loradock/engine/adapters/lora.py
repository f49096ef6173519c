"""Reading an adapter, and laying it out for whoever applies it.

Projections that share an input (q, k, v; gate, up) are a group. For the kernels everything of an adapter lies in one
run of memory, in the order in which it is read (`packed`). For torch a group's A matrices stand on top of each other
and its B matrices lie block-diagonally (`groups`). The scaling is folded into B.
"""

import itertools
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE, AdapterConfig, parse_adapter_config
from loradock.checkpoints.adapters.inspection import (
    AdapterFiles,
    inspect_adapter,
    read_files,
    understand,
    without_tables,
)
from loradock.checkpoints.adapters.lora_pairs import LoraPair
from loradock.checkpoints.adapters.packed import GROUPS
from loradock.checkpoints.architecture import Architecture
from loradock.checkpoints.conventions import Conventions
from loradock.checkpoints.safetensors_header import parse_header
from loradock.engine.adapters import packing
from loradock.types.errors import AdapterRefused

Pair = tuple[torch.Tensor, torch.Tensor]
Layers = list[dict[str, tuple[LoraPair, torch.Tensor, torch.Tensor]]]
"""The layers of an adapter, each a map of module → (what it is, A `[rank, in]`, B^T `[rank, out]` scaled), float32."""

_KEPT = 16
_LONG = 1 << 18
_load_ids = itertools.count(1)


@dataclass(eq=False)
class LoadedAdapter:
    """An adapter as loaded; what is not needed on its device is empty.

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
    conventions: Conventions = field(default_factory=Conventions)
    """What the adapter's folder says about chat templates and end tokens."""

    @property
    def bytes(self) -> int:
        tensors = [self.packed, *(t for layer in self.groups for pair in layer.values() for t in pair)]
        return sum(t.numel() * t.element_size() for t in tensors)


class AdapterReader:
    """Reads and checks the adapters of one model, for the kernels or for torch; never on the compute thread.

    For the kernels nearly all of the time goes by without the interpreter's lock, which the compute thread needs some
    hundred times a step: what adapters of the same training have in common is worked out once.
    """

    def __init__(
        self,
        architecture: Architecture,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        *,
        kernels: bool = True,
        max_rank: int | None = None,
    ) -> None:
        self._architecture = architecture
        self._dtype = dtype
        self._device = device
        self._kernels = kernels
        self._max_rank = max_rank
        self._layouts = lru_cache(_KEPT)(self._lay_out)

    def warm_up(self) -> None:
        """Do what the first adapter would have to wait for."""
        if self._kernels:
            packing.warm_up(self._dtype)

    def check(self, path: Path) -> None:
        """Check the adapter without reading tensors; a file that was cut short is noticed. Raises AdapterRefused."""
        files = self._files(path)
        config, _ = parse_adapter_config(files.config), parse_header(files.header)
        most = max([config.rank, *config.rank_pattern.values()])
        if self._max_rank is not None and most > self._max_rank:
            self._check_rank(understand(files, None).max_rank)

    def read(self, name: str, path: Path) -> LoadedAdapter:
        """Raises AdapterRefused."""
        files = self._files(path)
        if not self._kernels:
            return self._for_torch(name, path)
        # A very long one is not worth the room.
        layout = self._layouts(files) if len(files.header.text) < _LONG else self._lay_out(files)
        packed, lines = layout.take(path, files, self._dtype) or layout.pack(path, self._dtype)
        return LoadedAdapter(name, path, layout.config, [], packed, lines)

    @staticmethod
    def _files(path: Path) -> AdapterFiles:
        if not path.is_dir():
            raise AdapterRefused("there is no folder of this adapter on the server", param="lora_path")
        return read_files(path)

    def _check_rank(self, rank: int) -> None:
        most = self._max_rank
        if most is not None and rank > most:
            raise AdapterRefused(
                f"the adapter has rank {rank}; this engine takes up to {most} (start it with a larger --max-lora-rank)"
            )

    def _lay_out(self, files: AdapterFiles) -> packing.Layout:
        layout = packing.lay_out(files, self._architecture)
        self._check_rank(layout.rank)
        return layout

    def _for_torch(self, name: str, path: Path) -> LoadedAdapter:
        torch.set_num_threads(1)
        architecture, report = self._architecture, without_tables(inspect_adapter(path, self._architecture))
        self._check_rank(report.max_rank)
        layers: Layers = [{} for _ in range(architecture.layers)]
        with safe_open(path / WEIGHTS_FILE, framework="pt") as file:
            for pair in report.pairs:
                up = file.get_tensor(pair.b).float().T * pair.scaling
                layers[pair.layer][pair.module] = (pair, file.get_tensor(pair.a).float(), up)
        groups = [_fuse(layer, architecture, self._dtype, self._device) for layer in layers]
        return LoadedAdapter(name, path, report.config, groups, torch.empty(0), torch.empty(0))


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
