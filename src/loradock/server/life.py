"""The parts that begin and end with the server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError

from loradock.gateway.proxy.proxy import Gateway
from loradock.operations.services import Services
from loradock.server.housekeeping import Housekeeping
from loradock.store.failures import unusable
from loradock.types.errors import DataUnusable, LoradockError

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Life:
    """`failure`: why it could not begin, in words for whoever runs the server."""

    def __init__(self, services: Services, gateway: Gateway) -> None:
        self.failure: LoradockError | None = None
        self._services = services
        self._gateway = gateway
        settings = services.settings
        self._housekeeping = Housekeeping(
            services.database, services.blobs, settings.trash_days, settings.database_file
        )

    @asynccontextmanager
    async def __call__(self, _: object) -> AsyncIterator[None]:
        services = self._services
        with self._noted():
            services.uploads.recover()
            await services.controller.start()
        services.uploads.start()
        services.history.start()
        self._housekeeping.start()
        try:
            yield
        finally:
            await self._housekeeping.stop()
            await services.history.stop()
            # In a thread: an upload that is attaching waits for this very loop.
            await asyncio.to_thread(services.uploads.close)
            await services.controller.stop(keep_replicas=services.settings.keep_replicas)
            await self._gateway.close()

    def telling(self, send: Send) -> Send:
        """Wrap `send` of the lifespan protocol: it leaves out the traceback of a failure that has words."""

        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "lifespan.startup.failed" and self.failure is not None:
                message = {**message, "message": ""}
            await send(message)

        return told

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except LoradockError as error:
            self.failure = error
            raise
        except DBAPIError as error:
            self.failure = DataUnusable(unusable(error, self._services.settings.database_file))
            raise
