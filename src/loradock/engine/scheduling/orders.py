"""Work that other threads want done on the compute thread."""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


class Orders:
    """A queue of orders, carried out in the order given. Any thread may give some, one carries them out."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._at = 0

    def __len__(self) -> int:
        """Return how many wait, with the one that is being carried out. From any thread."""
        return self._queue.qsize() + self._at

    def put(self, order: Callable[[], object]) -> None:
        self._queue.put(order)

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """An order whose result, or error, somebody wants."""
        future: Future[Result] = Future()
        self._queue.put(lambda: _fulfil(future, function))
        return future

    def carry_out(self, seconds: float | None) -> bool:
        """The next one. False when there is none, nor comes one within these seconds."""
        try:
            order = self._queue.get(block=seconds is not None, timeout=seconds)
        except queue.Empty:
            return False
        self._at = 1
        order()
        self._at = 0
        return True


def _fulfil(future: "Future[Result]", function: Callable[[], Result]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
