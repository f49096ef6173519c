"""A replica as the gateway sees it: an address and what is in flight there."""

import asyncio
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

from loradock.gateway.routing.slots import Slots
from loradock.types.enums import Fate

_TOGETHER_S = 5.0
"""Connections that break within this time break for the same reason."""


class Lease:
    """A request in flight. (A generator would cost a request as much as its metering.)"""

    __slots__ = ("_name", "_upstream")

    def __init__(self, upstream: "Upstream", name: str) -> None:
        self._upstream = upstream
        self._name = name

    def __enter__(self) -> None:
        self._upstream.begin(self._name)

    def __exit__(self, *_: object) -> None:
        self._upstream.end(self._name)


class Upstream:
    """`address` is the replica's base URL, `http://host:port`. In-flight requests are counted per engine-side model
    name; `accepted` counts all that ever came."""

    def __init__(self, replica_id: str, address: str, secret: str) -> None:
        self.replica_id = replica_id
        self.address = address
        self.host = address.removeprefix("http://").encode()
        self.authorization = f"Bearer {secret}".encode()
        self.in_flight = 0
        self.accepted = 0
        self.fate: Fate | None = None
        """The fate of the replica, once it is lost."""
        self._broken_at = -_TOGETHER_S
        self._broken_with = 0
        self._by_name: Counter[str] = Counter()
        self._released = asyncio.Event()
        self._lost = asyncio.Event()
        self._slots: Slots | None = None
        self.vllm = False
        """Whether requests have to be put in vLLM's words."""

    def lose(self, fate: Fate) -> None:
        """Note that it is lost; what is learnt first holds."""
        self.fate = self.fate or fate
        self._lost.set()

    async def fate_within(self, seconds: float) -> Fate | None:
        """Return what became of it, if that is learnt in this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._lost.wait()
        return self.fate

    def broke(self) -> int:
        """A request's connection has broken while it is in flight: how many were when the first of them did."""
        now = time.monotonic()
        if now - self._broken_at > _TOGETHER_S:
            self._broken_at = now
            self._broken_with = self.in_flight
        return self._broken_with

    def share(self, slots: int) -> None:
        """Adapters take turns at this many slots from now on."""
        self._slots = self._slots or Slots(slots)

    def turn(self, adapter: str | None) -> AbstractAsyncContextManager[None]:
        """Waits for the adapter's turn, where they take turns; the base model (None) needs no slot."""
        return nullcontext() if self._slots is None or adapter is None else self._slots.hold(adapter)

    def lease(self, name: str) -> "Lease":
        """Count one request to `name` while the block runs."""
        return Lease(self, name)

    def begin(self, name: str) -> None:
        self.in_flight += 1
        self.accepted += 1
        self._by_name[name] += 1

    def end(self, name: str) -> None:
        self.in_flight -= 1
        self._by_name[name] -= 1
        self._released.set()

    def busy(self, name: str | None = None) -> int:
        """Requests in flight, of one name or of all."""
        return self.in_flight if name is None else self._by_name[name]

    async def drained(self, name: str | None = None) -> None:
        """Return once nothing is in flight, of one name or at all."""
        while self.busy(name):
            self._released.clear()
            await self._released.wait()
        if name is not None:
            self._by_name.pop(name, None)
