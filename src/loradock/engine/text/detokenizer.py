"""Tokens to text, piece by piece: whole characters only, and nothing that may still become a stop string."""

import codecs

from loradock.engine.requests.rules import DEFAULT_RULES, OutputRules
from loradock.engine.text.tokens import TokenBytes


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
        self._tokens = tokens
        self._stops = [_Stop(text) for text in stop]
        self.rules = rules
        self._shown = shown
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._held = ""
        self._fed = 0
        self.stopped = False

    def feed(self, token: int) -> str:
        """The text that has become certain with this token: often one word, sometimes nothing."""
        self._fed += 1
        shown = not self.rules.skip_special_tokens or token not in self._tokens.special or token in self._shown
        return self._release(self._decode(self._tokens[token]), final=False) if shown else ""

    def flush(self) -> str:
        """Return the text held back, at the end."""
        return self._release(self._decode(b"", final=True), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        held = self._held + text
        found = [(end, end - len(stop.text)) for stop in self._stops if (end := stop.read(text, len(held)))]
        if found and self._fed > self.rules.min_tokens:
            # The first that is complete, and the longest of those: so it does not depend on where tokens end.
            end, start = min(found)
            self.stopped = True
            return held[: end if self.rules.keep_stop else start]
        kept = 0 if final else max((stop.begun for stop in self._stops), default=0)
        self._held = held[len(held) - kept :]
        return held[: len(held) - kept]


class _Stop:
    """Tracks how much of a stop string the text ends with (`begun`), brought on with each of its characters, however
    long both are (Knuth, Morris, Pratt 1977)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.begun = 0
        self._shorter = [0]
        """The longest shorter beginning with which each beginning of the string ends, by the beginning's length."""

    def read(self, text: str, held: int) -> int:
        """Return where the string ends for the first time, in what is held with `text` as its end; 0 when it does
        not."""
        found = 0
        for i, character in enumerate(text):
            self.begun = self._next(self.begun, character)
            if self.begun == len(self.text):
                found = found or held - len(text) + i + 1
                self.begun = self._known(self.begun)
        return found

    def _next(self, begun: int, character: str) -> int:
        while begun and self.text[begun] != character:
            begun = self._known(begun)
        return begun + (self.text[begun] == character)

    def _known(self, begun: int) -> int:
        """Worked out no further than the text has come: most never begin with a stop string."""
        while len(self._shorter) < begun:
            end = len(self._shorter)
            self._shorter.append(self._next(self._shorter[end - 1], self.text[end]))
        return self._shorter[begun - 1]
