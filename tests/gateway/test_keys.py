import asyncio
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from loradock.gateway.keys import KeyCache
from loradock.gateway.revoked import Revoked
from loradock.store.accounts import create_key, revoke_key
from loradock.types.errors import DatabaseBusy, Unauthenticated
from tests.databases import open_database
from tests.locked import locked_for_reading
from tests.rig import eventually


@pytest.fixture
def database(tmp_path):
    database = open_database(tmp_path / "keys.db", patience=0.5)
    yield database
    database.close()


@pytest.fixture
def nobody_reads(database, tmp_path):
    """To be entered while nothing is read."""

    @contextmanager
    def lock():
        database.close()
        with locked_for_reading(tmp_path / "keys.db"):
            yield

    return lock


def make(database):
    with database.session() as session:
        key, plain = create_key(session, "alice", "test")
        return key.id, plain


async def test_a_revoked_key_is_refused_once_forgotten(database):
    keys = KeyCache(database)
    key_id, plain = make(database)
    assert (await keys.actor(f"Bearer {plain}")).account == "alice"
    with database.session() as session:
        revoke_key(session, key_id)
    assert (await keys.actor(f"bearer {plain}")).account == "alice"
    keys.forget()
    with pytest.raises(Unauthenticated):
        await keys.actor(f"Bearer {plain}")


async def test_a_key_revoked_elsewhere_is_refused_after_the_lifetime(database):
    keys = KeyCache(database, lifetime=0)
    key_id, plain = make(database)
    assert await keys.actor(f"Bearer {plain}")
    with database.session() as session:
        revoke_key(session, key_id)
    with pytest.raises(Unauthenticated):
        await keys.actor(f"Bearer {plain}")


async def test_a_valid_key_goes_on_while_the_database_does_not_answer(database, nobody_reads):
    keys = KeyCache(database, lifetime=0)
    key_id, plain = make(database)
    await keys.actor(f"Bearer {plain}")
    with nobody_reads():
        for _ in range(3):
            assert (await keys.actor(f"Bearer {plain}")).account == "alice"
    with database.session() as session:
        revoke_key(session, key_id)
    await eventually(lambda: not keys._reading)
    with pytest.raises(Unauthenticated):
        await keys.actor(f"Bearer {plain}")


async def test_but_not_for_ever(database, nobody_reads):
    keys = KeyCache(database, lifetime=0, outage=0, wait=0.05)
    _, plain = make(database)
    await keys.actor(f"Bearer {plain}")
    with nobody_reads(), pytest.raises(DatabaseBusy):
        await keys.actor(f"Bearer {plain}")


async def test_an_unknown_key_is_told_that_it_cannot_be_known_now(database, nobody_reads):
    keys = KeyCache(database, wait=0.05)
    _, plain = make(database)
    with nobody_reads():
        for _ in range(2):
            with pytest.raises(DatabaseBusy):
                await keys.actor(f"Bearer {plain}")
    await eventually(lambda: not keys._reading)
    assert (await keys.actor(f"Bearer {plain}")).account == "alice"


async def test_a_key_in_use_is_read_again_in_the_background(database):
    keys = KeyCache(database, lifetime=0.4)
    key_id, plain = make(database)
    await keys.actor(f"Bearer {plain}")
    with database.session() as session:
        revoke_key(session, key_id)
    await asyncio.sleep(0.3)
    assert (await keys.actor(f"Bearer {plain}")).account == "alice"
    await eventually(lambda: not keys._reading)
    with pytest.raises(Unauthenticated):
        await keys.actor(f"Bearer {plain}")


async def test_many_requests_with_one_key_read_it_once(database):
    keys, reads = KeyCache(database), []
    _, plain = make(database)
    event.listen(database.engine, "before_cursor_execute", lambda *args: reads.append(args[2]))
    actors = await asyncio.gather(*(keys.actor(f"Bearer {plain}") for _ in range(50)))
    assert {actor.account for actor in actors} == {"alice"}
    assert len([read for read in reads if "api_keys" in read]) == 1


async def test_wrong_keys_do_not_fill_the_memory(database):
    keys = KeyCache(database, size=10)
    for number in range(30):
        with pytest.raises(Unauthenticated):
            await keys.actor(f"Bearer guess-{number}")
    assert (len(keys._known), len(keys._unknown)) == (0, 10)


async def test_wrong_keys_drive_out_none_that_is_valid(database, nobody_reads):
    keys = KeyCache(database, size=10, lifetime=60)
    _, plain = make(database)
    actor = await keys.actor(f"Bearer {plain}")
    for number in range(30):
        with pytest.raises(Unauthenticated):
            await keys.actor(f"Bearer wrong{number}")
    with nobody_reads():
        assert await keys.actor(f"Bearer {plain}") == actor


async def test_keys_revoked_elsewhere_are_found_and_a_database_that_fails_revokes_none(database):
    with database.session() as session:
        kept, gone = (create_key(session, "alice", name)[0].id for name in ("kept", "gone"))
    revoked = Revoked(database)
    assert await revoked.among({kept, gone}) == set()
    with database.session() as session:
        revoke_key(session, gone)
    assert await revoked.among({kept, gone, "key_nobodys"}) == {gone}
    with database.session() as session:
        session.execute(text("ALTER TABLE api_keys RENAME TO elsewhere"))
    assert await revoked.among({kept, gone}) == set()
