"""Tends a replica beside checking its health: makes its adapters as wanted, and asks for a token now and then."""

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from loradock.control.awake import AwakeClock
from loradock.control.options import ControlOptions
from loradock.control.replicas.residency import Residency
from loradock.gateway.routing.upstream import Upstream
from loradock.types.errors import LoradockError, ReplicaLost, Unavailable

_log = logging.getLogger(__name__)
_UP = "the engine is up and computes nothing"
_LOOK_S = 1.0


class Tending:
    """Runs one round after the other, as often as `go_on` asks; never two at a time. `begun` is called at the end of
    the first, `changed` when others should look, `wake` when a round is wanted at once. On leaving, a round is cut
    off."""

    def __init__(
        self,
        residency: Residency,
        base_name: str,
        upstream: Upstream,
        options: ControlOptions,
        awake: AwakeClock,
        changed: Callable[[], None],
        wake: Callable[[], None],
        begun: Callable[[Residency], None],
    ) -> None:
        self._residency = residency
        self._base_name = base_name
        self._upstream = upstream
        self._options = options
        self._awake = awake
        self._changed = changed
        self._wake = wake
        self._begun = begun
        self._round: asyncio.Task[None] | None = None
        self._has_begun = self._missed = False
        self._probed = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)

    def go_on(self) -> None:
        """Begin a round, unless one goes on: then another one is wanted after it. Raises what the last one has."""
        if self._round is not None and not self._round.done():
            self._missed = True
            return
        if self._round is not None:
            self._round.result()
        self._round = asyncio.create_task(self._go())
        self._round.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._missed or (not task.cancelled() and task.exception()):
            self._missed = False
            self._wake()

    async def _go(self) -> None:
        if not self._has_begun:
            await self._residency.sync_adapters()
            await self._residency.probe_base(self._base_name)
            self._has_begun = True
            self._probed = time.monotonic()
            self._begun(self._residency)
            return
        await self._settle()
        if time.monotonic() - self._probed > self._options.probe_every:
            await self._probe_when_idle()
            self._probed = time.monotonic()

    async def _settle(self) -> None:
        try:
            if await self._residency.sync_adapters():
                self._changed()
        except LoradockError as error:
            _log.warning("replica %s: %s", self._upstream.replica_id, error.message)

    async def _probe_when_idle(self) -> None:
        """A health check can be answered by an engine that computes nothing any more; not all tell of their steps."""
        if self._upstream.in_flight:
            return
        probe = asyncio.create_task(self._residency.probe_base(self._base_name))
        patience = self._options.hung_after * self._options.stretch
        deadline = self._awake.now() + patience
        try:
            while not probe.done():
                if self._awake.now() > deadline:
                    raise Unavailable(f"{_UP}: no token in {patience:.0f} s")
                await asyncio.wait([probe], timeout=_LOOK_S)
            probe.result()
        except ReplicaLost:
            raise
        except LoradockError as error:
            raise Unavailable(f"{_UP}: {error}") from error
        finally:
            probe.cancel()
