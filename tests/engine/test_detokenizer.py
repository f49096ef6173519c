import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from loradock.checkpoints.base_config import read_architecture
from loradock.engine.text.detokenizer import Detokenizer
from loradock.engine.text.tokenizer import load_tokenizer
from loradock.engine.text.tokens import TokenBytes
from tests.engine.tiny import SMOLLM2

TOKENIZER = load_tokenizer(SMOLLM2, read_architecture(SMOLLM2)).tokenizer
TOKENS = TokenBytes(TOKENIZER)
anything = st.lists(st.integers(0, 49151), max_size=40)


def pieces(tokens, stop=()):
    detokenizer = Detokenizer(TOKENS, stop)
    texts = []
    for token in tokens:
        texts.append(detokenizer.feed(token))
        if detokenizer.stopped:
            break
    return [*texts, detokenizer.flush()]


@given(anything)
def test_the_pieces_of_any_tokens_are_what_the_tokenizer_decodes(tokens):
    assert "".join(pieces(tokens)) == TOKENIZER.decode(tokens, skip_special_tokens=True)


@given(st.text(max_size=40))
def test_no_piece_of_a_real_text_holds_half_a_character(text):
    tokens = TOKENIZER.encode(text).ids
    assume("\ufffd" not in TOKENIZER.decode(tokens))  # the vocabulary lacks a few bytes
    found = pieces(tokens)
    assert "".join(found) == TOKENIZER.decode(tokens)
    assert not any("\ufffd" in piece for piece in found)


@given(anything, st.integers(0, 60), st.integers(1, 9))
def test_a_stop_string_and_what_follows_are_never_given_out(tokens, start, length):
    whole = TOKENIZER.decode(tokens, skip_special_tokens=True)
    stop = whole[start : start + length] or "absent"
    assert "".join(pieces(tokens, (stop,))) == whole.partition(stop)[0]


@pytest.mark.parametrize(("stop", "text"), [(("three", "two"), "one "), (("e t",), "on"), (("four",), "one two three")])
def test_the_first_stop_string_counts(stop, text):
    assert "".join(pieces(TOKENIZER.encode("one two three").ids, stop)) == text


def test_what_may_become_a_stop_string_is_held_back_then_given_out():
    detokenizer = Detokenizer(TOKENS, ("\nUser:",))
    assert [detokenizer.feed(t) for t in TOKENIZER.encode("a\nb").ids] == ["a", "", "\nb"]


@example("aba", ["b", "aba"], 1)
@example("aba", ["b", "aba"], 3)
@given(st.text("ab", max_size=60), st.lists(st.text("ab", min_size=1, max_size=6), max_size=3), st.integers(1, 9))
def test_stop_strings_that_repeat_themselves_are_found_and_held_back(text, stops, size):
    detokenizer, given_out = Detokenizer(TOKENS, tuple(stops)), ""
    complete = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    end = min(complete)[1] if complete else len(text)
    for start in range(0, len(text), size):
        detokenizer._fed += 1
        given_out += detokenizer._release(text[start : start + size], final=False)
        assert text[:end].startswith(given_out)
        assert not detokenizer.stopped or given_out == text[:end]
        held = text[len(given_out) : start + size]
        assert detokenizer.stopped or not held or any(stop.startswith(held) for stop in stops)
    assert given_out + detokenizer.flush() == text[:end]


def test_a_long_stop_string_costs_each_token_no_more():
    read = []

    class Text(str):
        def __getitem__(self, place):
            read.append(len(range(*place.indices(len(self)))) if isinstance(place, slice) else 1)
            return super().__getitem__(place)

    a = TOKENIZER.token_to_id("aaaa")
    detokenizer = Detokenizer(TOKENS, (Text("a" * 50_000), Text("b" + "a" * 50_000), Text("a" * 3000 + "b")))
    for _ in range(1000):
        detokenizer.feed(a)
    assert detokenizer.flush() == "a" * 4000
    assert sum(read) < 100_000


def test_special_tokens_are_no_text():
    assert "".join(pieces([1, *TOKENIZER.encode("hi").ids, 2])) == "hi"
