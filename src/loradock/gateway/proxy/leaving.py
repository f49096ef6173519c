"""Noticing that a client leaves while it is being answered."""

import asyncio
from collections.abc import Callable
from functools import partial

from loradock.gateway.proxy._asgi import Receive, Scope

LEFT = "loradock.left"
"""Key of an ASGI scope: the set of what is called when the client's connection ends. Servers other than ours have
none, and are asked with a task per request, which costs a tenth of all that a request does."""

Listener = Callable[[], None]


def watch(scope: Scope, receive: Receive, left: Listener) -> Callable[[], object]:
    """Have `left` called when the client leaves, once its request has been read. Returns what ends the watch."""
    listeners: set[Listener] | None = scope.get(LEFT)
    if listeners is None:
        return asyncio.create_task(_ask(receive, left)).cancel
    listeners.add(left)
    return partial(listeners.discard, left)


async def _ask(receive: Receive, left: Listener) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    left()
