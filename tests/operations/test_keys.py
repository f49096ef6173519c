import pytest
from sqlalchemy import select

from loradock.operations.keys import create_in, readable_keys, revoke_in
from loradock.store.tables import Account
from loradock.types.access import OPERATOR, Actor
from loradock.types.errors import BadRequest, NotFound
from tests.databases import open_database


@pytest.fixture
def database(tmp_path):
    database = open_database(tmp_path / "loradock.db")
    yield database
    database.close()


@pytest.fixture
def alice(database):
    """A key of alice's, beside one of bob's."""
    with database.session() as session:
        create_in(session, OPERATOR, "bob", "bobs")
        key = create_in(session, OPERATOR, "alice", "laptop")[0]
        return Actor(key.account.id, "alice", key.id, key.label)


def test_the_data_folder_is_above_accounts(database, alice):
    with database.session() as session:
        keys = readable_keys(session, OPERATOR)
        assert [(key.account.slug, key.name) for key in keys] == [("bob", "bobs"), ("alice", "laptop")]
        for key in keys:
            revoke_in(session, OPERATOR, key.id)
        assert all(key.revoked_at for key in keys)
    with pytest.raises(NotFound, match="no key key_none; list them with"), database.session() as session:
        revoke_in(session, OPERATOR, "key_none")
    with pytest.raises(BadRequest), database.session() as session:
        create_in(session, OPERATOR, "no slug", "key")


def test_a_key_reaches_the_keys_of_its_account(database, alice):
    with database.session() as session:
        made = create_in(session, alice, alice.account, "ci")[0]
        assert [key.name for key in readable_keys(session, alice)] == ["laptop", "ci"]
        revoke_in(session, alice, made.id)
        assert [bool(key.revoked_at) for key in readable_keys(session, alice)] == [False, True]


def test_a_key_reaches_no_other_account(database, alice):
    with database.session() as session:
        foreign = next(key for key in readable_keys(session, OPERATOR) if key.account_id != alice.account_id)
        with pytest.raises(NotFound, match="in this account"):
            revoke_in(session, alice, foreign.id)
        assert foreign.revoked_at is None
    for account in ("bob", "new"):
        with pytest.raises(NotFound), database.session() as session:
            create_in(session, alice, account, "mine")
    with database.session() as session:
        assert set(session.scalars(select(Account.slug))) == {"alice", "bob"}
        assert len(readable_keys(session, OPERATOR)) == 2
