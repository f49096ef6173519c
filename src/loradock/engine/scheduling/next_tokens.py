"""Chooses the next tokens of a step's generations from its logits."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from loradock.engine.core import FinishReason, Logits, Row
from loradock.engine.generation.generation import Ended, Generation, PromptComputed, TokenSampled
from loradock.engine.generation.logprobs import TokenLogprobs, token_logprobs
from loradock.engine.generation.sampling import Sampler
from loradock.engine.scheduling.open_generations import OpenGenerations
from loradock.engine.scheduling.scheduler import Scheduler
from loradock.types.errors import Internal, LoradockError

log = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
Result = TypeVar("Result")


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


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A row `[vocab]` that a token is to be chosen from, and the chance that it is drawn by."""

    logits: Array
    chance: float


class NextTokens:
    """`count` is that of all tokens generated so far."""

    def __init__(self, scheduler: Scheduler, sampler: Sampler, generations: OpenGenerations) -> None:
        self.count = 0
        self._scheduler = scheduler
        self._sampler = sampler
        self._open = generations

    def advance(self, rows: list[Row], generations: list[Generation], logits: Logits) -> None:
        """Advance the generations by the logits of a step. What one request asked for cannot fail another's, or the
        step."""
        ready: list[_Ready] = []
        end = 0
        for row, generation in zip(rows, generations, strict=True):
            end += row.logits
            if row.sequence.params.prompt_logprobs is not None and not row.sequence.output:
                values = [logits.row(i) for i in range(end - row.logits, end)]
                self._alone(generation, partial(_read_prompt, generation, row, values))
            if generation in self._open and row.sequence.computed == len(row.sequence):
                ready.append(_Ready(generation, end - 1 - len(row.drafts), row.drafts))
        drafted = [one for one in ready if one.drafts]
        while ready:
            self._sample([one.generation for one in ready], logits.of([one.at for one in ready]))
            ready = [one for one in ready if one.generation in self._open and one.accept()]
        for one in drafted:
            self._scheduler.drafter.note(one.generation.sequence, len(one.drafts), one.accepted)

    def _sample(self, generations: list[Generation], found: Logits) -> None:
        tokens = dict(enumerate(found.best))
        rows = [i for i, generation in enumerate(generations) if self._may_sample(generation, finite=found.finite[i])]
        wanted: dict[int, _Wanted] = {}
        for i in rows:
            if not generations[i].sequence.is_greedy:
                row = self._alone(generations[i], partial(self._changed, generations[i], found.row(i)))
                if row is not None:
                    wanted[i] = row
        tokens |= self._together(
            generations,
            list(wanted),
            lambda some: self._sampler.sample(
                [wanted[i].logits for i in some],
                [generations[i].sequence for i in some],
                [wanted[i].chance for i in some],
            ),
        )
        logprobs = self._together(
            generations,
            [i for i in rows if generations[i] in self._open and generations[i].sequence.params.logprobs is not None],
            lambda some: token_logprobs(
                [found.row(i) for i in some],
                [tokens[i] for i in some],
                [generations[i].sequence.params.logprobs or 0 for i in some],
            ),
        )
        for i in rows:
            if generations[i] in self._open:
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
        self._open.fail([generation], problem)
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

    def _may_sample(self, generation: Generation, *, finite: bool) -> bool:
        """Whether the row can be sampled from; otherwise its generation has ended."""
        sequence = generation.sequence
        if not sequence.output:
            self._scheduler.prompt_computed(sequence)
            self._open.emit(generation, PromptComputed(generation.cached or 0, generation.prompt_logprobs))
        if not finite:
            who = f"adapter {sequence.adapter.name}" if sequence.adapter else "the base model"
            self._open.fail([generation], Internal(f"{who} produced numbers that are not finite"))
            return False
        if sequence.params.max_tokens == 0:
            self._open.end(generation, Ended())
            return False
        return True

    def _changed(self, generation: Generation, logits: Array) -> _Wanted:
        """Penalties, grammar and restrictions change a copy of the row: its log-probabilities are the model's."""
        params = generation.sequence.params
        if params.changes_logits or generation.grammar or generation.restrictions:
            logits = logits.copy()
        self._sampler.penalize(logits, generation.sequence)
        if generation.grammar:
            generation.grammar.constrain(logits)
        if generation.restrictions:
            generation.restrictions.apply(logits, generation.sequence.output)
        return _Wanted(logits, self._sampler.chance(generation.sequence))

    def _append(self, generation: Generation, token: int, logprobs: TokenLogprobs | None) -> None:
        sequence = generation.sequence
        sequence.output.append(token)
        self.count += 1
        finish = None
        stops = token in generation.stop_tokens
        if stops or _completes(generation, token):
            finish = FinishReason.STOP
        elif len(sequence.output) >= sequence.params.max_tokens:
            finish = FinishReason.LENGTH
        event = TokenSampled(token, logprobs, finish, stops)
        if finish:
            self._open.end(generation, event)
        else:
            self._open.emit(generation, event)


def _completes(generation: Generation, token: int) -> bool:
    """Move the grammar on; whether nothing can follow."""
    if generation.grammar is None:
        return False
    generation.grammar.accept(token)
    return generation.grammar.finished


def _read_prompt(generation: Generation, row: Row, logits: list[Array]) -> None:
    """A prompt computed again after a preemption is read only from where it was left."""
    prompt = row.sequence.prompt
    start = row.sequence.computed - row.count
    skipped = len(generation.prompt_logprobs) - start
    targets = prompt[start + 1 + skipped : start + 1 + row.count]
    if targets:
        count = row.sequence.params.prompt_logprobs or 0
        chunk = logits[skipped : skipped + len(targets)]
        generation.prompt_logprobs.extend(token_logprobs(chunk, targets, [count] * len(targets)))
