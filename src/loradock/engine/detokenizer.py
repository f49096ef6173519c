"""Tokens to text, piece by piece: whole characters only, and nothing that may still become a stop string."""

import codecs

from loradock.engine.requests.rules import DEFAULT_RULES, OutputRules
from loradock.engine.tokens import TokenBytes


class Detokenizer:
    """Feed tokens, get text. `stopped` tells that a stop string was met; what comes after it is never given out, nor
    is it itself unless the rules keep it. Among the first `min_tokens` it means nothing. Special tokens are no text,
    unless the rules show all of them, but for those `shown`.
    """

    def __init__(
        self,
        tokens: TokenBytes,
        stop: tuple[str, ...] = (),
        rules: OutputRules = DEFAULT_RULES,
        shown: frozenset[int] = frozenset(),
    ) -> None:
        self._tokens, self._stop, self.rules, self._shown = tokens, stop, rules, shown
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._held = ""
        self._fed = 0
        self.stopped = False

    def feed(self, token: int) -> str:
        """The text that has become certain with this token: often one word, sometimes nothing."""
        self._fed += 1
        shown = self.rules.special or token not in self._tokens.special or token in self._shown
        return self._release(self._decode(self._tokens[token]), final=False) if shown else ""

    def flush(self) -> str:
        """What was held back, at the end."""
        return self._release(self._decode(b"", final=True), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        held = self._held + text
        found = [(at, stop) for stop in self._stop if (at := held.find(stop)) >= 0]
        if found and self._fed > self.rules.min_tokens:
            at, stop = min(found, key=lambda one: one[0])
            self.stopped = True
            return held[: at + len(stop) * self.rules.keep_stop]
        kept = 0 if final else max((_overlap(held, stop) for stop in self._stop), default=0)
        self._held = held[len(held) - kept :]
        return held[: len(held) - kept]


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
