"""From a checked request to generations: names, tokens, limits, grammars."""

import asyncio
import itertools
import secrets
from dataclasses import dataclass, replace
from functools import partial

from loradock.engine.adapters import Adapters
from loradock.engine.answer import Answer, Prompt
from loradock.engine.chat import ChatTemplate
from loradock.engine.choice import Choice
from loradock.engine.core import Sequence
from loradock.engine.detokenizer import Detokenizer
from loradock.engine.encoding import Aside, Encoder
from loradock.engine.errors import ContextExceeded, TooBusy
from loradock.engine.generation import Generation
from loradock.engine.grammar import Grammar, Grammars
from loradock.engine.loop import EngineLoop
from loradock.engine.metrics import Metrics
from loradock.engine.requests.chat import ChatRequest
from loradock.engine.requests.completion import CompletionRequest
from loradock.engine.requests.constraint import Constraint
from loradock.engine.requests.generation import GenerationRequest
from loradock.engine.tokenizer import TokenizerFiles
from loradock.engine.tokens import TokenBytes
from loradock.types.errors import BadRequest


@dataclass(frozen=True)
class Limits:
    """`context` in tokens; `waiting` sequences may queue."""

    context: int
    vocabulary: int
    running: int
    waiting: int


class Service:
    """What the routes call; lives on the event loop's thread."""

    def __init__(self, loop: EngineLoop, adapters: Adapters, files: TokenizerFiles, limits: Limits) -> None:
        self.loop, self.adapters, self.limits = loop, adapters, limits
        self.tokens = TokenBytes(files.tokenizer)
        self.metrics = Metrics()
        self.aside = Aside()
        self.encoder = Encoder(files.tokenizer, limits.context)
        self._tokenizer, self._eos_ids = files.tokenizer, files.eos_ids
        self._template = (
            ChatTemplate(files.chat_template, files.bos_token, files.eos_token) if files.chat_template else None
        )
        self._grammars = Grammars(files.tokenizer, files.eos_ids, limits.vocabulary)
        self._ids = itertools.count(1)

    async def chat(self, request: ChatRequest, size: int = 0) -> Answer:
        """`size` is about how many characters were sent. Raises LoradockError before anything is computed."""
        answer = await self._open(request.generation)
        try:
            generation, tools = _with_tools(request, self._template)
            prompt = await self.aside.run(size, lambda: self._chat_prompt(request, tools))
            await self._start(answer, generation, [prompt], tools=bool(tools))
        except BaseException:
            answer.close()
            raise
        return answer

    async def complete(self, request: CompletionRequest, size: int = 0) -> Answer:
        """`size` is about how many characters were sent. Raises LoradockError before anything is computed."""
        answer = await self._open(request.generation)
        try:
            prompts = [await self.aside.run(size, partial(self._prompt, p)) for p in request.prompts]
            await self._start(answer, request.generation, prompts, tools=False)
        except BaseException:
            answer.close()
            raise
        return answer

    async def _open(self, request: GenerationRequest) -> Answer:
        waiting = self.loop.waiting + self.adapters.memory.awaiting
        if waiting >= self.limits.waiting and self._has_its_share(request.model):
            raise TooBusy(waiting=waiting)
        return Answer(request, await self.adapters.lease(request.model), self.metrics)

    def _has_its_share(self, model: str) -> bool:
        """A flood for one adapter turns away only its own: what comes for others still finds room to wait."""
        return self.loop.scheduler.waiting.has_its_share(self.adapters.load_id(model), self.limits.waiting)

    def _render(self, request: ChatRequest, tools: list[dict[str, object]]) -> str:
        if self._template is None:
            raise BadRequest("this base model has no chat template: use /v1/completions", param="messages")
        return self._template.render(request.messages, tools, request.template_kwargs)

    def _chat_prompt(self, request: ChatRequest, tools: list[dict[str, object]]) -> Prompt:
        text = self._render(request, tools)
        return Prompt(text, self._known(self.encoder.encode(text, special=False, param="messages")))

    def _prompt(self, prompt: str | list[int]) -> Prompt:
        if isinstance(prompt, str):
            return Prompt(prompt, self._known(self.encoder.encode(prompt, special=True, param="prompt")))
        self.encoder.check_length(prompt, "prompt")
        known = self._known(prompt)  # before decoding, which would leave others out
        return Prompt(self._tokenizer.decode(known, skip_special_tokens=False), known)

    def _known(self, prompt: list[int]) -> list[int]:
        """The same, once it is clear that the model knows all of them: a tokenizer may know more."""
        self._check_vocabulary(prompt, "prompt")
        return prompt

    async def _start(self, answer: Answer, request: GenerationRequest, prompts: list[Prompt], *, tools: bool) -> None:
        self._check_vocabulary(request.params.logit_bias, "logit_bias")
        self._check_vocabulary(request.stop_token_ids, "stop_token_ids")
        lengths = [_fit(request, len(prompt.ids), self.limits.context) for prompt in prompts]
        grammar = await self._compile(request.constraint)
        generations = []
        for index in range(len(prompts) * request.n):
            number, seed = index // request.n, _seed(request.params.seed, index)
            detokenizer = Detokenizer(self.tokens, request.stop)
            choice = Choice(index, number, seed, detokenizer, self._eos_ids, tools=tools)
            params = replace(request.params, max_tokens=lengths[number], seed=seed)
            if index % request.n:
                params = replace(params, prompt_logprobs=None)
            sequence = Sequence(next(self._ids), prompts[number].ids, params, answer.lease.adapter)
            sequence.constrained = grammar is not None
            stops = request.stop_token_ids | (frozenset() if params.ignore_eos else self._eos_ids)
            generation = Generation(sequence, answer.receiver(choice), stops, grammar.copy() if grammar else None)
            generations.append((choice, generation))
        answer.start(self.loop, prompts, generations)

    def _check_vocabulary(self, tokens: "set[int] | frozenset[int] | list[int] | dict[int, float]", param: str) -> None:
        size = self.limits.vocabulary
        if outside := [token for token in tokens if token >= size]:
            raise BadRequest(f"{param}: token id {outside[0]} is not below the vocabulary's {size}", param=param)

    async def _compile(self, constraint: Constraint | None) -> Grammar | None:
        return None if constraint is None else await asyncio.to_thread(self._grammars.compile, constraint)


