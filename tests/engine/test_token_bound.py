"""What is said of a text from its bytes alone holds for real tokenizers."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from loradock.checkpoints.base_config import read_architecture
from loradock.engine.text.token_bound import TokenBound
from loradock.engine.text.tokenizer import load_tokenizer
from loradock.engine.text.tokens import TokenBytes
from tests.engine import tiny
from tests.tokenizers import PACKAGES

FAMILIES = sorted(path.parent.parent.name for path in PACKAGES.glob("*/models/tokenizer.json"))
PARTS = st.one_of(
    st.text(max_size=40),
    st.text("e\u0301a\u0308 ", max_size=40),
    st.sampled_from(["internationalization" * 20, "1" * 300, " " * 300, '\\"\n' * 90, "<|im_start|>", "aé" * 50]),
)


def tokenizer_of(family: str) -> Tokenizer:
    if family == "SmolLM2":
        return load_tokenizer(tiny.SMOLLM2, read_architecture(tiny.SMOLLM2)).tokenizer
    return Tokenizer.from_file(str(PACKAGES / family / "models" / "tokenizer.json"))


def bound_of(tokenizer: Tokenizer) -> TokenBound:
    return TokenBound(tokenizer, TokenBytes(tokenizer))


@pytest.fixture(scope="module", params=["SmolLM2", *FAMILIES])
def known(request):
    tokenizer = tokenizer_of(request.param)
    return tokenizer, bound_of(tokenizer)


@settings(max_examples=150, deadline=None)
@given(text=st.lists(PARTS, max_size=8).map("".join), ascii_only=st.booleans())
def test_no_text_becomes_fewer_tokens_than_is_said(known, text, ascii_only):
    tokenizer, bound = known
    tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)
    assert not bound.exceeds(json.dumps(text, ensure_ascii=ascii_only).encode(errors="replace"), tokens)


def test_a_text_of_many_times_the_size_is_known_to_be_too_long(known):
    _, bound = known
    text = json.dumps("the quick brown fox jumps over lazy dogs " * 10_000).encode()
    assert bound.exceeds(text, 512)
    assert not bound.exceeds(text, 200_000)
    assert not bound.exceeds(b'"' + b" " * 10**6 + b'"', 512)


def _letters(unknown: str | None = None, without: str = "") -> models.BPE:
    letters = [chr(number) for number in range(33, 127) if chr(number) not in without]
    return models.BPE({letter: number for number, letter in enumerate(letters)}, [], unk_token=unknown, fuse_unk=True)


@pytest.mark.parametrize(
    ("model", "normalizer", "pre_tokenizer"),
    [
        (models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), None, None),
        (_letters("?", without="e"), None, None),
        (_letters(), normalizers.Replace("the", ""), None),
        (_letters(), normalizers.Sequence([normalizers.NFC(), normalizers.StripAccents()]), None),
        (_letters(), None, pre_tokenizers.Split("e", "removed")),
        (_letters(), None, pre_tokenizers.CharDelimiterSplit("e")),
    ],
)
def test_nothing_is_said_where_letters_may_be_lost(model, normalizer, pre_tokenizer):
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    assert not bound_of(tokenizer).exceeds(json.dumps("the " * 10_000).encode(), 1)


def test_letters_that_all_stay_are_counted():
    assert bound_of(Tokenizer(_letters())).exceeds(json.dumps("the " * 10_000).encode(), 20_000)
