"""From a checked request to generations: names, tokens, limits, grammars."""

import asyncio
import itertools
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial

from loradock.engine.adapters.adapters import Adapters
from loradock.engine.core import Sequence
from loradock.engine.errors import ContextExceeded
from loradock.engine.generation.choice import Choice
from loradock.engine.generation.generation import Generation
from loradock.engine.generation.restrictions import BadWords, Restrictions, SortedVocabulary, restrictions
from loradock.engine.kernels.constants import BLOCK_SIZE
from loradock.engine.requests.chat import ChatRequest
from loradock.engine.requests.completion import CompletionRequest
from loradock.engine.requests.constraint import Constraint
from loradock.engine.requests.generation import GenerationRequest
from loradock.engine.requests.rules import OutputRules
from loradock.engine.scheduling.admission import Admission, Owner
from loradock.engine.scheduling.loop import EngineLoop
from loradock.engine.service.metrics import Metrics
from loradock.engine.service.offers import Offer, read_offer
from loradock.engine.service.request_state import Prompt, RequestState
from loradock.engine.structured_output.grammar import Grammar, Grammars
from loradock.engine.text.chat import ChatTemplate
from loradock.engine.text.conversations import Conversation, Conversations
from loradock.engine.text.detokenizer import Detokenizer
from loradock.engine.text.encoding import Aside, Encoder
from loradock.engine.text.tokenizer import TokenizerFiles
from loradock.engine.text.tokens import TokenBytes
from loradock.engine.tool_calls.written_json import whole_characters
from loradock.types.errors import BadRequest

