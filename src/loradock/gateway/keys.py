"""Bearer key → account, from memory on the hot path."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from loradock.store.accounts import digest, valid_key
from loradock.store.database import Database
from loradock.types.errors import Unauthenticated

CALLER = "loradock.caller"
"""Key of an ASGI scope whose caller is known already. Scopes are ours: no client can write there."""


@dataclass(frozen=True, slots=True)
class Caller:
    account_id: str
    account: str
    """The account's slug."""
    key_id: str
    key_name: str
    """The key's name and hint: who acts, where it is told."""


class KeyCache:
    """Remembers at most `size` keys, unknown ones too, for `lifetime` seconds.

    The lifetime bounds how long a key revoked by another process is still taken.
    """

    def __init__(self, database: Database, *, lifetime: float = 2.0, size: int = 4096) -> None:
        self._database = database
        self._lifetime = lifetime
        self._size = size
        self._known: OrderedDict[str, tuple[float, Caller | None]] = OrderedDict()

    async def caller(self, authorization: str) -> Caller:
        """`authorization` is the header's value, `Bearer <key>`. Raises Unauthenticated."""
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated
        known_as = digest(key)
        expires, caller = self._known.get(known_as, (0.0, None))
        if expires < time.monotonic():
            caller = await asyncio.to_thread(self._look_up, key)
            self._remember(known_as, caller)
        if caller is None:
            raise Unauthenticated
        return caller

    def forget(self) -> None:
        """Call after a key was made or revoked."""
        self._known.clear()

    def _look_up(self, key: str) -> Caller | None:
        with self._database.session() as session:
            found = valid_key(session, key)
            return Caller(found.account.id, found.account.slug, found.id, found.label) if found else None

    def _remember(self, known_as: str, caller: Caller | None) -> None:
        self._known[known_as] = (time.monotonic() + self._lifetime, caller)
        self._known.move_to_end(known_as)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
