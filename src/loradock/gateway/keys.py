"""Bearer key → account, from memory on the hot path."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import select

from loradock.store.database import Database
from loradock.store.tables import Account, ApiKey
from loradock.types.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Caller:
    account_id: str
    account: str
    """The account's slug."""


def key_digest(key: str) -> str:
    """How a key is stored. Keys are random, so a plain SHA-256 is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyCache:
    """Remembers at most `size` keys, unknown ones too, for `lifetime` seconds.

    The lifetime bounds how long a key revoked by another process is still taken.
    """

    def __init__(self, database: Database, *, lifetime: float = 10.0, size: int = 4096) -> None:
        self._database = database
        self._lifetime = lifetime
        self._size = size
        self._known: OrderedDict[str, tuple[float, Caller | None]] = OrderedDict()

    async def caller(self, authorization: str) -> Caller:
        """`authorization` is the header's value, `Bearer <key>`. Raises Unauthenticated."""
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated
        digest = key_digest(key.strip())
        expires, caller = self._known.get(digest, (0.0, None))
        if expires < time.monotonic():
            caller = await asyncio.to_thread(self._look_up, digest)
            self._remember(digest, caller)
        if caller is None:
            raise Unauthenticated
        return caller

    def forget(self) -> None:
        """Call after a key was made or revoked."""
        self._known.clear()

    def _look_up(self, digest: str) -> Caller | None:
        query = select(Account).join(ApiKey).where(ApiKey.digest == digest, ApiKey.revoked_at.is_(None))
        with self._database.session() as session:
            account = session.scalar(query)
            return Caller(account.id, account.slug) if account else None

    def _remember(self, digest: str, caller: Caller | None) -> None:
        self._known[digest] = (time.monotonic() + self._lifetime, caller)
        self._known.move_to_end(digest)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
