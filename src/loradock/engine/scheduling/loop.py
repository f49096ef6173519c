"""The compute thread: step after step, taking orders only between two steps."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from loradock.engine.core import FinishReason, Logits, Row
from loradock.engine.generation.generation import Ended, Event, Generation, PromptComputed, TokenSampled
from loradock.engine.generation.logprobs import TokenLogprobs, token_logprobs
from loradock.engine.generation.sampling import Sampler
from loradock.engine.models.runner import Runner
from loradock.engine.runtime.threads import thread_seconds
from loradock.engine.scheduling.scheduler import Scheduler
from loradock.types.errors import Internal, LoradockError, Unavailable

log = logging.getLogger(__name__)

Deliver = Callable[[list[tuple[Generation, Event]]], object]
Result = TypeVar("Result")
MAX_FAILURES = 5
_REST_S, _KEPT_S = 30.0, 600.0
"""How long nothing is wanted before unused memory is given back, and how long known blocks are kept unused."""


@dataclass(slots=True)
class _Ready:
    """A generation that gets a token from row `first` of the logits, and more from those behind it as long as each is
    the next of its `drafts`."""

    generation: Generation
    first: int
    drafts: list[int]
    accepted: int = 0

    @property
    def at(self) -> int:
        return self.first + self.accepted

    def accept(self) -> bool:
        """Whether the token that was sampled last is the one that the next row was computed with."""
        sequence = self.generation.sequence
        if self.accepted == len(self.drafts) or sequence.output[-1] != self.drafts[self.accepted]:
            return False
        self.accepted += 1
        sequence.computed += 1
        return True


class EngineLoop:
    """`deliver` is called on the compute thread with a step's events, `on_fatal` when it cannot go on. `beats` counts
    steps and orders carried out: it stands still when the compute thread is stuck, or idle."""

    def __init__(self, runner: Runner, scheduler: Scheduler, deliver: Deliver, on_fatal: Callable[[str], None]) -> None:
        self.runner = runner
        self.scheduler = scheduler
        self._deliver = deliver
        self._on_fatal = on_fatal
        self._sampler = Sampler()
        self._orders: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._generations: dict[int, Generation] = {}
        self._events: list[tuple[Generation, Event]] = []
        self.steps = self.generated_tokens = 0
        self.beats = self._at = 0
        self.taken = 0
        """How many generations have come over from other threads."""
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
    def work(self) -> int:
        """Generations, and orders, that wait for the compute thread or are what it is at. From any thread."""
        return len(self._generations) + self._orders.qsize() + self._at

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
        self._orders.put(lambda: self._drop_all(generations))

    def call(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run something on the compute thread between two steps."""
        future: Future[Result] = Future()
        self._orders.put(lambda: _fulfil(future, function))
        return future

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while not self._stopping:
                    self._take_orders()
                    self._step()
                    self._flush()
        except BaseException as error:
            log.exception("the compute thread failed")
            self._fail(self._generations.values(), Internal(f"the engine stopped: {error}"))
            self._on_fatal(f"the compute thread failed: {type(error).__name__}: {error}")
        self._flush()

    def _take_orders(self) -> None:
        idle = not self._generations
        while not self._stopping:
            try:
                order = self._orders.get(block=idle, timeout=_REST_S if idle else None)
            except queue.Empty:
                if not idle:
                    return
                self._rest()
                continue
            self._at = 1
            order()
            self._at = 0
            self.beats += 1
            idle = False

    def _rest(self) -> None:
        """Nobody has wanted anything for a while: now it costs no one a step."""
        if given := self.scheduler.cache.give_back(_KEPT_S):
            log.info("idle: %d MiB of the KV cache are given back", given >> 20)

    def _stop(self) -> None:
        self._stopping = True
        self._fail(self._generations.values(), Unavailable("the engine is shutting down"))

    def _step(self) -> None:
        rows = self.scheduler.schedule()
        if not rows:
            return
        generations = [self._generations[row.sequence.id] for row in rows]
        for row, generation in zip(rows, generations, strict=True):
            if generation.cached is None:
                generation.cached = row.sequence.computed
        logits = self._compute(rows, generations)
        if logits is not None:
            self.steps += 1
            self.beats += 1
            try:
                self._advance(rows, generations, logits)
            except Exception:  # in what is done for all: no request's fault, and no reason to end the engine
                log.exception("the tokens of a step of %d sequences cannot be chosen", len(rows))
                self._fail(generations, Internal("this step's tokens could not be chosen; send the request again"))

    def _compute(self, rows: list[Row], generations: list[Generation]) -> Logits | None:
        """None when the model itself failed: only that counts against the engine, and everyone in the step fails."""
        try:
            begun = time.perf_counter()
            logits = self.runner.step(rows)
            self._note(rows, time.perf_counter() - begun)
            self._failures = 0
        except Exception as error:
            log.exception("a step of %d sequences failed", len(rows))
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise
            self._fail(generations, Internal(f"the engine failed on this request: {type(error).__name__}: {error}"))
            return None
        return logits

    def _note(self, rows: list[Row], seconds: float) -> None:
        drafted = sum(len(row.drafts) for row in rows)
        decoding = sum(row.count == 1 + len(row.drafts) for row in rows)
        prompts = sum(row.count for row in rows) - decoding - drafted
        if not drafted:
            self.scheduler.pace.record(decoding, prompts, seconds)
        if not prompts:
            self.scheduler.drafter.record(decoding + drafted, seconds)
        keys = sum(row.count * (row.sequence.computed - (row.count - len(row.drafts)) // 2) for row in rows)
        self.scheduler.cost.record(sum(row.count for row in rows), keys, seconds)

    def _advance(self, rows: list[Row], generations: list[Generation], logits: Logits) -> None:
        ready: list[_Ready] = []
        end = 0
        for row, generation in zip(rows, generations, strict=True):
            end += row.logits
            if row.sequence.params.prompt_logprobs is not None and not row.sequence.output:
                values = logits.values[end - row.logits : end]
                self._alone(generation, partial(_read_prompt, generation, row, values))
            if self._runs(generation) and row.sequence.computed == len(row.sequence):
                ready.append(_Ready(generation, end - 1 - len(row.drafts), row.drafts))
        drafted = [one for one in ready if one.drafts]
        while ready:
            self._sample([one.generation for one in ready], logits.of([one.at for one in ready]))
            ready = [one for one in ready if self._runs(one.generation) and one.accept()]
        for one in drafted:
            self.scheduler.drafter.note(one.generation.sequence, len(one.drafts), one.accepted)

    def _sample(self, generations: list[Generation], found: Logits) -> None:
        usable, tokens = found.usable, dict(enumerate(found.best))
        rows = [i for i, generation in enumerate(generations) if self._may_sample(generation, finite=usable[i])]
        choosing = [i for i in rows if not generations[i].sequence.is_greedy]
        wanted = {i: found.row(i).to(torch.float32, copy=True) for i in choosing}
        drawn = {i: self._alone(generations[i], partial(self._change, generations[i], wanted[i])) for i in choosing}
        tokens |= self._together(
            generations,
            [i for i in choosing if drawn[i] is not None],
            lambda some: self._sampler.sample(
                torch.stack([wanted[i] for i in some]),
                [generations[i].sequence for i in some],
                [drawn[i] or 0.0 for i in some],
            ),
        )
        logprobs = self._together(
            generations,
            [i for i in rows if self._runs(generations[i]) and generations[i].sequence.params.logprobs is not None],
            lambda some: token_logprobs(
                found.values[some].float(),
                [tokens[i] for i in some],
                [generations[i].sequence.params.logprobs or 0 for i in some],
            ),
        )
        for i in rows:
            if self._runs(generations[i]):
                self._alone(generations[i], partial(self._append, generations[i], tokens[i], logprobs.get(i)))

    def _alone(self, generation: Generation, work: Callable[[], Result]) -> Result | None:
        """Work on what one request asked for. Whatever goes wrong in it ends that request and touches nobody else:
        nothing of a request may reach the step, or fail it. None then.
        """
        try:
            return work()
        except LoradockError as error:
            problem = error
        except BaseException:  # a panic of a library in Rust is not an Exception
            log.exception("a request cannot be carried on")
            problem = Internal("this request's answer cannot be carried on: its settings led to an error inside")
        self._fail([generation], problem)
        return None

    def _together(
        self, generations: list[Generation], some: list[int], work: Callable[[list[int]], list[Result]]
    ) -> dict[int, Result]:
        """The same for work on many at once, by their place: if it fails, each is tried alone."""
        if not some:
            return {}
        try:
            return dict(zip(some, work(some), strict=True))
        except Exception:
            log.warning("work on %d sequences failed, each is tried alone", len(some), exc_info=True)
        each = {i: self._alone(generations[i], partial(work, [i])) for i in some}
        return {i: results[0] for i, results in each.items() if results is not None}

    def _runs(self, generation: Generation) -> bool:
        return generation.sequence.id in self._generations

    def _may_sample(self, generation: Generation, *, finite: bool) -> bool:
        """Whether the row can be sampled from; otherwise its generation has ended."""
        sequence = generation.sequence
        if not sequence.output:
            self.scheduler.prompt_computed(sequence)
            self._emit(generation, PromptComputed(generation.cached or 0, generation.prompt_logprobs))
        if not finite:
            who = f"adapter {sequence.adapter.name}" if sequence.adapter else "the base model"
            self._fail([generation], Internal(f"{who} produced numbers that are not finite"))
            return False
        if sequence.params.max_tokens == 0:
            self._end(generation, Ended())
            return False
        return True

    def _change(self, generation: Generation, logits: torch.Tensor) -> float:
        """Change a row `[vocab]` by penalties, grammar and restrictions; the chance to draw from it by."""
        self._sampler.penalize(logits, generation.sequence)
        if generation.grammar:
            generation.grammar.constrain(logits)
        if generation.restrictions:
            generation.restrictions.apply(logits, generation.sequence.output)
        return self._sampler.chance(generation.sequence)

    def _append(self, generation: Generation, token: int, logprobs: TokenLogprobs | None) -> None:
        sequence = generation.sequence
        sequence.output.append(token)
        self.generated_tokens += 1
        finish = None
        stops = token in generation.stop_tokens
        if stops or _completes(generation, token):
            finish = FinishReason.STOP
        elif len(sequence.output) >= sequence.params.max_tokens:
            finish = FinishReason.LENGTH
        event = TokenSampled(token, logprobs, finish, stops)
        if finish:
            self._end(generation, event)
        else:
            self._emit(generation, event)

    def _add(self, generations: list[Generation]) -> None:
        self._generations.update((g.sequence.id, g) for g in generations)
        self.scheduler.add([g.sequence for g in generations])
        self.taken += len(generations)

    def _drop_all(self, generations: list[Generation]) -> None:
        for generation in generations:
            self._drop(generation)

    def _drop(self, generation: Generation) -> None:
        if self._generations.pop(generation.sequence.id, None):
            self.scheduler.remove(generation.sequence)
            self._sampler.forget(generation.sequence)

    def _end(self, generation: Generation, event: Event) -> None:
        self._drop(generation)
        self._emit(generation, event)

    def _fail(self, generations: Iterable[Generation], error: LoradockError) -> None:
        for generation in list(generations):
            if self._runs(generation):
                self._end(generation, Ended(error))

    def _emit(self, generation: Generation, event: Event) -> None:
        self._events.append((generation, event))

    def _flush(self) -> None:
        if self._events:
            events, self._events = self._events, []
            self._deliver(events)


def _fulfil(future: "Future[Result]", function: Callable[[], Result]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)


def _completes(generation: Generation, token: int) -> bool:
    """Move the grammar on; whether nothing can follow."""
    if generation.grammar is None:
        return False
    generation.grammar.accept(token)
    return generation.grammar.finished


def _read_prompt(generation: Generation, row: Row, logits: torch.Tensor) -> None:
    """A prompt computed again after a preemption is read only from where it was left."""
    prompt = row.sequence.prompt
    start = row.sequence.computed - row.count
    skipped = len(generation.prompt_logprobs) - start
    targets = prompt[start + 1 + skipped : start + 1 + row.count]
    if targets:
        count = row.sequence.params.prompt_logprobs or 0
        chunk = logits[skipped : skipped + len(targets)].float()
        generation.prompt_logprobs.extend(token_logprobs(chunk, targets, [count] * len(targets)))
