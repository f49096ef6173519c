"""Constrained decoding by llguidance: JSON of a schema, a call of one of some tools, and the callers' own grammars."""

import json
import logging
import random
from collections import OrderedDict
from threading import Lock
from typing import Any

import llguidance
import numpy as np
from tokenizers import Tokenizer

from loradock.engine.errors import Unfollowed
from loradock.engine.requests.constraint import Constraint
from loradock.engine.structured_output.grammar_errors import complexity_reason, schema_reason
from loradock.engine.structured_output.grammar_text import LIMITS, GrammarWriter
from loradock.engine.structured_output.schemas import Unfollowable
from loradock.engine.text.tokens import TokenBytes
from loradock.engine.text.vocabulary import Vocabulary
from loradock.types.errors import BadRequest

log = logging.getLogger(__name__)
_KEPT, _LONGEST_KEPT = 64, 100_000
_LONGEST = 1 << 19
"""Characters of a constraint; the library takes about a second and 100 MB for as many of a pattern."""
_TRIED, _TRIED_ALONE = 16, 4
"""Tokens that are tried before a request begins, beside those that are certain, and of a pattern by itself: what is
too complex shows early."""


class Grammars:
    """Compiles grammars for one vocabulary of `size` token ids, which is prepared at the first use."""

    def __init__(self, tokenizer: Tokenizer, tokens: TokenBytes, eos_ids: frozenset[int], size: int) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._eos_ids = eos_ids
        self._size = size
        self._prepared: Vocabulary | None = None
        self._kept: OrderedDict[str, llguidance.LLMatcher] = OrderedDict()
        self._lock = Lock()

    def compile(self, constraint: Constraint) -> "Grammar":
        """Compile a grammar. May take a second: not for the event loop. Raises BadRequest when the constraint cannot be
        followed."""
        try:
            key = _key(constraint)
            if len(key) > _LONGEST:
                raise Unfollowable("", f"it is too large: more than {_LONGEST >> 10} KiB")
            matcher = self._kept_matcher(key)
            if matcher is None:
                matcher = self._made(constraint)
                self._keep(key, matcher)
        except Unfollowable as refusal:
            raise BadRequest(f"{constraint.param} cannot be followed: {refusal}", param=constraint.param) from refusal
        return Grammar(matcher, constraint.param)

    def _vocabulary(self) -> Vocabulary:
        with self._lock:
            if self._prepared is None:
                try:
                    self._prepared = Vocabulary(self._tokenizer, self._tokens, self._eos_ids, self._size)
                except BaseException as error:  # a panic of the library is not an Exception
                    log.exception("the vocabulary cannot be prepared for grammars")
                    raise Unfollowable("", "this model's tokenizer is of a kind that no grammar can use") from error
            return self._prepared

    def _kept_matcher(self, key: str) -> llguidance.LLMatcher | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key].deep_copy()

    def _keep(self, key: str, matcher: llguidance.LLMatcher) -> None:
        if len(key) < _LONGEST_KEPT:
            with self._lock:
                self._kept[key] = matcher.deep_copy()
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)

    def _made(self, constraint: Constraint) -> llguidance.LLMatcher:
        """Return a matcher at the beginning of the constraint's grammar. Raises Unfollowable."""
        vocabulary = self._vocabulary()

        def tried(text: str, tokens: int) -> llguidance.LLMatcher:
            matcher = llguidance.LLMatcher(vocabulary.prepared, text, log_level=0, limits=LIMITS)
            self._try(matcher.deep_copy(), vocabulary, tokens)
            return matcher

        writer = GrammarWriter(vocabulary.mark, lambda text: tried(text, _TRIED_ALONE))
        return tried(writer.text(constraint), _TRIED)

    def _try(self, matcher: llguidance.LLMatcher, vocabulary: Vocabulary, tokens: int) -> None:
        """Write a few tokens by chance. Raises Unfollowable."""
        dice = random.Random(0)  # noqa: S311
        for _ in range(tokens):
            matcher.consume_tokens(matcher.compute_ff_tokens())
            if matcher.is_stopped() and not matcher.is_error():
                return
            allowed = np.flatnonzero(np.frombuffer(matcher.compute_logit_bias(), np.uint8)[: self._size])
            if len(allowed) and not matcher.is_error():
                said = allowed[~vocabulary.blank[allowed]]
                matcher.consume_token(int(dice.choice(said if len(said) else allowed)))
            if matcher.is_error() or not len(allowed):
                message = matcher.get_error() or "NoExtension"
                log.info("a grammar is refused: %s", message)
                raise Unfollowable("", schema_reason(message))


class Grammar:
    """A sequence's position in its grammar; `param` is what asked for it."""

    def __init__(self, matcher: llguidance.LLMatcher, param: str) -> None:
        self._matcher = matcher
        self._param = param

    def copy(self) -> "Grammar":
        return Grammar(self._matcher.deep_copy(), self._param)

    def constrain(self, logits: np.ndarray[Any, Any]) -> None:
        """Forbid, in place, every token of float32 `logits` `[vocab]` that cannot come next. Raises Unfollowed."""
        allowed = np.frombuffer(self._matcher.compute_logit_bias(), np.uint8)[: len(logits)]
        self._check()
        if not allowed.any():
            raise self._failed("nothing can follow here")
        logits[allowed == 0] = -np.inf

    def accept(self, token: int) -> None:
        """Raises Unfollowed."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def finished(self) -> bool:
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            message = self._matcher.get_error()
            log.warning("a grammar failed in mid answer: %s", message)
            raise self._failed(complexity_reason(message) or "nothing can follow here")

    def _failed(self, reason: str) -> Unfollowed:
        return Unfollowed(param=self._param, constraint=self._param, reason=reason)


def _key(constraint: Constraint) -> str:
    """The same for the same constraint, whatever the parameter. Raises Unfollowable."""
    form = constraint.form and f"{type(constraint.form).__name__} {vars(constraint.form)}"
    try:
        return json.dumps([form, constraint.schema, constraint.tools, constraint.regex, constraint.grammar])
    except RecursionError as error:
        raise Unfollowable("", "it is nested too deeply") from error
