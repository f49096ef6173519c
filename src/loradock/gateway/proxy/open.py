"""All requests under way: those that wait are told that nobody has forgotten them, those that must not go on end."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from loradock.gateway.proxy.exchange import Exchange
from loradock.types.errors import KeyRevoked, LoradockError

_TICK_S = 0.5
_ASK_EVERY_S = 2.0
Revoked = Callable[[set[str]], Awaitable[set[str]]]
"""A function that tells which of some keys (by id) are valid no more."""


class OpenExchanges:
    """`keep_alive`: after how many quiet seconds a stream is sent a comment; 0: never. One clock looks after all, and
    stands still while there is none."""

    def __init__(self, keep_alive: float, revoked: Revoked | None) -> None:
        self._keep_alive = keep_alive
        self._revoked = revoked
        self._tick_s = min(_TICK_S, keep_alive / 2) if keep_alive else _TICK_S
        self._open: set[Exchange] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._asked_at = 0.0
        self._asking: asyncio.Task[None] | None = None

    def add(self, exchange: Exchange) -> None:
        self._open.add(exchange)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def remove(self, exchange: Exchange) -> None:
        exchange.over = True
        self._open.discard(exchange)

    def end(self, error: LoradockError) -> None:
        """End all of them."""
        for exchange in self._open:
            exchange.end(error)

    def _tick(self) -> None:
        now = monotonic()
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick) if self._open else None
        if self._keep_alive:
            for exchange in self._open:
                exchange.comment_if_quiet(now - self._keep_alive)
        if self._revoked is not None and self._open and self._asking is None and now - self._asked_at > _ASK_EVERY_S:
            self._asked_at = now
            self._asking = asyncio.create_task(self._end_revoked(self._revoked))

    async def _end_revoked(self, revoked: Revoked) -> None:
        try:
            gone = await revoked({exchange.key_id for exchange in self._open})
        finally:
            self._asking = None
        for exchange in self._open:
            if exchange.key_id in gone:
                exchange.end(KeyRevoked())

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
