"""Who did what when: the actor follows tasks and threads, and pages come newest first."""

import asyncio

import pytest

from loradock.store.accounts import create_key, ensure_account, find_key, revoke_key
from loradock.store.actor import ACTOR
from loradock.store.events import list_events, record
from loradock.types.errors import NotFound
from tests.databases import open_database


@pytest.fixture
def database(tmp_path):
    database = open_database(tmp_path / "loradock.db")
    yield database
    database.close()


async def test_the_actor_goes_along_and_not_beyond(database):
    def note(what):
        with database.session() as session:
            record(session, ensure_account(session, "acme").id, what, "test", what)

    async def request():
        ACTOR.set("ci …x3Fa")
        await asyncio.create_task(asyncio.to_thread(note, "asked"))

    await asyncio.create_task(request())
    note("by itself")
    with database.session() as session:
        found = list_events(session, ensure_account(session, "acme").id)
        assert [(event.message, event.actor) for event in found] == [("by itself", "loradock"), ("asked", "ci …x3Fa")]


def test_pages_and_subjects_and_accounts(database):
    with database.session() as session:
        acme, other = (ensure_account(session, slug).id for slug in ("acme", "other"))
        for number in range(5):
            record(session, acme, f"s{number % 2}", "test", str(number))
        record(session, other, "s0", "test", "secret")
        first = list_events(session, acme, limit=2)
        assert [event.message for event in first] == ["4", "3"]
        assert [event.message for event in list_events(session, acme, before_id=first[-1].id)] == ["2", "1", "0"]
        assert [event.message for event in list_events(session, acme, subject_id="s1")] == ["3", "1"]


def test_keys_leave_events_and_are_their_own_accounts_only(database):
    with database.session() as session:
        key = create_key(session, "acme", "ci")[0]
        stranger = ensure_account(session, "other").id
        with pytest.raises(NotFound):
            find_key(session, stranger, key.id)
        for _ in range(2):
            revoke_key(session, find_key(session, key.account_id, key.id).id)
        kinds = [event.kind for event in list_events(session, key.account_id, subject_id=key.id)]
        assert kinds == ["key.revoked", "key.created"]
