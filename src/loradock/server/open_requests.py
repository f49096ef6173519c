"""Requests of the API and the dashboard that are under way, so that the server's end can be told to their clients."""

import asyncio

from loradock.gateway.proxy._asgi import App, Message, Receive, Scope, Send, answer_error
from loradock.types.errors import ServerStopping


class OpenRequests:
    """ASGI, around an application. (The gateway looks after its own.)"""

    def __init__(self, app: App) -> None:
        self._app = app
        self._open: set[asyncio.Task[None]] = set()
        self._ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            return await self._app(scope, receive, send)
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self._open.add(task)
        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if not self._ending or started:
                raise
            task.uncancel()
            await answer_error(send, ServerStopping(), [])
        finally:
            self._open.discard(task)
        return None

    def end(self) -> None:
        """End them all: who has had nothing of an answer yet gets a 503."""
        self._ending = True
        for task in list(self._open):
            task.cancel()
