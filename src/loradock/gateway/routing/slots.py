"""Turns between adapters at a replica whose engine would let one wait for ever."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Waiter:
    name: str
    since: float
    admitted: asyncio.Event = field(default_factory=asyncio.Event)


class Turn:
    """The time of one request at a slot."""

    __slots__ = ("_name", "_slots")

    def __init__(self, slots: "Slots", name: str) -> None:
        self._slots = slots
        self._name = name

    async def __aenter__(self) -> None:
        await self._slots.enter(self._name)

    async def __aexit__(self, *_: object) -> None:
        self._slots.leave(self._name)


class Slots:
    """Lets at most `count` adapters have requests at the replica. vLLM serves those that have a slot, however long
    others wait for one (docs/vllm.md); here who comes for the others waits in line.

    Adapters with a slot are let in past the line until its first has waited `patience` seconds, then nobody is: the
    first gets in when one of the adapters ahead of it has answered all that it was asked. So everybody's wait has a
    bound, and the slots change hands only under pressure.
    """

    def __init__(self, count: int, patience: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._patience = patience
        self._clock = clock
        self._at_work: Counter[str] = Counter()
        self._line: deque[_Waiter] = deque()

    def hold(self, name: str) -> "Turn":
        """Runs the block when it is the turn of the adapter `name`."""
        return Turn(self, name)

    async def enter(self, name: str) -> None:
        if self._may_pass(name):
            self._at_work[name] += 1
        else:
            await self._queue(name)

    def leave(self, name: str) -> None:
        self._at_work[name] -= 1
        if not self._at_work[name]:
            del self._at_work[name]
        self._admit()

    def _may_pass(self, name: str) -> bool:
        pressing = bool(self._line) and self._clock() - self._line[0].since >= self._patience
        return self._has_room(name) and not pressing

    def _has_room(self, name: str) -> bool:
        return name in self._at_work or len(self._at_work) < self._count

    async def _queue(self, name: str) -> None:
        waiter = _Waiter(name, self._clock())
        self._line.append(waiter)
        try:
            await waiter.admitted.wait()
        except asyncio.CancelledError:
            if waiter.admitted.is_set():
                self.leave(name)
            else:
                self._line.remove(waiter)
                self._admit()
            raise

    def _admit(self) -> None:
        while self._line and self._has_room(self._line[0].name):
            waiter = self._line.popleft()
            self._at_work[waiter.name] += 1
            waiter.admitted.set()
