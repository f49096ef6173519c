"""Single models, and how many there are."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from loradock.store.tables import Model
from loradock.types.enums import ModelKind, ModelState


def model_by_id(session: Session, model_id: str) -> Model | None:
    return session.get(Model, model_id)


def count_ready_adapters(session: Session, account_id: str) -> int:
    own = Model.account_id == account_id, Model.kind == ModelKind.ADAPTER, Model.state == ModelState.READY
    return session.scalar(select(func.count()).select_from(Model).where(*own)) or 0


def count_for_base(session: Session, account_id: str, base: str) -> int:
    """Return how many of the account's models are for this base model."""
    query = select(func.count()).select_from(Model).where(Model.base_model == base)
    return session.scalar(query.where(Model.account_id == account_id)) or 0
