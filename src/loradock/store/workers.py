"""Threads of one purpose each: what waits for the database holds up nothing else (docs/internals.md, "Threads")."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

from loradock.types.errors import DatabaseBusy

T = TypeVar("T")


class Workers:
    """`count` threads, begun as they are needed.

    `patience`: seconds that work may wait for a thread, if not for ever; most waits for the database when the threads
    are all taken.
    """

    def __init__(self, name: str, count: int, patience: float | None = None) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._patience = patience

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in the caller's context. Raises DatabaseBusy when no thread was free for too long.

        A caller that is cancelled is told so only once the work has ended: what it left to itself would still write
        behind the back of whoever comes next.
        """
        begun = self._threads.submit(copy_context().run, work)
        running = asyncio.wrap_future(begun)
        try:
            if self._patience is not None and not await self._begins(begun, running):
                raise DatabaseBusy
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if begun.cancel():
                raise
            while not running.done():
                with suppress(asyncio.CancelledError):  # once is enough
                    await asyncio.wait({running})
            if not running.cancelled():
                running.exception()  # seen
            raise

    def close(self) -> None:
        """Lets what runs end by itself; what has not begun is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _begins(self, begun: "Future[T]", running: "asyncio.Future[T]") -> bool:
        await asyncio.wait({running}, timeout=self._patience)
        return running.done() or not begun.cancel()
