"""Accounts and API keys. A key's plain text exists only at the moment it is made."""

import hashlib
import secrets
from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from loradock.store.events import record
from loradock.store.tables import Account, ApiKey, now
from loradock.types.errors import NotFound
from loradock.types.names import check_slug, new_id

KEY_PREFIX = "ld-"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def ensure_account(session: Session, slug: str) -> Account:
    """The account of that slug, made when missing. Raises BadRequest for an unusable slug."""
    account = session.scalar(select(Account).where(Account.slug == slug))
    if account is None:
        account = Account(id=new_id("acct"), slug=check_slug(slug))
        session.add(account)
        session.flush()
    return account


def create_key(session: Session, slug: str, name: str, plain: str | None = None) -> tuple[ApiKey, str]:
    """A new key and its plain text (`plain` fixes it)."""
    account = ensure_account(session, slug)
    plain = plain or KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(id=new_id("key"), account=account, name=name, digest=digest(plain), hint=plain[-4:])
    session.add(key)
    session.flush()
    record(session, account.id, key.id, "key.created", f"{key.label} was made")
    return key, plain


def ensure_key(session: Session, slug: str, name: str, plain: str) -> ApiKey:
    """The key with this plain text, made (or made valid again) for the account."""
    key = session.scalar(select(ApiKey).where(ApiKey.digest == digest(plain)))
    if key is None:
        return create_key(session, slug, name, plain)[0]
    key.account = ensure_account(session, slug)
    key.revoked_at = None
    return key


def list_keys(session: Session, slug: str | None = None) -> list[ApiKey]:
    query = select(ApiKey).join(Account).order_by(ApiKey.created_at)
    return list(session.scalars(query.where(Account.slug == slug) if slug else query))


def find_key(session: Session, account_id: str | None, key_id: str) -> ApiKey:
    """A key of the account, or of any for None. Raises NotFound, for another account's too."""
    key = session.get(ApiKey, key_id)
    if key is not None and account_id in (None, key.account_id):
        return key
    if account_id is None:
        raise NotFound(f"there is no key {key_id}; list them with: loradock keys list")
    raise NotFound("There is no such key in this account.")


def revoke_key(session: Session, key_id: str) -> ApiKey:
    """Raises NotFound for an unknown id. A server that runs takes the key until it is told to forget
    (gateway.keys.KeyCache) or a few seconds have passed."""
    key = find_key(session, None, key_id)
    if key.revoked_at is None:
        key.revoked_at = now()
        record(session, key.account_id, key.id, "key.revoked", f"{key.label} was revoked")
    return key


def is_revoked(session: Session, key: str) -> bool:
    return session.scalar(select(ApiKey.revoked_at).where(ApiKey.digest == digest(key))) is not None


def revoked_among(session: Session, key_ids: Collection[str]) -> set[str]:
    """Return those of the keys that were revoked."""
    query = select(ApiKey.id).where(ApiKey.id.in_(key_ids), ApiKey.revoked_at.is_not(None))
    return set(session.scalars(query))


def valid_key(session: Session, key: str) -> ApiKey | None:
    """The key with this plain text, unless it was revoked."""
    return session.scalar(select(ApiKey).where(ApiKey.digest == digest(key), ApiKey.revoked_at.is_(None)))
