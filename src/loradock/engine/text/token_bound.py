"""The fewest tokens that a text can become, known from its bytes alone."""

import json
import string
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE

from loradock.engine.text.tokens import TokenBytes

_PIECE = 1 << 16
_COUNTED = (string.ascii_letters + string.digits).encode()
_OTHERS = bytes(set(range(256)) - set(_COUNTED))
_ASCII = bytes(range(128))
_PER_ESCAPE = 6
r"""Counted bytes by which an escape such as \u0301 is more than the text's own: five of its own, and one letter that
it becomes one character with when the text is normalised."""
_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Prepend"}
_PRE_TOKENIZERS = {"Sequence", "Split", "ByteLevel", "Digits", "Metaspace", "Punctuation"}


class TokenBound:
    """Counts ASCII letters and digits. Says nothing of tokenizers that may leave some out, or put many into one token
    that is not made of them, as those with an unknown token for whole words do."""

    def __init__(self, tokenizer: Tokenizer, tokens: TokenBytes) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens

    @cached_property
    def _per_token(self) -> int:
        """Letters and digits in the longest token; 0 where nothing is known. Found when a text is long enough to ask:
        the whole vocabulary is looked through."""
        return _most_counted(self._tokenizer, self._tokens) if _keeps_all(self._tokenizer) else 0

    def exceeds(self, text: bytes, tokens: int) -> bool:
        """Whether a text, as JSON writes it, certainly becomes more tokens. Reads no further than needed."""
        if not self._per_token:
            return False
        room = tokens * self._per_token
        for start in range(0, len(text), _PIECE):
            piece = text[start : start + _PIECE]
            foreign = len(piece.translate(None, _ASCII))
            room -= len(piece.translate(None, _OTHERS)) - foreign - _PER_ESCAPE * piece.count(b"\\")
            if room < -_PER_ESCAPE:  # an escape may be cut in two
                return True
        return False


def _counted(token: bytes) -> int:
    return len(token.translate(None, _OTHERS))


def _most_counted(tokenizer: Tokenizer, tokens: TokenBytes) -> int:
    """In a vocabulary's own spelling a token has at least a character for each of them."""
    most = 0
    for text, token in sorted(tokenizer.get_vocab().items(), key=lambda item: -len(item[0])):
        if len(text) <= most:
            break
        most = max(most, _counted(tokens[token]))
    return most


def _keeps_all(tokenizer: Tokenizer) -> bool:
    return (
        isinstance(tokenizer.model, BPE)
        and all(tokenizer.token_to_id(chr(character)) is not None for character in _COUNTED)
        and tokenizer.truncation is None
        and all(map(_normalizer_keeps, _parts(tokenizer.normalizer, "normalizers")))
        and all(map(_pre_tokenizer_keeps, _parts(tokenizer.pre_tokenizer, "pretokenizers")))
    )


def _parts(component: Any, members: str) -> list[dict[str, Any]]:
    if component is None:
        return []
    whole: dict[str, Any] = json.loads(component.__getstate__())
    parts: list[dict[str, Any]] = whole[members] if whole["type"] == "Sequence" else [whole]
    return parts


def _normalizer_keeps(part: dict[str, Any]) -> bool:
    if part["type"] == "Replace":
        return "String" in part["pattern"] and not _counted(part["pattern"]["String"].encode())
    return part["type"] in _NORMALIZERS


def _pre_tokenizer_keeps(part: dict[str, Any]) -> bool:
    return part["type"] in _PRE_TOKENIZERS and part.get("behavior") != "Removed"
