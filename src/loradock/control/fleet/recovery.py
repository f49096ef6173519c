"""Recovery at the start: replicas that outlived the last server, and transactions that were cut off."""

import logging
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from loradock.replicas.launcher import Launcher
from loradock.store.database import Database
from loradock.store.events import Facts, record
from loradock.store.tables import Attachment, Deployment, Replica
from loradock.types.enums import AttachmentState, DesiredState, EndpointState

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdoptedReplica:
    replica_id: str
    deployment_id: str
    secret: str
    settings: str | None
    base_name: str


def recover(database: Database, launcher: Launcher, grace: float) -> list[AdoptedReplica]:
    """Blocks. Undoes half attaches, ends replicas nobody knows, and returns those to adopt."""
    running = launcher.running()
    with database.session(make_room=True) as session:
        recorded = set(session.scalars(select(Replica.id)))
        _undo_attaches(session)
        survivors = _reap_failed(session, running)
        _restart_later(session, {survivor.deployment_id for survivor in survivors})
    known = {survivor.replica_id for survivor in survivors}
    for stray in running - known:
        if instance := launcher.find(stray):
            _log.warning("ending replica %s: no endpoint wants it", stray)
            instance.terminate(grace)
    for left in launcher.remains() - known:
        if left in recorded:
            launcher.discard(left)
        else:  # of a lost replica, or one that a newer or another database knows
            launcher.set_aside(left)
    return survivors


def _undo_attaches(session: Session) -> None:
    """The adapter itself is unloaded by its replica's supervisor, which finds it without a row."""
    for row in session.scalars(select(Attachment).where(Attachment.state == AttachmentState.ATTACHING)):
        account_id = row.deployment.endpoint.account_id
        endpoint = row.deployment.endpoint
        record(
            session,
            account_id,
            row.model_id,
            "attach.undone",
            "the server was cut off while attaching",
            endpoint_id=endpoint.id,
            facts=Facts(adapter=row.engine_name, endpoint=endpoint.name),
        )
        session.delete(row)


def _reap_failed(session: Session, running: set[str]) -> list[AdoptedReplica]:
    session.execute(delete(Replica).where(Replica.id.not_in(running)))
    rows = session.scalars(select(Replica))
    return [
        AdoptedReplica(row.id, row.deployment_id, row.secret, row.settings, row.deployment.endpoint.name)
        for row in rows
    ]


def _restart_later(session: Session, alive: set[str]) -> None:
    query = select(Deployment).where(
        Deployment.desired == DesiredState.STARTED,
        Deployment.state != EndpointState.ERROR,
        Deployment.id.not_in(alive),
    )
    for deployment in session.scalars(query):
        deployment.state = EndpointState.PENDING
        deployment.message = None
