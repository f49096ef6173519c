"""A request under way: its prompts, its choices, and what comes back for them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from uuid import uuid4

from loradock.engine.adapters.adapters import Lease
from loradock.engine.generation.choice import Choice, Delta, Token
from loradock.engine.generation.generation import Ended, Event, Generation, PromptComputed, TokenSampled
from loradock.engine.requests.generation import GenerationRequest
from loradock.engine.scheduling.admission import Place
from loradock.engine.scheduling.loop import EngineLoop
from loradock.engine.service.metrics import Metrics

_AT_ONCE = 64


@dataclass
class Prompt:
    """`tokens` get log probabilities once computed, if they were asked for; the first token never has one."""

    text: str
    ids: list[int]
    cached: int | None = None
    tokens: list[Token] = field(default_factory=list)


class RequestState:
    """Everything the response shapes need. Must be closed: that frees the slots of what is still running."""

    def __init__(self, request: GenerationRequest, lease: Lease, place: Place, metrics: Metrics) -> None:
        self.request = request
        self.lease = lease
        self.place = place
        self.warnings = list(request.warnings)
        self.id = uuid4().hex
        self.created = int(time.time())
        self.prompts: list[Prompt] = []
        self.choices: list[Choice] = []
        self.completion_tokens = 0
        self._metrics = metrics
        self._events: asyncio.Queue[tuple[Choice, Event]] = asyncio.Queue()
        self._running: dict[int, Generation] = {}
        self._abort: Callable[[list[Generation]], None] = lambda _: None
        self._outcome = "refused"
        self._closed = False

    def start(self, loop: EngineLoop, prompts: list[Prompt], generations: list[tuple[Choice, Generation]]) -> None:
        """Generations of the same prompt must stand together."""
        self.prompts = prompts
        self.choices = [choice for choice, _ in generations]
        self._abort = loop.abort
        self._running = {choice.index: generation for choice, generation in generations}
        for number in range(len(prompts)):
            loop.submit([generation for choice, generation in generations if choice.prompt == number])
        self._outcome = "aborted"
        self._metrics.count_prompts([len(prompt.ids) for prompt in prompts])

    def receiver(self, choice: Choice) -> Callable[[Event], None]:
        """Return a function that receives the events of a choice."""

        def receive(event: Event) -> None:
            if isinstance(event, Ended) or (isinstance(event, TokenSampled) and event.finish):
                self._running.pop(choice.index, None)
                # A slow reader must not keep its adapter from being unloaded.
                if not self._running:
                    self.lease.release()
            self._events.put_nowait((choice, event))

        return receive

    async def deltas(self) -> AsyncIterator[tuple[Choice, Delta]]:
        """Yield what is new, as it comes. Raises LoradockError when the engine fails on the request."""
        unfinished = sum(choice.finish is None for choice in self.choices)
        taken = 0
        while unfinished:
            taken += 1
            if taken % _AT_ONCE == 0:
                await asyncio.sleep(0)  # thousands may be there, and others have their turn too
            choice, event = await self._events.get()
            delta = None
            if choice.finish is None:
                delta = self._read(choice, event)
                unfinished -= choice.finish is not None
            if delta is not None:
                yield choice, delta
        self._outcome = "finished"

    def close(self) -> None:
        """Abort what still runs. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._abort(list(self._running.values()))
        self._running.clear()
        self.lease.release()
        self.place.leave()
        self._metrics.count_request(self.lease.name, self._outcome, self.completion_tokens)

    def _read(self, choice: Choice, event: Event) -> Delta | None:
        if isinstance(event, PromptComputed):
            _read_prompt(self.prompts[choice.prompt], event)
            return None
        if isinstance(event, Ended):
            if event.error is not None:
                self._outcome = "failed"
                raise event.error
            return choice.end()
        self.completion_tokens += 1
        delta = choice.feed(event)
        if choice.finish is not None and (running := self._running.pop(choice.index, None)):
            self._abort([running])
        return delta


def _read_prompt(prompt: Prompt, event: PromptComputed) -> None:
    if prompt.cached is None:
        prompt.cached = event.cached
    if event.logprobs and not prompt.tokens:
        prompt.tokens = [Token(prompt.ids[0], None), *(Token(entry.token, entry) for entry in event.logprobs)]
