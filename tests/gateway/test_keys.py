import pytest

from loradock.gateway.keys import KeyCache
from loradock.store.accounts import create_key, revoke_key
from loradock.store.database import Database, migrate
from loradock.types.errors import Unauthenticated


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'keys.db'}")
    migrate(database.engine)
    yield database
    database.close()


def make(database):
    with database.session() as session:
        key, plain = create_key(session, "alice", "test")
        return key.id, plain


async def test_a_revoked_key_is_refused_once_forgotten(database):
    keys = KeyCache(database)
    key_id, plain = make(database)
    assert (await keys.caller(f"Bearer {plain}")).account == "alice"
    with database.session() as session:
        revoke_key(session, key_id)
    assert (await keys.caller(f"bearer {plain}")).account == "alice"
    keys.forget()
    with pytest.raises(Unauthenticated):
        await keys.caller(f"Bearer {plain}")


async def test_a_key_revoked_elsewhere_is_refused_after_the_lifetime(database):
    keys = KeyCache(database, lifetime=0)
    key_id, plain = make(database)
    assert await keys.caller(f"Bearer {plain}")
    with database.session() as session:
        revoke_key(session, key_id)
    with pytest.raises(Unauthenticated):
        await keys.caller(f"Bearer {plain}")


async def test_wrong_keys_do_not_fill_the_memory(database):
    keys = KeyCache(database, size=10)
    for number in range(30):
        with pytest.raises(Unauthenticated):
            await keys.caller(f"Bearer guess-{number}")
    assert len(keys._known) == 10
