"""Decides whether what somebody asks for is allowed: the one rule that every operation asks."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever holds an API key, is signed in with it, or works on the data folder itself (OPERATOR)."""

    account_id: str
    account: str
    """The account's slug."""
    key_id: str
    key_name: str
    """The key's name and hint: who acts, where it is told."""
    every_account: bool = False
    """Whether what any account has is like the actor's own."""


OPERATOR = Actor("", "", "", "command line", every_account=True)
"""Whoever can write the data folder, and so may do everything: no rule could keep them from it."""


class Action(StrEnum):
    """An action on a resource."""

    READ = "read"
    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    ATTACH = "attach"
    DETACH = "detach"
    CALL = "call"
    """The right to be answered by it, and to see that it can answer."""


class ResourceKind(StrEnum):
    ENDPOINT = "endpoint"
    MODEL = "model"
    JOB = "job"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that belongs to an account, or shall be made in it."""

    kind: ResourceKind
    account_id: str
    public: bool = False
    """Whether other accounts may call it."""


_OWN = frozenset(Action)
_PUBLIC = frozenset({Action.CALL})
_FOREIGN: frozenset[Action] = frozenset()


def allowed(actor: Actor, action: Action, resource: Resource) -> bool:
    """Return whether it is allowed: every key may do everything with what its account has, and nothing with what others
    have but call what is public. Whoever has every account may do everything."""
    if actor.every_account or resource.account_id == actor.account_id:
        return action in _OWN
    return action in (_PUBLIC if resource.public else _FOREIGN)
