"""Tells which adapters one replica holds, and makes that what is wanted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from loradock.control.work import Locks
from loradock.replicas.client import ReplicaClient
from loradock.types.errors import LoradockError, ReplicaLost

_log = logging.getLogger(__name__)
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """Engine name → folder of what ought to be there. `leaving`: what a detach still drains, left alone."""

    attached: dict[str, Path]
    leaving: frozenset[str] = frozenset()


ReadWanted = Callable[[str | None], Awaitable[Wanted]]
"""Reads what is wanted now: of everything, or of one engine name."""

Turn = Callable[[str], AbstractAsyncContextManager[None]]
"""Waits for the turn of an adapter, where adapters take turns."""


class Residency:
    """`held`: engine name → folder of what is there. `refused`: what the engine would not take, and why. `version`
    counts what has happened to the two."""

    def __init__(
        self, client: ReplicaClient, locks: Locks, wanted: ReadWanted, turn: Turn = lambda _: nullcontext()
    ) -> None:
        self.held: dict[str, Path] = {}
        self.refused: dict[str, str] = {}
        self._client = client
        self._locks = locks
        self._wanted = wanted
        self._turn = turn
        self._certain = False
        self.version = 0

    async def load(self, name: str, path: Path, *, lazy: bool = False) -> None:
        """`lazy`: its first request may read it. Raises AdapterRefused; or ReplicaLost, which leaves it open whether
        it is there."""
        with self._change():
            if self.held.get(name, path) != path:
                await self.unload(name)
            await self._client.load(name, path, lazy=lazy)
            self.held[name] = path
            self.refused.pop(name, None)

    async def unload(self, name: str) -> None:
        with self._change():
            await self._client.unload(name)
            self.held.pop(name, None)

    async def probe(self, name: str) -> None:
        """Compute one token through an adapter, when it is its turn. Raises AdapterRefused."""
        async with self._turn(name):
            await self._client.probe(name)

    async def probe_base(self, name: str) -> None:
        """Compute one token through the base model, by its name."""
        await self._client.probe(name)

    async def refresh(self) -> None:
        """Ask the engine what it holds; again, if a load or unload ended while it was answering."""
        asked_at = None
        while asked_at != self.version:
            asked_at = self.version
            listed = await self._client.adapters()
        held = {name: Path(path) for name, path in listed.items()}
        if held != self.held:
            self.held, self.version = held, self.version + 1
        self._certain = True

    async def sync_adapters(self) -> bool:
        """Make resident what is wanted; whether anything was done. What is refused is not tried again here."""
        if not self._certain:
            await self.refresh()
        names = self._differences(await self._wanted(None))
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            results = await asyncio.gather(*(self._settle_locked(name) for name in batch), return_exceptions=True)
            for error in filter(None, results):
                raise error
        return bool(names)

    async def _settle_locked(self, name: str) -> None:
        # Attach and detach hold this lock: what is wanted is read again under it.
        async with self._locks[name]:
            await self._settle_one(name, await self._wanted(name))

    async def _settle_one(self, name: str, wanted: Wanted) -> None:
        path = wanted.attached.get(name)
        if path is None:
            if name in self.held and name not in wanted.leaving:
                await self.unload(name)
            return
        if self.held.get(name) == path or name in self.refused:
            return
        try:
            await self.load(name, path, lazy=True)  # it was read and probed when it was attached
        except ReplicaLost:
            raise
        except LoradockError as error:
            self.refused[name] = error.message
            self.version += 1
            _log.warning("a replica does not take %s: %s", name, error.message)

    def _differences(self, wanted: Wanted) -> list[str]:
        ours = wanted.attached
        missing = [name for name in ours if self.held.get(name) != ours[name] and name not in self.refused]
        return missing + [name for name in self.held if name not in ours and name not in wanted.leaving]

    @contextmanager
    def _change(self) -> Iterator[None]:
        """A call that did not come back may have been carried out: look again before relying on `held`."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, ReplicaLost) or not isinstance(error, LoradockError):
                self._certain = False
            raise
        finally:
            self.version += 1
