"""Transactions off the event loop, when whoever asked for one is cancelled."""

import asyncio
import threading

import pytest

from loradock.control.work import Transactions
from loradock.store.accounts import create_key
from loradock.store.tables import Account
from tests.databases import open_database


@pytest.fixture
def database(tmp_path):
    database = open_database(tmp_path / "loradock.db")
    yield database
    database.close()


class Held:
    """Work that waits to be let go before it writes."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, session) -> None:
        self.begun.set()
        self.go_on.wait()
        create_key(session, "alice", "test")


def accounts(database) -> list[str]:
    with database.session() as session:
        return [account.slug for account in session.query(Account)]


@pytest.mark.parametrize("times", [1, 2])
async def test_it_has_ended_when_its_caller_learns_of_the_cancellation(database, times):
    work = Held()
    caller = asyncio.create_task(Transactions(database)(work))
    try:
        await asyncio.to_thread(work.begun.wait)
        for _ in range(times):
            caller.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
        assert not caller.done()
    finally:
        work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert accounts(database) == ["alice"]


async def test_a_failure_after_the_cancellation_is_not_told_anew(database):
    begun, go_on = threading.Event(), threading.Event()

    def fail(_) -> None:
        begun.set()
        go_on.wait()
        raise ValueError("too late to matter")

    caller = asyncio.create_task(Transactions(database)(fail))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
