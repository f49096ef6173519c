"""Tells which keys were revoked, by this process or another."""

import logging

from loradock.store.accounts import revoked_among
from loradock.store.database import Database
from loradock.store.failures import DATABASE_FAILURES
from loradock.store.repeats import Repeats
from loradock.store.workers import Workers


class Revoked:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._workers = Workers("revoked", 1)
        self._repeats = Repeats(logging.getLogger(__name__))

    async def among(self, key_ids: set[str]) -> set[str]:
        """Return those of the keys (by id) that are valid no more, as far as the database answers."""

        def asked() -> set[str]:
            with self._database.session() as session:
                return revoked_among(session, key_ids)

        try:
            found = await self._workers.run(asked)
        except DATABASE_FAILURES as error:
            self._repeats.failed("Asking which keys were revoked", error)
            return set()
        self._repeats.worked("Asking which keys were revoked")
        return found
