"""The models an account has uploaded."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.registry.blobs import Blobs
from loradock.store.database import Database
from loradock.store.events import Facts, record
from loradock.store.models import find_model
from loradock.store.tables import Attachment, Deployment, Model, Revision
from loradock.types.enums import AttachmentState, ModelState
from loradock.types.errors import BadRequest, ModelMissing


def list_models(session: Session, account_id: str) -> list[Model]:
    """Newest first; those still uploading too."""
    query = select(Model).where(Model.account_id == account_id).order_by(Model.created_at.desc())
    return list(session.scalars(query))


def where_attached(session: Session, model: Model) -> str | None:
    """The name of the endpoint the adapter is attached to."""
    query = select(Attachment).where(Attachment.model_id == model.id, Attachment.state != AttachmentState.DETACHING)
    attachment = session.scalar(query)
    return attachment.deployment.endpoint.name if attachment else None


def is_held(session: Session, model: Model) -> bool:
    """Whether it is attached, or still finishes requests."""
    return session.scalar(select(Attachment.id).where(Attachment.model_id == model.id)) is not None


def delete_model(database: Database, blobs: Blobs, account_id: str, name: str) -> str:
    """Delete an own model; its files go when nothing else refers to them. Returns its name.

    Raises ModelMissing, or BadRequest when it is in use, saying where.
    """
    with blobs.lock:
        with database.session(make_room=True) as session:
            model = find_model(session, account_id, name)
            if model is None:
                raise ModelMissing(param="model")
            _check_unused(session, model)
            digests = {revision.digest for revision in model.revisions}
            gone = Facts(name=model.name)
            record(session, account_id, model.id, "model.deleted", f"{model.name} was deleted", facts=gone)
            session.delete(model)
            session.flush()
            kept = set(session.scalars(select(Revision.digest).where(Revision.digest.in_(digests))))
            deleted = model.name
        for digest in digests - kept:
            blobs.free(digest)
    return deleted


def _check_unused(session: Session, model: Model) -> None:
    if model.state is not ModelState.READY:
        raise BadRequest(f"{model.name} is still being uploaded; delete it when its job has ended")
    endpoint = where_attached(session, model)
    if endpoint is not None:
        raise BadRequest(f"{model.name} is attached to {endpoint}; remove it there first")
    if is_held(session, model):
        raise BadRequest(f"{model.name} is still finishing its last requests; try again in a moment")
    serving = session.scalar(select(Deployment).where(Deployment.base_model == model.name))
    if serving is not None:
        raise BadRequest(f"{model.name} is the base model of {serving.endpoint.name}; delete that endpoint first")
