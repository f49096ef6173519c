"""Browser sessions: signing in with an API key, for a while. Revoking the key ends them."""

import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from loradock.store.accounts import digest, valid_key
from loradock.store.actor import key_label
from loradock.store.tables import BrowserSession, now
from loradock.types.access import Actor

LIFETIME = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The person a browser belongs to. `csrf` must come back with everything it asks to be changed."""

    account_id: str
    account: str
    """The account's slug."""
    key_id: str
    key_name: str
    key_hint: str
    csrf: str

    @property
    def actor(self) -> Actor:
        return Actor(self.account_id, self.account, self.key_id, key_label(self.key_name, self.key_hint))


def open_session(session: Session, key: str) -> str | None:
    """The cookie value of a new session, or None when the key is not valid. Sessions that have expired go."""
    found = valid_key(session, key)
    if found is None:
        return None
    session.execute(delete(BrowserSession).where(BrowserSession.expires_at < now()))
    token = secrets.token_urlsafe(32)
    session.add(
        BrowserSession(
            digest=digest(token), key_id=found.id, csrf=secrets.token_urlsafe(24), expires_at=now() + LIFETIME
        )
    )
    return token


def find_session(session: Session, token: str) -> SignedIn | None:
    """None when it has expired, was closed, or its key was revoked."""
    row = session.get(BrowserSession, digest(token))
    if row is None or row.expires_at < now() or row.key.revoked_at is not None:
        return None
    key = row.key
    return SignedIn(key.account_id, key.account.slug, key.id, key.name, key.hint, row.csrf)


def close_session(session: Session, token: str) -> None:
    session.execute(delete(BrowserSession).where(BrowserSession.digest == digest(token)))
