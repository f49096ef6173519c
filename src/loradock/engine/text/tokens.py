"""The bytes of each token id."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property

from tokenizers import Tokenizer

_NO_BYTE = 0xFFFF


class TokenBytes:
    """Byte-exact texts of a vocabulary, each made when it is first wanted: an answer has few of them. Special tokens
    are known but not part of a generated text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_tokens_decoder()
        self.special = frozenset(index for index, token in added.items() if token.special)
        self._added = frozenset(added)
        self._tokenizer = tokenizer
        decoder = tokenizer.decoder
        self._convert = _converter(b"" if decoder is None else decoder.__getstate__())
        self._made: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, token: int) -> bytes:
        """Ids beyond the vocabulary (padding of the embedding matrix) are empty."""
        made = self._made.get(token)
        if made is None:
            text = self._tokenizer.id_to_token(token)
            made = self._made[token] = b"" if text is None else self._convert(text, token in self._added)
        return made

    @cached_property
    def _count(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def special_among(self, texts: Iterable[str]) -> frozenset[int]:
        """Return those of the special tokens that are written so."""
        return self.special & {self._tokenizer.token_to_id(text) for text in texts}

    def text(self, token: int) -> str:
        return self[token].decode(errors="replace")


class _ByteLevel:
    """GPT-2's mapping of bytes to printable characters, undone."""

    def __init__(self) -> None:
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [b for b in range(256) if b not in set(printable)]
        self._bytes = dict.fromkeys(others, _NO_BYTE) | {256 + n: b for n, b in enumerate(others)}

    def __call__(self, text: str, added: bool) -> bytes:
        if not added:
            with suppress(UnicodeEncodeError):
                return text.translate(self._bytes).encode("latin-1")
        return text.encode()


def _sentencepiece(text: str, added: bool) -> bytes:
    """Added tokens too are written like the others: Gemma's are runs of blanks."""
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace("▁", " ").encode()


def _converter(decoder: bytes) -> Callable[[str, bool], bytes]:
    return _ByteLevel() if b"ByteLevel" in decoder else _sentencepiece
