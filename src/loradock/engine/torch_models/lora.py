"""Adapters on other devices, by dense products: the active adapters' groups are concatenated for a step, and a mask
between the two products keeps each row to its own."""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loradock.checkpoints.adapters.adapter import WEIGHTS_FILE
from loradock.checkpoints.adapters.inspection import inspect_adapter, without_tables
from loradock.checkpoints.adapters.lora_pairs import LoraPair
from loradock.checkpoints.adapters.packed import GROUPS
from loradock.checkpoints.architecture import Architecture
from loradock.engine.adapters.lora import AdapterReader, LoadedAdapter
from loradock.engine.dtypes import Dtype
from loradock.engine.models.weights import file_reader
from loradock.engine.torch_models.tensors import as_tensor, torch_dtype

Pair = tuple[torch.Tensor, torch.Tensor]
Layers = list[dict[str, tuple[LoraPair, torch.Tensor, torch.Tensor]]]
"""The layers of an adapter, each a map of module → (what it is, A `[rank, in]`, B^T `[rank, out]` scaled), float32."""


@dataclass
class _Stack:
    """The active adapters side by side: (A^T `[in, R]`, B `[R, out]`, owner of each of the R columns)."""

    members: dict[int, int]
    groups: list[dict[str, tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]]]


class LoraBatch:
    """The same by dense products, for any device."""

    def __init__(self, stack: _Stack, rows: list[int], dtype: torch.dtype, device: torch.device | str) -> None:
        self._stack = stack
        self._rows = torch.tensor(rows, device=device).unsqueeze(1)
        self._dtype = dtype
        self._masks: dict[tuple[int, ...], torch.Tensor] = {}

    def apply(self, layer: int, group: str, x: torch.Tensor, out: torch.Tensor) -> None:
        """x `[tokens, in]`, out `[tokens, out]`."""
        stacked = self._stack.groups[layer].get(group)
        if stacked is None:
            return
        a, b, widths = stacked
        out.addmm_((x @ a).mul_(self._mask(widths)), b)

    def _mask(self, widths: tuple[int, ...]) -> torch.Tensor:
        mask = self._masks.get(widths)
        if mask is None:
            owner = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths)).to(self._rows.device)
            mask = (self._rows == owner).to(self._dtype)
            self._masks[widths] = mask
        return mask


class GroupedLoraBatch:
    """The same for prefill-heavy steps: rows gathered per adapter, each through its own small matrices."""

    def __init__(self, adapters: list[LoadedAdapter], rows: list[int], device: torch.device | str) -> None:
        owner = torch.tensor(rows, device=device)
        self._parts = [(adapter, (owner == i).nonzero().squeeze(1)) for i, adapter in enumerate(adapters)]

    def apply(self, layer: int, group: str, x: torch.Tensor, out: torch.Tensor) -> None:
        for adapter, rows in self._parts:
            pair = adapter.device_groups[layer].get(group)
            if pair is not None:
                out.index_add_(0, rows, (x.index_select(0, rows) @ pair[0].T) @ pair[1])


AppliedLora = LoraBatch | GroupedLoraBatch


class StackedLora:
    """Builds the step's batch; keeps the last few stacks, since the active set seldom changes between steps."""

    KEPT = 4
    DENSE_TOKENS = 128

    def __init__(self, layers: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self._layers = layers
        self._dtype = dtype
        self._device = device
        self._stacks: OrderedDict[tuple[int, ...], _Stack] = OrderedDict()

    def batch(self, owners: list[LoadedAdapter | None]) -> AppliedLora | None:
        active = {adapter.load_id: adapter for adapter in owners if adapter}
        if not active:
            return None
        adapters = [active[load_id] for load_id in sorted(active)]
        if len(owners) > self.DENSE_TOKENS and len(adapters) > 1:
            index = {adapter.load_id: i for i, adapter in enumerate(adapters)}
            return GroupedLoraBatch(adapters, [index[o.load_id] if o else -1 for o in owners], self._device)
        stack = self._stack(adapters)
        rows = [stack.members[o.load_id] if o else -1 for o in owners]
        return LoraBatch(stack, rows, self._dtype, self._device)

    def forget(self, load_id: int) -> None:
        for key in [key for key in self._stacks if load_id in key]:
            del self._stacks[key]

    def warm_up(self) -> None:
        """Do nothing: torch is ready."""

    def _stack(self, adapters: list[LoadedAdapter]) -> _Stack:
        wanted = {adapter.load_id for adapter in adapters}
        for key, stack in self._stacks.items():
            if wanted.issubset(key) and len(key) <= len(wanted) + 2:
                self._stacks.move_to_end(key)
                return stack
        key = tuple(sorted(wanted))
        stack = _Stack(
            {load_id: i for i, load_id in enumerate(key)}, [self._concat(adapters, n) for n in range(self._layers)]
        )
        self._stacks[key] = stack
        if len(self._stacks) > self.KEPT:
            self._stacks.popitem(last=False)
        return stack

    @staticmethod
    def _concat(
        adapters: list[LoadedAdapter], layer: int
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]]:
        groups = {}
        for group in GROUPS:
            pairs = [adapter.device_groups[layer].get(group) for adapter in adapters]
            present = [pair for pair in pairs if pair]
            if present:
                a = torch.cat([pair[0] for pair in present]).T.contiguous()
                b = torch.cat([pair[1] for pair in present])
                groups[group] = (a, b, tuple(pair[0].shape[0] if pair else 0 for pair in pairs))
        return groups


class TorchAdapterReader(AdapterReader):
    """Reads adapters for a `TorchDecoder`: a group's A matrices stand on top of each other, and its B matrices lie
    block-diagonally."""

    def __init__(
        self, architecture: Architecture, dtype: Dtype, device: str = "cpu", *, max_rank: int | None = None
    ) -> None:
        super().__init__(architecture, dtype, max_rank=max_rank)
        self._device = device

    def read(self, name: str, path: Path) -> LoadedAdapter:
        torch.set_num_threads(1)
        report = without_tables(inspect_adapter(path, self.architecture))
        self.check_rank(report.max_rank)
        layers: Layers = [{} for _ in range(self.architecture.layers)]
        read = file_reader(path / WEIGHTS_FILE)
        for pair in report.pairs:
            up = as_tensor(read(pair.b)).float().T * pair.scaling
            layers[pair.layer][pair.module] = (pair, as_tensor(read(pair.a)).float(), up)
        dtype = torch_dtype(self.dtype)
        groups = [_fused(layer, self.architecture, dtype, self._device) for layer in layers]
        size = sum(t.numel() * t.element_size() for layer in groups for pair in layer.values() for t in pair)
        nothing = np.empty(0, np.int64)
        return LoadedAdapter(name, path, report.config, nothing, nothing, size, groups)


def _fused(
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
