"""Builds generations from a request and its prompts: grammars, restrictions, ends, seeds."""

import asyncio
import itertools
import secrets
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

from msgspec.structs import replace

from loradock.engine.core import Sequence
from loradock.engine.generation.choice import Choice
from loradock.engine.generation.generation import Generation
from loradock.engine.generation.restrictions import BadWords, Restrictions, SortedVocabulary, restrictions
from loradock.engine.requests.constraint import Constraint
from loradock.engine.requests.rules import OutputRules
from loradock.engine.service.limits import Limits
from loradock.engine.service.offers import Offer
from loradock.engine.service.request_state import Prompt, RequestState
from loradock.engine.text.conversations import Conversations
from loradock.engine.text.detokenizer import Detokenizer
from loradock.engine.text.tokenizer import TokenizerFiles
from loradock.engine.text.tokens import TokenBytes

if TYPE_CHECKING:
    from loradock.engine.structured_output.grammar import Grammar, Grammars

_AT_ONCE = 64
"""Generations that are made before others have their turn on the event loop."""


class GenerationBuilder:
    """Numbers the sequences of one engine."""

    def __init__(self, files: TokenizerFiles, tokens: TokenBytes, conversations: Conversations, limits: Limits) -> None:
        self._files = files
        self._tokens = tokens
        self._conversations = conversations
        self._limits = limits
        self._ids = itertools.count(1)
        self._making = Lock()

    async def build(
        self, answer: RequestState, prompts: list[Prompt], param: str, offer: Offer | None = None
    ) -> list[tuple[Choice, Generation]]:
        """`n` for each prompt. Raises BadRequest, which names `param` where it is the prompts that do not fit."""
        request = answer.request
        self._limits.check_vocabulary(request.params.logit_bias, "logit_bias")
        self._limits.check_vocabulary(request.stop_token_ids, "stop_token_ids")
        self._limits.check_vocabulary(request.output.allowed or (), "allowed_token_ids")
        lengths = [self._limits.room(request, len(prompt.ids), param) for prompt in prompts]
        grammar = await self._compile(offer.constraint if offer and offer.constraint else request.constraint)
        marks = self._tokens.special_among(offer.form.marks) if offer else frozenset()
        eos_ids = self._conversations.of(answer.lease.adapter).eos_ids
        stops = request.stop_token_ids | (frozenset() if request.params.ignore_eos else eos_ids)
        restricted = await self._restrictions(request.output, stops)
        generations = []
        for index in range(len(prompts) * request.n):
            if index % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            number, seed = index // request.n, _seed(request.params.seed, index)
            detokenizer = Detokenizer(self._tokens, request.stop, request.output, marks)
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
        return generations

    async def _restrictions(self, rules: OutputRules, stops: frozenset[int]) -> Restrictions | None:
        words = await asyncio.to_thread(self._bad_words, rules.bad_words) if rules.bad_words else None
        return restrictions(rules, stops, words)

    def _bad_words(self, words: tuple[str, ...]) -> BadWords:
        return BadWords([word.lstrip(" ") for word in words], self._vocabulary)

    @cached_property
    def _vocabulary(self) -> SortedVocabulary:
        return SortedVocabulary(self._tokens, self._limits.vocabulary)

    async def _compile(self, constraint: Constraint | None) -> "Grammar | None":
        return None if constraint is None else await asyncio.to_thread(self._compiled, constraint)

    def _compiled(self, constraint: Constraint) -> "Grammar":
        with self._making:
            grammars = self._grammars
        return grammars.compile(constraint)

    @cached_property
    def _grammars(self) -> "Grammars":
        # Few engines are asked for one, and a start would wait for the library.
        from loradock.engine.structured_output.grammar import Grammars

        return Grammars(self._files.tokenizer, self._tokens, self._files.eos_ids, self._limits.vocabulary)


def _seed(seed: int | None, index: int) -> int:
    """Return the seed of a choice; beyond 64 bits it begins anew: the same draws, in a number that JSON encoders
    write."""
    if seed is None:
        return secrets.randbits(53)
    return seed + index if seed + index < 2**64 else seed + index - 2**64
