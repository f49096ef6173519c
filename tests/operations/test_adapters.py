"""What an attach or a detach answers with comes with it: nothing is read, and can fail, once it is done."""

from types import SimpleNamespace

import pytest

from loradock.operations import adapters
from loradock.types.access import Actor
from loradock.types.errors import DatabaseBusy

ACTOR = Actor("acct_1", "me", "key_1", "laptop …abcd")


@pytest.mark.parametrize("call", [adapters.attach, adapters.detach])
@pytest.mark.parametrize("given", ["mine", "me/mine"])
async def test_a_database_that_is_busy_afterwards_makes_no_difference(call, given):
    called = []

    def busy():
        raise DatabaseBusy

    async def change(*what):
        called.append(what)
        return "me/mine"

    controller = SimpleNamespace(attach=change, detach=change)
    services = SimpleNamespace(database=SimpleNamespace(session=busy), controller=controller)
    assert await call(services, ACTOR, "endpoint-1", f"me/base-1:{given}") == "me/base-1:me/mine"
    assert called == [("acct_1", "endpoint-1", f"me/base-1:{given}")]
