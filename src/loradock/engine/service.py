"""From a checked request to pieces of text: tokenizing, limits, choices, stop strings."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from loradock.engine.adapters import AdapterTable
from loradock.engine.chat import ChatTemplate, plain_messages
from loradock.engine.core import FinishReason
from loradock.engine.detokenizer import Detokenizer
from loradock.engine.grammar import Grammar, GrammarCompiler
from loradock.engine.loop import EngineLoop, Generation, TokenEvent
from loradock.engine.lora import LoadedAdapter
from loradock.engine.requests import ChatRequest, CompletionRequest, GenerationRequest
from loradock.engine.sampling import TokenLogprobs
from loradock.engine.tokenizer import TokenizerFiles
from loradock.types.errors import BadRequest

COMPLETION_MAX_TOKENS = 16
"""What OpenAI's /completions gives when max_tokens is absent; chat takes the rest of the context."""


@dataclass(slots=True)
class Piece:
    """News of one choice: certain text, the tokens behind it, and at the end why it ended."""

    choice: int
    text: str
    tokens: list[tuple[int, TokenLogprobs | None]] = field(default_factory=list)
    finish: FinishReason | None = None
    by_eos: bool = False


@dataclass(slots=True)
class Job:
    """A request under way. `prompts` are token ids; choice `i` continues prompt `i // n`."""

    request: GenerationRequest
    prompts: list[list[int]]
    adapter: LoadedAdapter | None
    max_tokens: int
    prompt_logprobs: dict[int, list[TokenLogprobs]] = field(default_factory=dict)
    completion_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt) for prompt in self.prompts)


class GenerationService:
    """What the routes call."""

    def __init__(
        self, loop: EngineLoop, adapters: AdapterTable, files: TokenizerFiles, max_length: int, vocabulary: int
    ) -> None:
        self._loop, self.adapters, self._files = loop, adapters, files
        self.max_length, self._vocabulary = max_length, vocabulary
        self.tokenizer = files.tokenizer
        self._template = ChatTemplate(files.chat_template, files.bos_token, files.eos_token)
        eos = min(files.eos_ids, default=0)
        self._grammars = GrammarCompiler(files.tokenizer, eos, vocabulary)

    def chat(self, request: ChatRequest) -> Job:
        """Raises BadRequest or NotFound before anything is computed."""
        if request.tools and request.tool_choice != "none":
            raise BadRequest("tools are not served by the embedded engine; leave them out", param="tools")
        adapter = self.adapters.resolve(request.model)
        text = self._template.render(plain_messages(request.messages), request.chat_template_kwargs or {})
        prompt = self.tokenizer.encode(text, add_special_tokens=False).ids
        wanted = request.max_completion_tokens or request.max_tokens
        return self._job(request, [prompt], adapter, wanted, default=self.max_length)

    def completion(self, request: CompletionRequest) -> Job:
        """Raises BadRequest or NotFound before anything is computed."""
        adapter = self.adapters.resolve(request.model)
        prompts = [p if isinstance(p, list) else self.tokenizer.encode(p).ids for p in request.prompts]
        return self._job(request, prompts, adapter, request.max_tokens, default=COMPLETION_MAX_TOKENS)

    def _job(
        self,
        request: GenerationRequest,
        prompts: list[list[int]],
        adapter: LoadedAdapter | None,
        wanted: int | None,
        *,
        default: int,
    ) -> Job:
        self._check_tokens(request, prompts)
        longest = max(len(prompt) for prompt in prompts)
        room = self.max_length - longest
        truncate = request.context_length_exceeded_behavior == "truncate"
        if truncate and room < 1:
            keep = max(1, self.max_length - min(wanted or COMPLETION_MAX_TOKENS, self.max_length - 1))
            prompts = [prompt[-keep:] for prompt in prompts]
            room = self.max_length - max(len(prompt) for prompt in prompts)
        if room < 1 or ((wanted or 1) > room and not truncate):
            raise BadRequest(
                f"the prompt has {longest} tokens and max_tokens is {wanted or 'unset'}, together more than this"
                f" model's context of {self.max_length} tokens: shorten the prompt or lower max_tokens",
                param="max_tokens" if room >= 1 else "messages",
            )
        return Job(request, prompts, adapter, min(wanted or default, room))

    def _check_tokens(self, request: GenerationRequest, prompts: list[list[int]]) -> None:
        if not prompts or not all(prompts):
            raise BadRequest("the prompt is empty: send at least one token", param="prompt")
        for token in [t for prompt in prompts for t in prompt] + list(request.logit_bias or {}):
            if not 0 <= token < self._vocabulary:
                raise BadRequest(f"token id {token} is outside the vocabulary of {self._vocabulary} tokens")

    def _grammar(self, request: GenerationRequest) -> Grammar | None:
        form = request.response_format
        if form is None or form.type == "text":
            return None
        if form.type == "json_object":
            return self._grammars.compile(None)
        schema: Any = (form.json_schema or {}).get("schema", {})
        return self._grammars.compile(schema)

    async def run(self, job: Job) -> AsyncIterator[Piece]:
        """Pieces as they come; leaving the iteration early frees the slots at once."""
        count = len(job.prompts) * (job.request.n or 1)
        grammars = [self._grammar(job.request) for _ in range(count)]
        queue: asyncio.Queue[tuple[int, TokenEvent]] = asyncio.Queue()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.adapters.in_use(job.adapter))
            generations = [self._submit(job, choice, queue, grammars[choice], stack) for choice in range(count)]
            readers = [_Reader(i, self.tokenizer, job.request.stop_strings) for i in range(count)]
            while not all(reader.finished for reader in readers):
                choice, event = await queue.get()
                if event.error is not None:
                    raise event.error
                if readers[choice].finished:
                    continue
                if event.prompt_logprobs:
                    job.prompt_logprobs[choice] = event.prompt_logprobs
                job.completion_tokens += 1
                piece = readers[choice].read(event)
                if readers[choice].finished and event.finish is None:
                    self._loop.abort(generations[choice])
                if piece is not None:
                    yield piece

    def _submit(
        self,
        job: Job,
        choice: int,
        queue: asyncio.Queue[tuple[int, TokenEvent]],
        grammar: Grammar | None,
        stack: contextlib.ExitStack,
    ) -> Generation:
        per_prompt = job.request.n or 1
        generation = self._loop.submit(
            job.prompts[choice // per_prompt],
            job.request.sampling(job.max_tokens, choice % per_prompt),
            job.adapter,
            lambda event: queue.put_nowait((choice, event)),
            grammar,
        )
        stack.callback(self._loop.abort, generation)
        return generation


class _Reader:
    """Turns one choice's events into pieces."""

    def __init__(self, choice: int, tokenizer: Any, stop: tuple[str, ...]) -> None:
        self._choice, self._detokenizer = choice, Detokenizer(tokenizer, stop)
        self._pending: list[tuple[int, TokenLogprobs | None]] = []
        self.finished = False

    def read(self, event: TokenEvent) -> Piece | None:
        """The next piece, or None while the text is not certain yet."""
        assert event.token is not None
        by_eos = event.finish is FinishReason.STOP
        self._pending.append((event.token, event.logprobs))
        text = self._detokenizer.feed(event.token)
        finish = FinishReason.STOP if self._detokenizer.stopped else event.finish
        if finish is not None:
            text += self._detokenizer.flush()
            finish = FinishReason.STOP if self._detokenizer.stopped else finish
            self.finished = True
        if not text and finish is None:
            return None
        tokens, self._pending = self._pending, []
        return Piece(self._choice, text, tokens, finish, by_eos)
