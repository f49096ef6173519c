import pytest

from loradock.store.accounts import create_key, digest, ensure_key, list_keys, revoke_key, valid_key
from loradock.types.errors import BadRequest, NotFound
from tests.databases import open_database


@pytest.fixture
def session(tmp_path):
    database = open_database(tmp_path / "loradock.db")
    with database.session() as session:
        yield session
    database.close()


def test_a_key_is_stored_hashed_and_opens_its_account(session):
    key, plain = create_key(session, "acme", "ci")
    assert valid_key(session, plain).account.slug == "acme"
    assert key.digest == digest(plain)
    assert plain not in {str(value) for value in vars(key).values()}
    assert plain.endswith(key.hint)
    assert valid_key(session, plain + "x") is None


def test_keys_are_unlike_each_other_and_accounts_are_shared(session):
    (first, one), (second, two) = create_key(session, "acme", "a"), create_key(session, "acme", "b")
    assert one != two
    assert first.account is second.account
    create_key(session, "other", "c")
    assert [key.name for key in list_keys(session, "acme")] == ["a", "b"]
    assert len(list_keys(session)) == 3


def test_a_revoked_key_opens_nothing_until_it_is_fixed_again(session):
    key, plain = create_key(session, "acme", "ci")
    when = revoke_key(session, key.id).revoked_at
    assert valid_key(session, plain) is None
    assert revoke_key(session, key.id).revoked_at == when
    ensure_key(session, "acme", "ci", plain)
    assert valid_key(session, plain).account.slug == "acme"


def test_wrong_names_are_refused(session):
    with pytest.raises(BadRequest, match="lower-case"):
        create_key(session, "Not A Slug", "x")
    with pytest.raises(NotFound, match="loradock keys list"):
        revoke_key(session, "key_none")
