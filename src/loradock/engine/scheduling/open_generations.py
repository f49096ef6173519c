"""The generations that have not ended, and what their clients are to be told after the step."""

from collections.abc import Callable, Iterable

from loradock.engine.core import Row, Sequence
from loradock.engine.generation.generation import Ended, Event, Generation
from loradock.engine.scheduling.scheduler import Scheduler
from loradock.types.errors import LoradockError

Deliver = Callable[[list[tuple[Generation, Event]]], object]


class OpenGenerations:
    """`deliver` is called with all events of a step, `forget` with each sequence that ends. Only the compute thread
    changes anything here."""

    def __init__(self, scheduler: Scheduler, deliver: Deliver, forget: Callable[[Sequence], object]) -> None:
        self._scheduler = scheduler
        self._deliver = deliver
        self._forget = forget
        self._open: dict[int, Generation] = {}
        self._events: list[tuple[Generation, Event]] = []

    def __len__(self) -> int:
        """Return how many are open. From any thread."""
        return len(self._open)

    def __contains__(self, generation: Generation) -> bool:
        return generation.sequence.id in self._open

    def of(self, rows: list[Row]) -> list[Generation]:
        return [self._open[row.sequence.id] for row in rows]

    def add(self, generations: list[Generation]) -> None:
        """Generations of one prompt."""
        self._open.update((g.sequence.id, g) for g in generations)
        self._scheduler.add([g.sequence for g in generations])

    def drop(self, generation: Generation) -> None:
        """Drop a generation without a word to its client."""
        if self._open.pop(generation.sequence.id, None):
            self._scheduler.remove(generation.sequence)
            self._forget(generation.sequence)

    def end(self, generation: Generation, event: Event) -> None:
        """End a generation with its last event."""
        self.drop(generation)
        self.emit(generation, event)

    def fail(self, generations: Iterable[Generation], error: LoradockError) -> None:
        """End those that have not ended yet."""
        for generation in list(generations):
            if generation in self:
                self.end(generation, Ended(error))

    def fail_all(self, error: LoradockError) -> None:
        self.fail(self._open.values(), error)

    def emit(self, generation: Generation, event: Event) -> None:
        self._events.append((generation, event))

    def flush(self) -> None:
        """Deliver what has been emitted."""
        if self._events:
            events = self._events
            self._events = []
            self._deliver(events)
