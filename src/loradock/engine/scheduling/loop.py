"""The compute thread: step after step, taking orders only between two steps."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from loradock.engine.core import Logits, Row
from loradock.engine.generation.generation import Generation
from loradock.engine.generation.sampling import Sampler
from loradock.engine.models.runner import Runner
from loradock.engine.runtime.threads import thread_seconds
from loradock.engine.scheduling.next_tokens import NextTokens
from loradock.engine.scheduling.open_generations import Deliver, OpenGenerations
from loradock.engine.scheduling.orders import Orders
from loradock.engine.scheduling.scheduler import Scheduler
from loradock.types.errors import Internal, Unavailable

log = logging.getLogger(__name__)

Result = TypeVar("Result")
MAX_FAILURES = 5
_REST_S, _KEPT_S = 30.0, 600.0
"""The seconds of idleness after which unused memory is given back, and for which known blocks are kept unused."""


class EngineLoop:
    """`deliver` is called on the compute thread with a step's events, `on_fatal` when it cannot go on. `beats` counts
    steps and orders carried out: it stands still when the compute thread is stuck, or idle."""

    def __init__(self, runner: Runner, scheduler: Scheduler, deliver: Deliver, on_fatal: Callable[[str], None]) -> None:
        self.runner = runner
        self.scheduler = scheduler
        self._on_fatal = on_fatal
        sampler = Sampler()
        self._generations = OpenGenerations(scheduler, deliver, sampler.forget)
        self._next_tokens = NextTokens(scheduler, sampler, self._generations)
        self._orders = Orders()
        self.steps = 0
        self.beats = 0
        self.taken = 0
        """The number of generations taken over from other threads."""
        self._failures = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)

    @property
    def waiting(self) -> int:
        return self.scheduler.waiting_count

    @property
    def running(self) -> int:
        return len(self.scheduler.running)

    @property
    def generated_tokens(self) -> int:
        return self._next_tokens.count

    @property
    def work(self) -> int:
        """Generations, and orders, that wait for the compute thread or are what it is at. From any thread."""
        return len(self._generations) + len(self._orders)

    @property
    def compute_seconds(self) -> float:
        """Processor time of the compute thread: also a step that takes long moves it. From any thread."""
        return thread_seconds(self._thread.native_id)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End after the current step; whoever is still waiting gets an error."""
        self._orders.put(self._stop)
        self._thread.join(timeout)

    def submit(self, generations: list[Generation]) -> None:
        """Generations of one prompt."""
        self._orders.put(lambda: self._add(generations))

    def abort(self, generations: list[Generation]) -> None:
        """Drop them before the next step, sending nothing."""
        self._orders.put(lambda: self._drop(generations))

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run something on the compute thread between two steps."""
        return self._orders.call(function)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take_orders()
                self._step()
                self._generations.flush()
        except BaseException as error:
            log.exception("the compute thread failed")
            self._generations.fail_all(Internal(f"the engine stopped: {error}"))
            self._on_fatal(f"the compute thread failed: {type(error).__name__}: {error}")
        self._generations.flush()

    def _take_orders(self) -> None:
        idle = not self._generations
        while not self._stopping:
            if self._orders.carry_out(_REST_S if idle else None):
                self.beats += 1
                idle = False
            elif idle:
                self._rest()
            else:
                return

    def _rest(self) -> None:
        """Give unused memory back: nobody has wanted anything for a while, so it costs no one a step."""
        if given := self.scheduler.cache.give_back(_KEPT_S):
            log.info("idle: %d MiB of the KV cache are given back", given >> 20)

    def _stop(self) -> None:
        self._stopping = True
        self._generations.fail_all(Unavailable("the engine is shutting down"))

    def _step(self) -> None:
        rows = self.scheduler.schedule()
        if not rows:
            return
        generations = self._generations.of(rows)
        for row, generation in zip(rows, generations, strict=True):
            if generation.cached is None:
                generation.cached = row.sequence.computed
        logits = self._compute(rows, generations)
        if logits is not None:
            self.steps += 1
            self.beats += 1
            try:
                self._next_tokens.advance(rows, generations, logits)
            except Exception:  # in what is done for all: no request's fault, and no reason to end the engine
                log.exception("the tokens of a step of %d sequences cannot be chosen", len(rows))
                self._generations.fail(
                    generations, Internal("this step's tokens could not be chosen; send the request again")
                )

    def _compute(self, rows: list[Row], generations: list[Generation]) -> Logits | None:
        """None when the model itself failed: only that counts against the engine, and everyone in the step fails."""
        try:
            begun = time.perf_counter()
            logits = self.runner.step(rows)
            self.scheduler.record(rows, time.perf_counter() - begun)
            self._failures = 0
        except Exception as error:
            log.exception("a step of %d sequences failed", len(rows))
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise
            self._generations.fail(
                generations, Internal(f"the engine failed on this request: {type(error).__name__}: {error}")
            )
            return None
        return logits

    def _add(self, generations: list[Generation]) -> None:
        self._generations.add(generations)
        self.taken += len(generations)

    def _drop(self, generations: list[Generation]) -> None:
        for generation in generations:
            self._generations.drop(generation)
