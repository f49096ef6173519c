import pytest

from loradock.operations.access import require
from loradock.types.access import Action, Actor, Resource, ResourceKind, allowed
from loradock.types.errors import NotFound

ALICE = Actor("acct_alice", "alice", "key_1", "laptop …abcd")


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("kind", ResourceKind)
def test_an_account_may_do_everything_with_its_own_and_nothing_with_what_others_have(kind, action):
    own, foreign = Resource(kind, ALICE.account_id), Resource(kind, "acct_bob")
    assert allowed(ALICE, action, own)
    assert not allowed(ALICE, action, foreign)
    require(ALICE, action, own)
    with pytest.raises(NotFound) as refused:
        require(ALICE, action, foreign)
    assert refused.value.status == 404
