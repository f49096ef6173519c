"""A model's vocabulary as the grammar library sees it: the bytes that the detokenizer gives out, and nothing else."""

import json
import logging
from typing import Any

import llguidance
import numpy as np
from tokenizers import Tokenizer

from loradock.engine.text.tokens import TokenBytes

log = logging.getLogger(__name__)


class Vocabulary:
    """`size` token ids have logits. `prepared` is what matchers are made of; making it may take a second."""

    def __init__(self, tokenizer: Tokenizer, tokens: TokenBytes, eos_ids: frozenset[int], size: int) -> None:
        self._tokenizer = tokenizer
        eos = sorted(token for token in eos_ids if token < size)
        writer: Any = _Writer(tokenizer, tokens, eos, size)
        self.prepared = llguidance.LLTokenizer(writer, eos_token=eos or None)
        writer.prepared = self.prepared
        self.blank = np.array([token.isspace() for token in writer.tokens])
        """A mask of the tokens that are but white space."""

    def mark(self, text: str) -> str:
        """A fixed text in Lark: the token itself where it is one that was added to the vocabulary, as models were
        trained to write it and as only a token can be told from the same text in an argument.
        """
        token = self._tokenizer.token_to_id(text)
        added = token is not None and token in self._tokenizer.get_added_tokens_decoder()
        return f"<[{token}]>" if added else json.dumps(text)


class _Writer:
    """llguidance's protocol of a tokenizer in Python: tokens in bytes, which of them are no text, and how forced text
    is written. https://github.com/guidance-ai/llguidance/blob/main/python/llguidance/_tokenizer.py
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, tokens: TokenBytes, eos: list[int], size: int) -> None:
        self.eos_token_id = eos[0] if eos else None
        self.prepared: llguidance.LLTokenizer | None = None
        known = max(size, tokenizer.get_vocab_size())
        self.tokens = [tokens[token] for token in range(known)]
        # Those the model has no logits for can be written as little as those that are no text.
        self.special_token_ids = sorted({*tokens.special, *eos, *range(size, known)})
        self._untold = frozenset(self.special_token_ids)
        self._plain = _without_changes(tokenizer)

    def __call__(self, text: str) -> list[int]:
        """Encode as the tokenizer does if that is exactly this text, else with the longest tokens there are: a forced
        token that does not fit the text ends the matcher. Must not raise.
        """
        try:
            ids = self._plain.encode(text, add_special_tokens=False).ids
            exact = self._untold.isdisjoint(ids) and b"".join(self.tokens[i] for i in ids) == text.encode()
        except Exception:
            log.exception("a forced text cannot be tokenized")
            exact = False
        if exact:
            return ids
        return [] if self.prepared is None else list(self.prepared.greedy_tokenize(text))


def _without_changes(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer without what alters a text before it is cut, and without special tokens in it."""
    definition = json.loads(tokenizer.to_str())
    definition["normalizer"] = _replacing(definition.get("normalizer"))
    definition["pre_tokenizer"] = _unprefixed(definition.get("pre_tokenizer"))
    definition |= {"truncation": None, "padding": None, "post_processor": None}
    plain = Tokenizer.from_str(json.dumps(definition))
    plain.encode_special_tokens = True
    return plain


def _replacing(normalizer: dict[str, Any] | None) -> dict[str, Any] | None:
    """SentencePiece's "▁" for blanks stays, NFC and the blank before the first word go."""
    if normalizer is None:
        return None
    if normalizer["type"] == "Sequence":
        parts = [part for one in normalizer["normalizers"] if (part := _replacing(one))]
        return {**normalizer, "normalizers": parts} if parts else None
    return normalizer if normalizer["type"] == "Replace" else None


def _unprefixed(splitter: dict[str, Any] | None) -> dict[str, Any] | None:
    if splitter is None:
        return None
    if splitter["type"] == "Sequence":
        return {**splitter, "pretokenizers": [_unprefixed(one) for one in splitter["pretokenizers"]]}
    if splitter["type"] == "Metaspace":
        return {**splitter, "prepend_scheme": "never"}
    return {**splitter, "add_prefix_space": False} if "add_prefix_space" in splitter else splitter
