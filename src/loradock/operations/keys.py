"""Make and revoke API keys."""

from starlette.concurrency import run_in_threadpool

from loradock.operations.access import key_for, own, require
from loradock.operations.services import Services
from loradock.store.accounts import create_key, revoke_key
from loradock.types.access import Action, Actor, ResourceKind


async def create(services: Services, actor: Actor, name: str) -> str:
    """Returns its text, which is kept nowhere."""
    require(actor, Action.CREATE, own(actor, ResourceKind.KEY))

    def write() -> str:
        with services.database.session() as session:
            return create_key(session, actor.account, name)[1]

    plain = await run_in_threadpool(write)
    services.keys.forget()
    return plain


async def revoke(services: Services, actor: Actor, key_id: str) -> None:
    """Raises NotFound."""

    def write() -> None:
        with services.database.session(make_room=True) as session:
            revoke_key(session, key_for(session, actor, Action.DELETE, key_id).id)

    await run_in_threadpool(write)
    services.keys.forget()
