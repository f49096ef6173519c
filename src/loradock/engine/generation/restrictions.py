"""Tokens that a request does not want to be sampled next."""

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loradock.engine.requests.rules import OutputRules
from loradock.engine.text.tokens import TokenBytes

Array = np.ndarray[Any, Any]


class BadWords:
    """Strings that never appear in the text, however it is cut into tokens.

    `_after`: by the beginning of a word that the text may end with, the tokens that would complete it; by the empty
    one those that hold a whole word.
    """

    def __init__(self, words: Sequence[str], vocabulary: "SortedVocabulary") -> None:
        """Searches the whole vocabulary: not for the event loop."""
        self._vocabulary = vocabulary
        self._longest = max(len(word.encode()) for word in words)
        found: dict[bytes, set[int]] = {}
        for word in map(str.encode, words):
            found.setdefault(b"", set()).update(vocabulary.holding(word))
            for cut in range(1, len(word)):
                found.setdefault(word[:cut], set()).update(vocabulary.beginning_with(word[cut:]))
        self._after = {begun: np.array(sorted(tokens)) for begun, tokens in found.items() if tokens}
        self._lengths = sorted({len(begun) for begun in self._after})

    def next(self, output: list[int]) -> list[Array]:
        """Token ids that would complete a word."""
        said = b"".join(map(self._vocabulary.text, output[-self._longest :]))
        ends = (said[len(said) - length :] for length in self._lengths if length <= len(said))
        return [self._after[end] for end in ends if end in self._after]


class SortedVocabulary:
    """The texts of all tokens but the special ones, which are no part of a text."""

    def __init__(self, tokens: TokenBytes, size: int) -> None:
        self._texts = tokens
        known = range(min(size, len(tokens)))  # a tokenizer may know more than its model
        shown = ((tokens[i], i) for i in known if i not in tokens.special and tokens[i])
        self._sorted = sorted(shown)
        self._ends = list(itertools.accumulate(len(text) for text, _ in self._sorted))
        self._all = b"".join(text for text, _ in self._sorted)

    def text(self, token: int) -> bytes:
        return b"" if token in self._texts.special else self._texts[token]

    def beginning_with(self, text: bytes) -> list[int]:
        first = bisect_left(self._sorted, (text, -1))
        rest = itertools.islice(self._sorted, first, None)
        return [token for _, token in itertools.takewhile(lambda entry: entry[0].startswith(text), rest)]

    def holding(self, text: bytes) -> list[int]:
        found, at = [], self._all.find(text)
        while at >= 0:
            number = bisect_left(self._ends, at + 1)
            inside = at + len(text) <= self._ends[number]
            if inside:
                found.append(self._sorted[number][1])
            # Of a token that holds it twice the second time tells nothing new.
            at = self._all.find(text, self._ends[number] if inside else at + 1)
        return found


@dataclass(slots=True)
class Restrictions:
    """`ends` may not come before `min_tokens` tokens. None but `allowed` tokens come (None: all)."""

    min_tokens: int = 0
    ends: Array = field(default_factory=lambda: np.empty(0, np.int64))
    allowed: Array | None = None
    bad_words: BadWords | None = None

    def apply(self, logits: Array, output: list[int]) -> None:
        """Change float32 `logits` `[vocab]` in place. What would leave no token at all, as beside a grammar that has
        come to its end, is not applied."""
        if self.allowed is not None:
            _allow(logits, self.allowed)
        if len(output) < self.min_tokens:
            _forbid(logits, self.ends)
        found = self.bad_words.next(output) if self.bad_words else []
        # At once, as words can be many; one by one where all of them would leave nothing.
        if found and not _forbid(logits, np.concatenate(found)):
            for tokens in found:
                _forbid(logits, tokens)


def restrictions(rules: OutputRules, ends: frozenset[int], bad_words: BadWords | None) -> Restrictions | None:
    """Return the restrictions of a request whose answer `ends` with these tokens; None where it restricts nothing."""
    if not rules.min_tokens and rules.allowed is None and bad_words is None:
        return None
    allowed = None if rules.allowed is None else np.array(sorted(rules.allowed), np.int64)
    return Restrictions(rules.min_tokens, np.array(sorted(ends), np.int64), allowed, bad_words)


def _allow(logits: Array, tokens: Array) -> None:
    """Forbid the other tokens."""
    left = logits[tokens]
    if np.isfinite(left.max()):
        logits.fill(-np.inf)
        logits[tokens] = left


def _forbid(logits: Array, tokens: Array) -> bool:
    """Whether it was done."""
    before = logits[tokens]
    logits[tokens] = -np.inf
    left = bool(np.isfinite(logits.max()))
    if not left:
        logits[tokens] = before
    return left
