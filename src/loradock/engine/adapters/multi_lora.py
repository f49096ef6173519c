"""Applying many adapters in the same step: the kernels take each row through its own adapter where it lies."""

from collections import OrderedDict
from typing import Any, Protocol

import numpy as np

from loradock.checkpoints.adapters.packed import GROUPS
from loradock.engine.adapters.lora import LoadedAdapter
from loradock.engine.adapters.packing import LINE

Array = np.ndarray[Any, Any]


class Mixing(Protocol):
    """A way to apply the adapters of a step."""

    def forget(self, load_id: int) -> None:
        """Free what is kept of an unloaded adapter."""


class PagedLora:
    """Assigns the lines of the kernels' table to rows; the last few tables are kept."""

    KEPT = 8

    def __init__(self) -> None:
        self._tables: OrderedDict[tuple[int, ...], Array] = OrderedDict()

    def lines(self, owners: list[LoadedAdapter | None]) -> tuple[Array, Array]:
        """Each token's line, int64 `[tokens]`, -1 for the base model, and the table int64 `[layers, groups, adapters,
        LINE]`, which is empty when the step is all base.
        """
        active = {adapter.load_id: adapter for adapter in owners if adapter}
        if not active:
            return np.empty(0, np.int64), np.empty((0, len(GROUPS), 0, LINE), np.int64)
        key = tuple(sorted(active))
        number = {load_id: index for index, load_id in enumerate(key)}
        rows = [number[owner.load_id] if owner else -1 for owner in owners]
        return np.array(rows, np.int64), self._table(key, active)

    def forget(self, load_id: int) -> None:
        for key in [key for key in self._tables if load_id in key]:
            del self._tables[key]

    def _table(self, key: tuple[int, ...], active: dict[int, LoadedAdapter]) -> Array:
        if key not in self._tables:
            self._tables[key] = np.stack([active[load_id].lines for load_id in key], axis=2)
        self._tables.move_to_end(key)
        if len(self._tables) > self.KEPT:
            self._tables.popitem(last=False)
        return self._tables[key]