_AT_ONCE = 64
"""Generations that are made before others have their turn on the event loop."""


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
        self.loop = loop
        self.adapters = adapters
        self.limits = limits
        self.tokens = TokenBytes(files.tokenizer)
        self.metrics = Metrics()
        self.aside = Aside()
        self.admission = Admission(loop, limits.running, limits.waiting)
        self.encoder = Encoder(files.tokenizer, self.tokens, limits.context)
        self._tokenizer = files.tokenizer
        self.conversations = Conversations(files, limits.vocabulary)
        self._grammars = Grammars(files.tokenizer, self.tokens, files.eos_ids, limits.vocabulary)
        self._ids = itertools.count(1)

    async def chat(self, request: ChatRequest, size: int = 0, account: str = "") -> RequestState:
        """`size` is about how many characters were sent. Raises LoradockError before anything is computed."""
        answer = await self._open(request.generation, account, 1)
        try:
            conversation = self.conversations.of(answer.lease.adapter)
            # A foreign template may take long, to be read already.
            foreign = conversation.foreign or request.chat_template is not None
            work = partial(self.aside.slowly, account) if foreign else partial(self.aside.run, size)
            offer, prompt = await work(lambda: self._chat_prompt(request, conversation))
            await self._start(answer, request.generation, [prompt], "messages", offer)
        except BaseException:
            answer.close()
            raise
        return answer

    async def complete(self, request: CompletionRequest, size: int = 0, account: str = "") -> RequestState:
        """`size` is about how many characters were sent. Raises LoradockError before anything is computed."""
        answer = await self._open(request.generation, account, len(request.prompts))
        try:
            prompts = [
                await self.aside.run(size, partial(self._prompt, p, request.generation)) for p in request.prompts
            ]
            await self._start(answer, request.generation, prompts, "prompt")
        except BaseException:
            answer.close()
            raise
        return answer

    async def _open(self, request: GenerationRequest, account: str, prompts: int) -> RequestState:
        place = self.admission.enter(Owner(request.model, account), prompts * request.n)
        try:
            return RequestState(request, await self.adapters.lease(request.model), place, self.metrics)
        except BaseException:
            place.leave()
            raise

    def _template(self, request: ChatRequest, conversation: Conversation) -> ChatTemplate:
        """The request's own, the adapter's, or the base model's."""
        tools = bool(request.tools) and request.tool_choice != "none"
        template = self.conversations.template(conversation, request.chat_template, tools=tools)
        if template is None:
            raise BadRequest(
                "neither this base model nor the adapter has a chat template: send one as chat_template, or use"
                " /v1/completions",
                param="messages",
            )
        return template

    def _chat_prompt(self, request: ChatRequest, conversation: Conversation) -> tuple[Offer | None, Prompt]:
        template = self._template(request, conversation)
        offer = read_offer(request, template)
        tools = offer.tools if offer else [] if request.empty_tools else None
        text = template.render(
            request.messages, tools, request.template_kwargs, opens=request.opens, continues=request.continues
        )
        text = whole_characters(text)  # arguments of earlier calls are JSON, which can hold halves of a pair
        special = bool(request.generation.prompt.special)
        return offer, self._encoded(text, request.generation, "messages", special=special)

    def _prompt(self, prompt: str | list[int], request: GenerationRequest) -> Prompt:
        if isinstance(prompt, str):
            return self._encoded(prompt, request, "prompt", special=request.prompt.special is not False)
        kept = self._kept(request)
        if kept is None:
            self.encoder.check_length(prompt, "prompt")
        else:
            prompt = prompt[:kept] if request.prompt.first else prompt[-kept:]
        known = self._known(prompt)  # before decoding, which would leave others out
        return Prompt(self._tokenizer.decode(known, skip_special_tokens=False), known)

    def _encoded(self, text: str, request: GenerationRequest, param: str, *, special: bool) -> Prompt:
        kept = self._kept(request)
        if kept is None:
            return Prompt(text, self._known(self.encoder.encode(text, special=special, param=param)))
        ids = self._known(self.encoder.encode_part(text, kept, first=request.prompt.first, special=special))
        return Prompt(self._tokenizer.decode(ids, skip_special_tokens=False), ids)

    def _kept(self, request: GenerationRequest) -> int | None:
        """How many tokens of a prompt were asked for at most; None also where as many do not fit anyway."""
        keep = request.prompt.keep
        if keep == -1:
            return max(1, self.limits.context - (request.max_tokens or 1))
        return None if keep is None or keep > self.limits.context else keep

    def _known(self, prompt: list[int]) -> list[int]:
        """The same, once it is clear that the model knows all of them: a tokenizer may know more."""
        self._check_vocabulary(prompt, "prompt")
        return prompt

    async def _start(
        self,
        answer: RequestState,
        request: GenerationRequest,
        prompts: list[Prompt],
        param: str,
        offer: Offer | None = None,
    ) -> None:
        self._check_vocabulary(request.params.logit_bias, "logit_bias")
        self._check_vocabulary(request.stop_token_ids, "stop_token_ids")
        self._check_vocabulary(request.output.allowed or (), "allowed_token_ids")
        lengths = [_fit(request, len(prompt.ids), self.limits.context, param) for prompt in prompts]
        grammar = await self._compile(offer.constraint if offer and offer.constraint else request.constraint)
        marks = self._grammars.tokens_of(offer.form.marks) if offer else frozenset()
        eos_ids = self.conversations.of(answer.lease.adapter).eos_ids
        stops = request.stop_token_ids | (frozenset() if request.params.ignore_eos else eos_ids)
        restricted = await self._restrictions(request.output, stops)
        generations = []
        for index in range(len(prompts) * request.n):
            if index % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            number, seed = index // request.n, _seed(request.params.seed, index)
            detokenizer = Detokenizer(self.tokens, request.stop, request.output, marks)
            choice = Choice(index, number, seed, detokenizer, eos_ids, offer.reader() if offer else None)
            params = replace(request.params, max_tokens=lengths[number], seed=seed)
            if index % request.n:
                params = replace(params, prompt_logprobs=None)
            sequence = Sequence(next(self._ids), prompts[number].ids, params, answer.lease.adapter)
            sequence.account = answer.place.owner.account
            sequence.constrained = grammar is not None or restricted is not None
            own = grammar.copy() if grammar else None
            generation = Generation(sequence, answer.receiver(choice), stops, own, restricted)
            generations.append((choice, generation))
        answer.place.hand_over(sum(len(prompt.ids) // BLOCK_SIZE + 1 for prompt in prompts))
        answer.start(self.loop, prompts, generations)

    async def _restrictions(self, rules: OutputRules, stops: frozenset[int]) -> Restrictions | None:
        words = await asyncio.to_thread(self._bad_words, rules.bad_words) if rules.bad_words else None
        return restrictions(rules, stops, self.limits.vocabulary, words)

    def _bad_words(self, words: tuple[str, ...]) -> BadWords:
        return BadWords(words, self._vocabulary)

    @cached_property
    def _vocabulary(self) -> SortedVocabulary:
        return SortedVocabulary(self.tokens, self.limits.vocabulary)

    def _check_vocabulary(self, tokens: Iterable[int], param: str) -> None:
        size = self.limits.vocabulary
        if outside := [token for token in tokens if token >= size]:
            raise BadRequest(f"{param}: token id {outside[0]} is not below the vocabulary's {size}", param=param)

    async def _compile(self, constraint: Constraint | None) -> Grammar | None:
        return None if constraint is None else await asyncio.to_thread(self._grammars.compile, constraint)


def _fit(request: GenerationRequest, prompt: int, context: int, param: str) -> int:
    """How many tokens may be generated. Raises ContextExceeded with the numbers; clients know it by its first words."""
    room, words = context - prompt, f"this model's maximum context length is {context} tokens"
    if prompt == 0:
        raise BadRequest("the prompt is empty: send at least one token", param="prompt")
    if room < 1:
        raise ContextExceeded(
            f"{words}: the prompt has {prompt} tokens, and a context of {context} tokens must hold it and at least one"
            " more. Shorten the prompt",
            param=param,
        )
    wanted = room if request.max_tokens is None else request.max_tokens
    if wanted <= room or request.truncate:
        return min(wanted, room)
    raise ContextExceeded(
        f"{words}: the prompt has {prompt} tokens and max_tokens is {wanted}, together {prompt + wanted}, more than a"
        f" context of {context} tokens. Lower max_tokens to {room} or shorten the prompt",
        param="max_tokens",
    )


def _seed(seed: int | None, index: int) -> int:
    """Beyond 64 bits it begins anew: the same draws, in a number that JSON encoders write."""
    if seed is None:
        return secrets.randbits(53)
    return seed + index if seed + index < 2**64 else seed + index - 2**64
