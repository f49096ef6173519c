"""The compute thread: takes sequences in, runs steps, hands tokens out to the event loop once per step."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from loradock.engine.core import FinishReason, Row, SamplingParams, Sequence
from loradock.engine.grammar import Grammar
from loradock.engine.lora import LoadedAdapter
from loradock.engine.runner import Runner
from loradock.engine.sampling import Sampler, TokenLogprobs, token_logprobs
from loradock.engine.scheduler import Scheduler
from loradock.types.errors import Internal, LoradockError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class TokenEvent:
    """What one step brought a sequence. `token` is None when only `finish` or `error` is news."""

    token: int | None = None
    logprobs: TokenLogprobs | None = None
    prompt_logprobs: list[TokenLogprobs] | None = None
    finish: FinishReason | None = None
    error: LoradockError | None = None


Sink = Callable[[TokenEvent], None]


@dataclass(slots=True, eq=False)
class Generation:
    """A sequence with what belongs to it while it is generated."""

    sequence: Sequence
    sink: Sink
    grammar: Grammar | None = None
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)


class EngineLoop:
    """All public methods are called from the event loop; the thread owns scheduler, runner and cache."""

    def __init__(self, runner: Runner, scheduler: Scheduler, eos_ids: frozenset[int]) -> None:
        self._runner, self._scheduler, self._eos_ids = runner, scheduler, eos_ids
        self._sampler = Sampler()
        self._generations: dict[int, Generation] = {}
        self._inbox: list[Callable[[], None]] = []
        self._wake = threading.Condition()
        self._stopping = False
        self._next_id = 0
        self.failure: str | None = None
        self.prompt_tokens = self.generated_tokens = 0

    def start(self, event_loop: asyncio.AbstractEventLoop) -> None:
        self._event_loop = event_loop
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout=10)

    @property
    def running(self) -> int:
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def cache_usage(self) -> float:
        return self._scheduler.cache.usage

    def submit(
        self,
        prompt: list[int],
        params: SamplingParams,
        adapter: LoadedAdapter | None,
        sink: Sink,
        grammar: Grammar | None = None,
    ) -> Generation:
        """`sink` is called on the event loop for every token."""
        self._next_id += 1
        generation = Generation(Sequence(self._next_id, prompt, params, adapter), sink, grammar)
        self._post(lambda: self._add(generation))
        return generation

    def abort(self, generation: Generation) -> None:
        """Free the generation's slot before the next step; nothing more is sent. Harmless when finished."""
        self._post(lambda: self._remove(generation.sequence))

    def forget_adapter(self, adapter: LoadedAdapter) -> None:
        """Drop stacks and cached prefixes of an adapter that no sequence uses any more."""
        self._post(lambda: self._runner.stacks.forget(adapter.load_id))
        self._post(lambda: self._scheduler.cache.forget_adapter(adapter.load_id))

    def _post(self, action: Callable[[], None]) -> None:
        with self._wake:
            self._inbox.append(action)
            self._wake.notify()

    def _add(self, generation: Generation) -> None:
        self._generations[generation.sequence.id] = generation
        self.prompt_tokens += len(generation.sequence.prompt)
        self._scheduler.add(generation.sequence)

    def _remove(self, sequence: Sequence) -> None:
        if self._generations.pop(sequence.id, None) is not None:
            self._scheduler.remove(sequence)
            self._sampler.forget(sequence)

    def _run(self) -> None:
        while not self._stopping:
            with self._wake:
                if not self._inbox and not self._generations:
                    self._wake.wait(timeout=1)
                inbox, self._inbox = self._inbox, []
            for action in inbox:
                action()
            rows = self._scheduler.schedule()
            if rows:
                self._step(rows)

    def _step(self, rows: list[Row]) -> None:
        try:
            events = self._advance(rows, self._runner.step(rows))
        except Exception:
            # Whatever went wrong belongs to these rows; the next step must find a clean table.
            log.exception("a step failed")
            events = [(g.sink, TokenEvent(error=Internal())) for row in rows if (g := self._generation(row))]
            for row in rows:
                self._remove(row.sequence)
        self._event_loop.call_soon_threadsafe(_deliver, events)

    def _generation(self, row: Row) -> Generation | None:
        return self._generations.get(row.sequence.id)

    @torch.inference_mode()
    def _advance(self, rows: list[Row], logits: torch.Tensor) -> list[tuple[Sink, TokenEvent]]:
        last, position = [], 0
        for row in rows:
            position += row.logits
            self._keep_prompt_logprobs(row, logits[position - row.logits : position])
            if row.logits and row.sequence.computed == len(row.sequence):
                last.append((self._generations[row.sequence.id], position - 1))
        if not last:
            return []
        return self._sample([g for g, _ in last], logits[[index for _, index in last]])

    def _keep_prompt_logprobs(self, row: Row, logits: torch.Tensor) -> None:
        top = row.sequence.params.prompt_logprobs
        if top is None or row.sequence.output or not row.logits:
            return
        start = row.sequence.computed - row.count + 1
        following = row.sequence.prompt[start : start + row.count]
        kept = self._generations[row.sequence.id].prompt_logprobs
        kept.extend(token_logprobs(row_logits, t, top) for row_logits, t in zip(logits, following, strict=False))

    def _sample(self, generations: list[Generation], logits: torch.Tensor) -> list[tuple[Sink, TokenEvent]]:
        wants = [g.sequence.params.logprobs is not None for g in generations]
        original = logits.clone() if any(wants) else logits
        for generation, row in zip(generations, logits, strict=True):
            if generation.grammar is not None:
                generation.grammar.constrain(row)
        tokens = self._sampler.sample(logits, [g.sequence for g in generations])
        return [
            (g.sink, self._finish_token(g, token, original[i] if wants[i] else None))
            for i, (g, token) in enumerate(zip(generations, tokens, strict=True))
        ]

    def _finish_token(self, generation: Generation, token: int, logits: torch.Tensor | None) -> TokenEvent:
        sequence = generation.sequence
        event = TokenEvent(token, finish=self._finish_reason(generation, token))
        if logits is not None:
            event.logprobs = token_logprobs(logits, token, sequence.params.logprobs or 0)
        if not sequence.output:
            event.prompt_logprobs = generation.prompt_logprobs
            self._scheduler.cache.remember(sequence)
        sequence.output.append(token)
        self.generated_tokens += 1
        if event.finish is not None:
            self._remove(sequence)
        return event

    def _finish_reason(self, generation: Generation, token: int) -> FinishReason | None:
        params = generation.sequence.params
        if token in self._eos_ids and not params.ignore_eos:
            return FinishReason.STOP
        if generation.grammar is not None:
            generation.grammar.accept(token)
            if generation.grammar.finished:
                return FinishReason.STOP
        return FinishReason.LENGTH if len(generation.sequence.output) + 1 >= params.max_tokens else None


def _deliver(events: list[tuple[Sink, TokenEvent]]) -> None:
    for sink, event in events:
        sink(event)