def _with_tools(
    request: ChatRequest, template: ChatTemplate | None
) -> tuple[GenerationRequest, list[dict[str, object]]]:
    """The tools to offer, and the request with what they change. Tools are never dropped silently."""
    generation = request.generation
    if not request.tools or request.tool_choice == "none":
        return generation, []
    if template is None or not template.takes_tools:
        reason = "this model's chat template cannot offer tools (the <tool_call> form of Hermes and Qwen is known)"
        if request.tool_choice == "required":
            raise BadRequest(f"{reason}: leave tools out or set tool_choice to 'none'", param="tools")
        return replace(generation, warnings=[*generation.warnings, f"tools were not offered: {reason}"]), []
    if request.tool_choice == "required":
        if generation.constraint is not None:
            raise BadRequest("response_format cannot be combined with a required tool call", param="response_format")
        offered = [t for t in request.tools if request.forced_tool in (None, t["function"]["name"])]
        generation = replace(generation, constraint=Constraint("tools", tools=tuple(offered)))
    return generation, request.tools


def _fit(request: GenerationRequest, prompt: int, context: int) -> int:
    """How many tokens may be generated. Raises ContextExceeded with the numbers."""
    room = context - prompt
    if prompt == 0:
        raise BadRequest("the prompt is empty: send at least one token", param="prompt")
    if room < 1:
        raise ContextExceeded(
            f"the prompt has {prompt} tokens, and this model's context of {context} tokens must hold it and at least"
            " one more: shorten the prompt",
            param="messages",
        )
    wanted = room if request.max_tokens is None else request.max_tokens
    if wanted <= room or request.truncate:
        return min(wanted, room)
    raise ContextExceeded(
        f"the prompt has {prompt} tokens and max_tokens is {wanted}: together {prompt + wanted}, more than this"
        f" model's context of {context} tokens. Lower max_tokens to {room} or shorten the prompt",
        param="max_tokens",
    )


def _seed(seed: int | None, index: int) -> int:
    return secrets.randbits(53) if seed is None else seed + index
