"""The one rule about who may do what."""

import pytest

from loradock.types.access import OPERATOR, Action, Actor, Resource, ResourceKind, allowed

ACTOR = Actor("acct_1", "me", "key_1", "laptop …abcd")


@pytest.mark.parametrize("kind", ResourceKind)
def test_everything_is_allowed_with_what_the_account_has(kind):
    assert all(allowed(ACTOR, action, Resource(kind, "acct_1")) for action in Action)


@pytest.mark.parametrize("kind", ResourceKind)
def test_nothing_is_allowed_with_what_others_have(kind):
    assert not any(allowed(ACTOR, action, Resource(kind, "acct_2")) for action in Action)


def test_what_is_public_may_be_called_and_no_more():
    may = {action for action in Action if allowed(ACTOR, action, Resource(ResourceKind.ENDPOINT, "acct_2", True))}
    assert may == {Action.CALL}


@pytest.mark.parametrize("kind", ResourceKind)
def test_everything_is_allowed_on_the_data_folder_itself(kind):
    assert all(allowed(OPERATOR, action, Resource(kind, account)) for action in Action for account in ("acct_1", ""))
