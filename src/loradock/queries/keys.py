"""API keys as a list."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from loradock.queries.lists import Column, Found, ListQuery, cut, has_text, ordered
from loradock.store.tables import ApiKey

_COLUMNS: dict[str, Column] = {
    "created": ApiKey.created_at,
    "name": func.lower(ApiKey.name),
    "status": ApiKey.revoked_at,
}
SORTS = tuple(_COLUMNS)


def search_keys(session: Session, account_id: str, query: ListQuery, revoked: bool | None = None) -> Found[ApiKey]:
    """`revoked` None: both those that are and those that are not."""
    own = ApiKey.account_id == account_id
    wanted = [own, *has_text(query.text, (ApiKey.name, ApiKey.hint))]
    if revoked is not None:
        wanted.append(ApiKey.revoked_at.is_not(None) if revoked else ApiKey.revoked_at.is_(None))
    page = cut(select(ApiKey).where(*wanted).order_by(ordered(_COLUMNS[query.column], query), ApiKey.id), query)
    rows = session.scalars(page).all()
    total, all = (session.scalar(select(func.count(ApiKey.id)).where(*c)) or 0 for c in (wanted, [own]))
    return Found(rows, total, all)


def is_last_key(session: Session, key: ApiKey) -> bool:
    """Whether its account has no other key that is valid."""
    others = select(func.count(ApiKey.id)).where(
        ApiKey.account_id == key.account_id, ApiKey.revoked_at.is_(None), ApiKey.id != key.id
    )
    return not session.scalar(others)
