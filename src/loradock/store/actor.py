"""The actor: set where a request's key is read, and carried along by tasks and threads that start from there."""

from contextvars import ContextVar

SYSTEM = "loradock"
"""The actor of what happens by itself."""

ACTOR: ContextVar[str] = ContextVar("actor", default=SYSTEM)
"""The name under which events are recorded, e.g. `ci …x3Fa`: an API key's name and hint."""


def key_label(name: str, hint: str) -> str:
    """Return how an API key is shown."""
    return f"{name} …{hint}"


def current_actor() -> str:
    return ACTOR.get()
