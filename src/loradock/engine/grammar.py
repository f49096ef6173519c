"""Constrained decoding by llguidance: JSON of a schema, or a call of one of some tools."""

import json
from threading import Lock
from typing import Any

import llguidance
import torch
from llguidance.gbnf_to_lark import gbnf_to_lark
from tokenizers import Tokenizer

from loradock.engine.requests.constraint import Constraint
from loradock.types.errors import BadRequest

# Small models like to write white space for ever where JSON allows any amount of it.
_WHITESPACE = r"[ \n\t]{0,16}"


class Grammars:
    """Compiles grammars for one vocabulary of `size` token ids, which is prepared at the first use."""

    def __init__(self, tokenizer: Tokenizer, eos_ids: frozenset[int], size: int) -> None:
        self._tokenizer, self._eos_ids, self._size = tokenizer, sorted(eos_ids), size
        self._prepared: llguidance.LLTokenizer | None = None
        self._lock = Lock()

    def compile(self, constraint: Constraint) -> "Grammar":
        """May take a second: not for the event loop. Raises BadRequest when the schema cannot be followed."""
        tokenizer = self._vocabulary()
        text = _grammar(constraint)
        matcher = llguidance.LLMatcher(tokenizer, text, log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().strip().splitlines()[0]
            raise BadRequest(f"{constraint.param} cannot be followed: {reason}", param=constraint.param)
        return Grammar(matcher)

    def _vocabulary(self) -> llguidance.LLTokenizer:
        with self._lock:
            if self._prepared is None:
                # A tokenizer may know tokens that the model has no logits for.
                size = max(self._size, self._tokenizer.get_vocab_size())
                self._prepared = llguidance.LLTokenizer(
                    self._tokenizer.to_str(), n_vocab=size, eos_token=self._eos_ids or None
                )
            return self._prepared


class Grammar:
    """One sequence's position in its grammar."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher

    def copy(self) -> "Grammar":
        return Grammar(self._matcher.deep_copy())

    def constrain(self, logits: torch.Tensor) -> None:
        """Forbid, in place, every token of float32 `logits` `[vocab]` that cannot come next. Raises ValueError."""
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)
        self._check()
        logits.masked_fill_(allowed[: len(logits)].to(logits.device) == 0, -torch.inf)

    def accept(self, token: int) -> None:
        """Raises ValueError."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def finished(self) -> bool:
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ValueError(f"the output's grammar failed: {self._matcher.get_error()}")


def _grammar(constraint: Constraint) -> str:
    if constraint.regex is not None:
        return llguidance.LLMatcher.grammar_from_regex(constraint.regex)
    if constraint.grammar is not None:
        return llguidance.LLMatcher.grammar_from_lark(_lark(constraint))
    if not constraint.tools:
        return llguidance.LLMatcher.grammar_from_json_schema(
            constraint.schema or {}, overrides={"whitespace_pattern": _WHITESPACE}
        )
    calls = {
        "anyOf": [_call_schema(tool["function"]) for tool in constraint.tools],
        "x-guidance": {"whitespace_pattern": _WHITESPACE},
    }
    return llguidance.LLMatcher.grammar_from_lark(
        f'start: "<tool_call>\\n" call "\\n</tool_call>"\ncall: %json {json.dumps(calls)}'
    )


def _lark(constraint: Constraint) -> str:
    """GBNF, the form of llama.cpp and of most examples, is translated."""
    text = constraint.grammar or ""
    if "::=" not in text:
        return text
    try:
        return gbnf_to_lark(text)
    except Exception as error:
        raise BadRequest(f"{constraint.param} is no GBNF grammar: {error}", param=constraint.param) from error


def _call_schema(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function.get("parameters") or {"type": "object"}
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
