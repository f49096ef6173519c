"""Make and revoke API keys: on a server that runs, or in a transaction on the data folder."""

from typing import TYPE_CHECKING

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from loradock.operations.access import key_for, require
from loradock.store.accounts import create_key, ensure_account, list_keys, revoke_key
from loradock.store.tables import ApiKey
from loradock.types.access import Action, Actor, Resource, ResourceKind, allowed

if TYPE_CHECKING:  # commands on the data folder do not wait for all that a server imports
    from loradock.operations.services import Services


async def create(services: "Services", actor: Actor, name: str) -> str:
    """Returns its text, which is kept nowhere."""

    def write() -> str:
        with services.database.session() as session:
            return create_in(session, actor, actor.account, name)[1]

    plain = await run_in_threadpool(write)
    services.keys.forget()
    return plain


async def revoke(services: "Services", actor: Actor, key_id: str) -> None:
    """Raises NotFound."""

    def write() -> None:
        with services.database.session(make_room=True) as session:
            revoke_in(session, actor, key_id)

    await run_in_threadpool(write)
    services.keys.forget()


def create_in(session: Session, actor: Actor, account: str, name: str) -> tuple[ApiKey, str]:
    """Make a key of the account, which is made when new. Returns it and its text.

    Raises BadRequest for an unusable name of an account.
    """
    require(actor, Action.CREATE, Resource(ResourceKind.KEY, ensure_account(session, account).id))
    return create_key(session, account, name)


def revoke_in(session: Session, actor: Actor, key_id: str) -> None:
    """Raises NotFound."""
    revoke_key(session, key_for(session, actor, Action.DELETE, key_id).id)


def readable_keys(session: Session, actor: Actor) -> list[ApiKey]:
    """List the keys that the actor may see, the oldest first."""
    return [
        key for key in list_keys(session) if allowed(actor, Action.READ, Resource(ResourceKind.KEY, key.account_id))
    ]
