"""Adapters in the engine: reading one, and applying many in the same step.

Projections that share an input (q, k, v; gate, up) are fused into one group: its A matrices stand on top of
each other, its B matrices lie block-diagonally, the scaling folded into B. For a step the active adapters'
groups are concatenated once more, and a mask between the two products keeps each row to its own adapter.
"""

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

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
_load_ids = itertools.count(1)


@dataclass(eq=False)
class LoadedAdapter:
    """One load of one adapter. `groups[layer][group]` is (A `[rank, in]`, B `[rank, out]`) or absent."""

    name: str
    path: Path
    config: AdapterConfig
    groups: list[dict[str, Pair]]
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
    groups = [_fuse(pairs, read, report.config, architecture, dtype, device) for pairs in layers]
    return LoadedAdapter(name, path, report.config, groups)


def _fuse(
    pairs: dict[str, LoraPair],
    read: dict[str, Pair],
    config: AdapterConfig,
    architecture: Architecture,
    dtype: torch.dtype,
    device: torch.device | str,
) -> dict[str, Pair]:
    linears = architecture.linears()
    fused = {}
    for group, modules in GROUPS.items():
        present = [m for m in modules if m in pairs]
        if not present:
            continue
        rank = sum(pairs[m].rank for m in present)
        a = torch.empty(rank, linears[modules[0]][1])
        b = torch.zeros(rank, sum(linears[m][0] for m in modules))
        row = column = 0
        for module in modules:
            if module in pairs:
                pair = pairs[module]
                down, up = read[pair.module_path]
                rows = slice(row, row + pair.rank)
                a[rows] = down
                b[rows, column : column + linears[module][0]] = up.float().T * config.scaling(pair.module_path)
                row += pair.rank
            column += linears[module][0]
        fused[group] = (a.to(device, dtype), b.to(device, dtype))
    return fused


@dataclass
class _Stack:
    """The active adapters side by side: (A^T `[in, R]`, B `[R, out]`, owner of each of the R columns)."""

    members: dict[int, int]
    groups: list[dict[str, tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]]]


class LoraBatch:
    """The adapters of one step. `apply` adds their share to a projection's output, in place."""

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
            pair = adapter.groups[layer].get(group)
            if pair is not None:
                out.index_add_(0, rows, (x.index_select(0, rows) @ pair[0].T) @ pair[1])


AppliedLora = LoraBatch | GroupedLoraBatch


class LoraStacks:
    """Builds the step's batch; keeps the last few stacks, since the active set seldom changes between steps."""

    KEPT = 4
    DENSE_TOKENS = 128

    def __init__(self, layers: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self._layers, self._dtype, self._device = layers, dtype, device
        self._stacks: OrderedDict[tuple[int, ...], _Stack] = OrderedDict()

    def batch(self, owners: list[LoadedAdapter | None]) -> AppliedLora | None:
        """`owners` is the adapter of each token of the step. None when the step is all base."""
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
        """Free the stacks that hold an unloaded adapter."""
        for key in [key for key in self._stacks if load_id in key]:
            del self._stacks[key]

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
            pairs = [adapter.groups[layer].get(group) for adapter in adapters]
            present = [pair for pair in pairs if pair]
            if present:
                a = torch.cat([pair[0] for pair in present]).T.contiguous()
                b = torch.cat([pair[1] for pair in present])
                groups[group] = (a, b, tuple(pair[0].shape[0] if pair else 0 for pair in pairs))
        return groups
