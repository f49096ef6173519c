"""Models by what people call them: in full, without the account in front, or by id."""

from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session, joinedload

from loradock.store.tables import Account, Model

_FULL_NAME = select(Account.slug + "/" + bindparam("name")).where(Account.id == bindparam("account")).scalar_subquery()
_NAMED = or_(Model.name == bindparam("name"), Model.name == _FULL_NAME, Model.id == bindparam("name"))
OWN = _NAMED & (Model.account_id.concat("") == bindparam("account"))
"""Found by its unique columns: by the account, without `concat`, a database would look through all of its models.
Takes `account`, an id, and `name`."""
BEST_FIRST = Model.name != bindparam("name"), Model.id == bindparam("name")
"""A full name before a short one, that before an id."""
_MODEL = select(Model).where(OWN).order_by(*BEST_FIRST).options(joinedload(Model.revisions))


def find_model(session: Session, account_id: str, name: str) -> Model | None:
    """The account's model of that name, with or without the account in front, or id."""
    return session.scalars(_MODEL, {"account": account_id, "name": name}).unique().first()
