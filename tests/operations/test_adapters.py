"""What an attach or a detach answers with is known before anything is changed: nothing can fail afterwards."""

from types import SimpleNamespace

import pytest

from loradock.operations import adapters
from loradock.types.access import Actor
from loradock.types.errors import DatabaseBusy

ACTOR = Actor("acct_1", "me", "key_1", "laptop …abcd")


@pytest.mark.parametrize("call", [adapters.attach, adapters.detach])
async def test_a_name_that_cannot_be_read_changes_nothing(call):
    called = []

    def busy():
        raise DatabaseBusy

    async def change(*given):
        called.append(given)

    controller = SimpleNamespace(attach=change, detach=change)
    services = SimpleNamespace(database=SimpleNamespace(session=busy), controller=controller)
    with pytest.raises(DatabaseBusy):
        await call(services, ACTOR, "endpoint-1", "me/base-1:mine")
    assert called == []
