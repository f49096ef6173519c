"""Applying many adapters in the same step.

On a CPU a kernel takes each row through its own adapter where it lies (`PagedLora`). Elsewhere the active adapters'
groups are concatenated for a step, and a mask between the two products keeps each row to its own (`StackedLora`).
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import torch

from loradock.checkpoints.adapters.packed import GROUPS
from loradock.engine.adapters.lora import LoadedAdapter
from loradock.engine.adapters.packing import LINE, NUMBER


class KernelLoraBatch:
    """The adapters of one step on a CPU, whatever the mix. `apply` adds their share to an output, in place."""

    def __init__(self, table: torch.Tensor, rows: torch.Tensor, dtype: torch.dtype) -> None:
        from loradock.engine.kernels import kernels
        from loradock.engine.kernels.elementwise import like

        self._kernels = kernels
        self._like = like(dtype)
        self._rows = rows
        self._table = table
        self._adapters = table.shape[2]
        self._at = table.data_ptr()
        self._rows_at = self._rows.data_ptr()
        self._layer, self._group = (table.stride(n) * table.itemsize for n in (0, 1))
        self._scratch = torch.empty(0)

    def apply(self, layer: int, group: str, x: torch.Tensor, out: torch.Tensor) -> None:
        """x `[tokens, in]`, out `[tokens, out]`, both contiguous."""
        table = self._at + layer * self._layer + NUMBER[group] * self._group
        needed = self._kernels.LORA_SCRATCH * (x.shape[1] + out.shape[1])
        if len(self._scratch) < needed:
            self._scratch = torch.empty(needed)
        addresses = x.data_ptr(), out.data_ptr(), self._rows_at, table, self._scratch.data_ptr()
        self._kernels.add_lora(self._like, *addresses, x.shape[0], x.shape[1], out.shape[1], self._adapters, LINE)


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
            pair = adapter.groups[layer].get(group)
            if pair is not None:
                out.index_add_(0, rows, (x.index_select(0, rows) @ pair[0].T) @ pair[1])


AppliedLora = KernelLoraBatch | LoraBatch | GroupedLoraBatch


class Mixing(Protocol):
    """A way to apply the adapters of a step."""

    def batch(self, owners: list[LoadedAdapter | None]) -> AppliedLora | None:
        """`owners` is the adapter of each token of the step. None when the step is all base."""

    def forget(self, load_id: int) -> None:
        """Free what is kept of an unloaded adapter."""

    def warm_up(self) -> None:
        """Do what the first mixed step would have to wait for."""


class PagedLora:
    """Assigns the lines of the kernel's table to rows; the last few tables are kept."""

    KEPT = 8

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._tables: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()

    def batch(self, owners: list[LoadedAdapter | None]) -> AppliedLora | None:
        rows, table = self.lines(owners)
        return KernelLoraBatch(table, rows, self._dtype) if table.numel() else None

    def lines(self, owners: list[LoadedAdapter | None]) -> tuple[torch.Tensor, torch.Tensor]:
        """Each token's line, `[tokens]`, -1 for the base model, and the table `[layers, groups, adapters, LINE]`, which
        is empty when the step is all base.
        """
        active = {adapter.load_id: adapter for adapter in owners if adapter}
        if not active:
            return torch.empty(0, dtype=torch.long), torch.empty(0, 0, 0, 0, dtype=torch.long)
        key = tuple(sorted(active))
        number = {load_id: index for index, load_id in enumerate(key)}
        rows = [number[owner.load_id] if owner else -1 for owner in owners]
        return torch.tensor(rows), self._table(key, active)

    def forget(self, load_id: int) -> None:
        for key in [key for key in self._tables if load_id in key]:
            del self._tables[key]

    def warm_up(self) -> None:
        empty = torch.zeros(1, 1, dtype=self._dtype)
        KernelLoraBatch(torch.zeros(1, len(GROUPS), 1, LINE, dtype=torch.long), torch.tensor([-1]), self._dtype).apply(
            0, "qkv", empty, empty
        )

    def _table(self, key: tuple[int, ...], active: dict[int, LoadedAdapter]) -> torch.Tensor:
        """`[layers, groups, adapters, LINE]`."""
        if key not in self._tables:
            self._tables[key] = torch.stack([active[load_id].lines for load_id in key], dim=2)
        self._tables.move_to_end(key)
        if len(self._tables) > self.KEPT:
            self._tables.popitem(last=False)
        return self._tables[key]


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
            pairs = [adapter.groups[layer].get(group) for adapter in adapters]
            present = [pair for pair in pairs if pair]
            if present:
                a = torch.cat([pair[0] for pair in present]).T.contiguous()
                b = torch.cat([pair[1] for pair in present])
                groups[group] = (a, b, tuple(pair[0].shape[0] if pair else 0 for pair in pairs))
        return groups
