"""The bytes of each token id."""

import json
from collections.abc import Callable, Iterator

from tokenizers import Tokenizer


class TokenBytes:
    """Byte-exact texts of a vocabulary; special tokens are known but not part of a generated text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        definition = json.loads(tokenizer.to_str())
        added = {token["id"]: token for token in definition["added_tokens"]}
        self.special = frozenset(index for index, token in added.items() if token["special"])
        convert = _converter(json.dumps(definition["decoder"]))
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self._bytes = [b""] * (max(vocabulary.values(), default=-1) + 1)
        for text, index in vocabulary.items():
            self._bytes[index] = convert(text, index in added)

    def __len__(self) -> int:
        return len(self._bytes)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._bytes)

    def __getitem__(self, token: int) -> bytes:
        """Ids beyond the vocabulary (padding of the embedding matrix) are empty."""
        return self._bytes[token] if token < len(self._bytes) else b""

    def text(self, token: int) -> str:
        return self[token].decode(errors="replace")


class _ByteLevel:
    """GPT-2's mapping of bytes to printable characters, undone."""

    def __init__(self) -> None:
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [b for b in range(256) if b not in set(printable)]
        self._bytes = {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}

    def __call__(self, text: str, added: bool) -> bytes:
        if not added and all(c in self._bytes for c in text):
            return bytes(self._bytes[c] for c in text)
        return text.encode()


def _sentencepiece(text: str, added: bool) -> bytes:
    """Added tokens too are written like the others: Gemma's are runs of blanks."""
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace("▁", " ").encode()


def _converter(decoder: str) -> Callable[[str, bool], bytes]:
    return _ByteLevel() if "ByteLevel" in decoder else _sentencepiece
