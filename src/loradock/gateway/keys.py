"""Bearer key → account, from memory on the hot path."""

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

from loradock.store.accounts import digest, valid_key
from loradock.store.database import Database
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats
from loradock.store.workers import Workers
from loradock.types.access import Actor
from loradock.types.errors import DatabaseBusy, Unauthenticated

KNOWN_ACTOR = "loradock.actor"
"""Key of an ASGI scope whose actor is known already. Scopes are ours: no client can write there."""

_log = logging.getLogger(__name__)
_THREADS = 2
_PATIENCE_S = 0.25
"""The seconds a request waits for a key to be read again that was valid when it was read last."""


@dataclass(slots=True)
class _Known:
    read: float
    actor: Actor | None


class KeyCache:
    """Remembers at most `size` keys, and as many that nobody has.

    What is older than `lifetime` seconds is read again before it counts: that bounds how long a key revoked by another
    process is still taken. Keys in use are read again in the background before that. While the database does not
    answer, a key that was valid is taken for `outage` seconds more: who holds it goes on.
    """

    def __init__(
        self, database: Database, *, lifetime: float = 2.0, size: int = 4096, outage: float = 600.0, wait: float = 5.0
    ) -> None:
        self._database = database
        self._lifetime = lifetime
        self._outage = outage
        self._wait = wait
        self._size = size
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._unknown: OrderedDict[str, _Known] = OrderedDict()
        self._reading: dict[str, asyncio.Task[_Known]] = {}
        self._workers = Workers("keys", _THREADS)
        self._repeats = Repeats(_log)

    async def actor(self, authorization: str) -> Actor:
        """`authorization` is the header's value, `Bearer <key>`. Raises Unauthenticated, and DatabaseBusy where it
        cannot be known."""
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated
        known_as = digest(key)
        known = self._known.get(known_as) or self._unknown.get(known_as)
        age = time.monotonic() - known.read if known else 0.0
        if known is None or age > self._lifetime:
            known = await self._read_again(known_as, key, known, age)
        elif age > self._lifetime / 2:
            self._read(known_as, key)
        if known.actor is None:
            raise Unauthenticated
        return known.actor

    def forget(self) -> None:
        """Call after a key was made or revoked."""
        self._known.clear()
        self._unknown.clear()
        self._reading.clear()  # what was begun before may have read what was before

    async def _read_again(self, known_as: str, key: str, before: _Known | None, age: float) -> _Known:
        usable = before is not None and before.actor is not None and age <= self._outage
        reading = self._read(known_as, key)
        await asyncio.wait({reading}, timeout=_PATIENCE_S if usable else self._wait)
        if reading.done() and not reading.cancelled() and reading.exception() is None:
            return reading.result()
        if usable and before is not None:
            return before
        raise DatabaseBusy

    def _read(self, known_as: str, key: str) -> "asyncio.Task[_Known]":
        """Start one look-up for all who wait for this key, or return the one under way."""
        reading = self._reading.get(known_as)
        if reading is None:
            reading = self._reading[known_as] = asyncio.create_task(self._look_up_once(known_as, key))
            reading.add_done_callback(lambda task: self._ended(known_as, task))
        return reading

    async def _look_up_once(self, known_as: str, key: str) -> _Known:
        began = time.monotonic()
        return _Known(began, await self._workers.run(lambda: self._look_up(key)))

    def _ended(self, known_as: str, task: "asyncio.Task[_Known]") -> None:
        current = self._reading.get(known_as) is task
        if current:
            del self._reading[known_as]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._repeats.worked("reading keys")
            if current:
                self._remember(known_as, task.result())
        else:
            self._repeats.failed("reading keys", error, traceback=not isinstance(error, DATABASE_FAILURES))

    def _look_up(self, key: str) -> Actor | None:
        with self._database.session() as session:
            found = valid_key(session, key)
            return Actor(found.account.id, found.account.slug, found.id, found.label) if found else None

    def _remember(self, known_as: str, known: _Known) -> None:
        """Apart from each other: a flood of keys that nobody has drives out none that somebody uses."""
        kept, other = (self._known, self._unknown) if known.actor else (self._unknown, self._known)
        other.pop(known_as, None)
        kept[known_as] = known
        kept.move_to_end(known_as)
        while len(kept) > self._size:
            kept.popitem(last=False)
