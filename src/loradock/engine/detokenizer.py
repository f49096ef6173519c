"""Tokens to text, piece by piece: whole characters only, and nothing that may still become a stop string."""

from tokenizers import Tokenizer

_INCOMPLETE = "\ufffd"
_MAX_HELD_TOKENS = 6


class Detokenizer:
    """Feed tokens, get text. `stopped` tells that a stop string was met; it and all after it is not emitted."""

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._tokens: list[int] = []
        self._start = self._read = 0
        self._held = ""
        self.stopped = False

    def feed(self, token: int) -> str:
        """The text that has become certain with this token, often empty or several characters."""
        self._tokens.append(token)
        return self._emit(self._decode(final=False), final=False)

    def flush(self) -> str:
        """What is left at the end."""
        return "" if self.stopped else self._emit(self._decode(final=True), final=True)

    def _decode(self, *, final: bool) -> str:
        before = self._text(self._tokens[self._start : self._read])
        text = self._text(self._tokens[self._start :])
        pending = len(self._tokens) - self._read
        if text.endswith(_INCOMPLETE) and not final and pending < _MAX_HELD_TOKENS:
            return ""
        self._start, self._read = self._read, len(self._tokens)
        return text[len(before) :]

    def _text(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def _emit(self, text: str, *, final: bool) -> str:
        self._held += text
        cut = min((at for s in self._stop if (at := self._held.find(s)) >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            text, self._held = self._held[:cut], ""
            return text
        keep = 0 if final else max((_overlap(self._held, s) for s in self._stop), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
