"""Constrained decoding by llguidance: JSON, or JSON of a schema."""

import json
from typing import Any

import llguidance
import numpy as np
import torch
from tokenizers import Tokenizer

from loradock.types.errors import BadRequest


class GrammarCompiler:
    """Makes matchers for one tokenizer; the vocabulary is prepared at the first use."""

    def __init__(self, tokenizer: Tokenizer, eos_token: int, vocabulary: int) -> None:
        self._tokenizer, self._eos, self._vocabulary = tokenizer, eos_token, vocabulary
        self._prepared: llguidance.LLTokenizer | None = None

    def compile(self, schema: dict[str, Any] | None) -> "Grammar":
        """A grammar for JSON objects (`schema` None) or JSON of the schema. Raises BadRequest on a bad schema."""
        if self._prepared is None:
            self._prepared = llguidance.LLTokenizer(
                self._tokenizer.to_str(), n_vocab=self._vocabulary, eos_token=self._eos
            )
        text = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps({"type": "object"} if schema is None else schema)
        )
        problem = llguidance.LLMatcher.validate_grammar(text, self._prepared)
        if problem:
            raise BadRequest(f"response_format: the JSON schema cannot be followed: {problem}", param="response_format")
        return Grammar(llguidance.LLMatcher(self._prepared, text), self._vocabulary)


class Grammar:
    """One sequence's position in its grammar."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary

    def constrain(self, logits: torch.Tensor) -> None:
        """Forbid, in place, every token of `logits` `[vocab]` that the grammar does not allow next."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        logits[torch.from_numpy(bits[: self._vocabulary] == 0)] = -torch.inf

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)

    @property
    def finished(self) -> bool:
        return bool(self._matcher.is_stopped())
