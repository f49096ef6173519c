"""The adapters held in memory: read from disk at the first request, dropped again when others need the room."""

import asyncio
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from loradock.engine.adapters.lora import LoadedAdapter

Check = Callable[[Path], None]
Read = Callable[[str, Path], LoadedAdapter]
Forget = Callable[[LoadedAdapter], Awaitable[None]]
# More at a time would take the processor from the compute thread; fewer would let one slow read hold up all.
CONCURRENT_READS = 2
_NICE = 10


@dataclass(eq=False)
class Registered:
    """A name and the folder behind it; `adapter` is None while it is only on disk.

    `users` counts requests that run on it or wait for it: with any, it is not dropped.
    """

    name: str
    path: Path
    adapter: LoadedAdapter | None = None
    users: int = 0
    reading: "asyncio.Task[LoadedAdapter] | None" = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()


class AdapterMemory:
    """Keeps at most `max_adapters` adapters and `max_bytes` bytes of them, dropping the least recently used first.

    Adapters with users are never dropped: when they alone are over a limit, it is exceeded until requests end,
    rather than one request waiting on the end of others. Lives on the event loop's thread.
    """

    def __init__(self, check: Check, read: Read, forget: Forget, *, max_adapters: int, max_bytes: int) -> None:
        self.check = check
        self._read = read
        self._forget = forget
        self._max_adapters = max_adapters
        self._max_bytes = max_bytes
        self._unused: OrderedDict[Registered, None] = OrderedDict()
        self._readers = ThreadPoolExecutor(CONCURRENT_READS, "read", initializer=_yield_to_others)
        self._forgetting: set[asyncio.Task[None]] = set()
        self._count = self._bytes = 0
        self.reads = 0

    def pin(self, entry: Registered) -> None:
        entry.users += 1
        entry.idle.clear()
        self._unused.pop(entry, None)

    def release(self, entry: Registered) -> None:
        entry.users -= 1
        if entry.users == 0:
            entry.idle.set()
            self._settle(entry)

    async def ensure_loaded(self, entry: Registered) -> LoadedAdapter:
        """The adapter of a held entry; those who want the same one share a read. Raises AdapterRefused."""
        if entry.adapter is not None:
            return entry.adapter
        if entry.reading is None:
            entry.reading = asyncio.create_task(self._bring(entry))
            entry.reading.add_done_callback(_retrieve)
        return await asyncio.shield(entry.reading)

    async def drop(self, entry: Registered) -> None:
        """Free an idle entry's memory, also when a read that nobody waits for any more is still going on."""
        if entry.reading is not None:
            await asyncio.wait([entry.reading])
        self._evict(entry)
        if self._forgetting:
            await asyncio.wait(set(self._forgetting))

    async def _bring(self, entry: Registered) -> LoadedAdapter:
        self._count += 1
        self._evict_lru()
        try:
            adapter = await asyncio.wrap_future(self._readers.submit(self._read, entry.name, entry.path))
        except BaseException:
            self._count -= 1
            raise
        finally:
            entry.reading = None
        entry.adapter = adapter
        self._bytes += adapter.bytes
        self.reads += 1
        self._settle(entry)
        return adapter

    def _settle(self, entry: Registered) -> None:
        if entry.adapter is not None and entry.users == 0:
            self._unused[entry] = None
        self._evict_lru()

    def _evict_lru(self) -> None:
        while self._unused and (self._count > self._max_adapters or self._bytes > self._max_bytes):
            self._evict(next(iter(self._unused)))

    def _evict(self, entry: Registered) -> None:
        adapter, entry.adapter = entry.adapter, None
        self._unused.pop(entry, None)
        if adapter is None:
            return
        self._count -= 1
        self._bytes -= adapter.bytes
        # Only between two steps: the compute thread keeps copies of what it used last.
        task = asyncio.ensure_future(self._forget(adapter))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)


def _yield_to_others() -> None:
    """A reading thread leaves the processors to the compute thread: nobody waits for it as all wait for that."""
    if sys.platform == "linux":  # elsewhere niceness is a process's, not a thread's
        niceness = max(_NICE, os.getpriority(os.PRIO_PROCESS, 0))
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def _retrieve(task: "asyncio.Task[LoadedAdapter]") -> None:
    """Retrieve the task's exception, if any: all who waited for the read may have left."""
    if not task.cancelled():
        task.exception()
