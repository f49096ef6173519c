"""Endpoints that nobody asks anything of for as long as their owners have set."""

from sqlalchemy.orm import Session

from loradock.control.snapshot import Snapshot
from loradock.endpoints.rules import set_desired
from loradock.store.events import record
from loradock.store.tables import Deployment
from loradock.types.enums import DesiredState


def stop_idle(session: Session, snapshot: Snapshot) -> None:
    """Stop an idle deployment unless the owner has set another time meanwhile."""
    minutes, facts = snapshot.inactive_timeout, snapshot.endpoint
    deployment = session.get(Deployment, snapshot.id)
    if deployment is None or deployment.inactive_timeout != minutes:
        return
    set_desired(deployment, DesiredState.STOPPED)
    record(session, facts.account_id, facts.id, "endpoint.idle", f"no request for {minutes} minutes: stopping")
