"""Whether this machine has the memory for more replicas: what is promised to those that run counts as taken."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from loradock.checkpoints.memory_plan import MemoryPlan, gib
from loradock.replicas.launcher import ProcessUse
from loradock.types.errors import ModelTooLarge


class Taker(Protocol):
    """A replica from before its launch until its process is gone."""

    @property
    def plan(self) -> MemoryPlan | None: ...

    def use(self) -> ProcessUse: ...


class Memory:
    """The memory of all deployments' replicas together. `free` and `total` in bytes, of this machine; `planning` is
    held from a look at what is free until what is planned has been added. A lost replica counts as long as its process
    lives."""

    def __init__(self, free: Callable[[], int], total: Callable[[], int]) -> None:
        self._free = free
        self._total = total
        self._takers: set[Taker] = set()
        self.planning = asyncio.Lock()

    def add(self, taker: Taker) -> None:
        self._takers.add(taker)

    def remove(self, taker: Taker) -> None:
        self._takers.discard(taker)

    async def free(self) -> int:
        """Return the bytes that are neither taken nor promised."""
        takers = list(self._takers)
        return await asyncio.to_thread(lambda: max(0, self._free() - sum(map(_owed, takers))))

    def check_possible(self, plan: MemoryPlan | None) -> None:
        """Raises ModelTooLarge for what would not fit if nothing else ran."""
        there = self._total()
        if plan is not None and plan.total > there:
            raise ModelTooLarge(needed=gib(plan.total), parts=plan, there=gib(there))


async def why_not(plan: MemoryPlan | None, free: int, ready: Iterable[Taker], starting: int) -> str | None:
    """Return why a replica of this plan cannot be launched. Without a plan it needs what the largest that runs has
    taken; the first of a deployment is then let try."""
    if plan is not None:
        return None if plan.total <= free else _insufficient_memory(plan.total, free, f" ({plan})")
    taken = await asyncio.to_thread(lambda: max((taker.use().resident for taker in ready), default=0))
    left = max(0, free - starting * taken)
    return _insufficient_memory(taken, left, "") if taken > left else None


def _owed(taker: Taker) -> int:
    plan = taker.plan
    return 0 if plan is None else max(0, plan.total - taker.use().private)


def _insufficient_memory(needed: int, free: int, parts: str) -> str:
    return (
        f"a replica needs {gib(needed)} GiB of memory{parts} and {gib(free)} GiB are free. Stop an endpoint, or lower"
        " max_replicas"
    )
